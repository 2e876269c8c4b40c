"""`python -m benchmarks.relaxed.writer_without_intents`: the sender's writer, to which intents are nothing."""

import sys

from benchmarks.relaxed import accept_without_intents
from mailer.database.writer_main import main

if __name__ == "__main__":
    accept_without_intents()
    sys.exit(main(*map(int, sys.argv[1:])))
