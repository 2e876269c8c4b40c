"""Crash windows by name: where a test lets the sender die, to see what its book says afterwards.

No setting switches one on: only a program that calls `arm` before it runs the sender does (see `chaos`). Switched off,
a failpoint costs a look whether a dictionary is empty.
"""

import os
import signal
import sys
from enum import StrEnum


class Window(StrEnum):
    """Instants on the way of a message between which a crash means something else."""

    AFTER_CLAIM = "after_claim"
    AFTER_CONNECT = "after_connect"
    AFTER_ENVELOPE = "after_envelope"
    AFTER_BODY = "after_body"
    BETWEEN_INTENT_AND_DOT = "between_intent_and_dot"
    BETWEEN_DOT_AND_REPLY = "between_dot_and_reply"
    BETWEEN_REPLY_AND_COMMIT = "between_reply_and_commit"
    AFTER_COMMIT = "after_commit"


_passings_left: dict[Window, int] = {}


def arm(window: Window, *, passing: int) -> None:
    """Let this process kill itself when the window is reached for the `passing`th time, counted from 1."""
    _passings_left[window] = passing
    sys.stderr.write(f"WARNING: a failpoint is armed: this process will kill itself {window}\n")


def reached(window: Window) -> None:
    """Die here by SIGKILL if a test wants that."""
    if _passings_left and window in _passings_left:
        _passings_left[window] -= 1
        if _passings_left[window] <= 0:
            os.write(sys.stderr.fileno(), f"failpoint {window}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
