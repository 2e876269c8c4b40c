"""`python -m benchmarks.relaxed.scheduler`: the scheduler, and its disk is not waited for."""

import sys

from benchmarks.relaxed import relax
from services.scheduler.__main__ import main

if __name__ == "__main__":
    relax()
    sys.exit(main())
