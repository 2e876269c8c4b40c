"""`python -m chaos.mutant NAME`: a sender with one rule of the book taken out, started like any other."""

import sys

from chaos.mutants import MUTANTS
from services.sender.__main__ import main

if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    sys.exit(main())
