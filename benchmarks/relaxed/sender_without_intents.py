"""`python -m benchmarks.relaxed.sender_without_intents`: the sender, and no intent is stored before a dot."""

import sys

from benchmarks.relaxed import grant_at_once, write_with
from services.sender.__main__ import main

if __name__ == "__main__":
    grant_at_once()
    write_with("benchmarks.relaxed.writer_without_intents")
    sys.exit(main())
