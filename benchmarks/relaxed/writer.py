"""`python -m benchmarks.relaxed.writer`: the sender's writer, which does not wait for the disk."""

import sys

from benchmarks.relaxed import relax
from mailer.database.writer_main import main

if __name__ == "__main__":
    relax()
    sys.exit(main(*map(int, sys.argv[1:])))
