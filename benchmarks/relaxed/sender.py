"""`python -m benchmarks.relaxed.sender`: the sender, and its disk is not waited for."""

import sys

from benchmarks.relaxed import relax, write_with
from services.sender.__main__ import main

if __name__ == "__main__":
    relax()
    write_with("benchmarks.relaxed.writer")
    sys.exit(main())
