"""`python -m mailer.cli.child MODULE`: become `python -m MODULE`, and end when whoever started us ends.

Services that outlive a killed `mailer up` would go on sending, and hold the ports of the next one. The wish to be told
of the parent's death survives exec, so the process list shows the service and not us.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the signal for the parent's death, then run the module in this process's place."""
    module, parent = sys.argv[1], int(sys.argv[2])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return  # it ended before we could ask
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 (no shell is what we want)


if __name__ == "__main__":
    main()
