"""How outcomes travel from the writer's process: errors as what they are, with the place where they were raised."""

import pickle
import struct
import traceback
from typing import Any

from mailer.database.transactions import GroupOutcome, Outcome
from mailer.errors import MailerError

LENGTH = struct.Struct(">Q")
"""In front of each parcel: how many bytes it has."""

_Error = tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]


def pack(outcome: GroupOutcome) -> bytes:
    """Return the outcome as bytes. Raises whatever pickle does when a result is no plain data."""
    outcomes = [(one.result, _taken_apart(one.error)) for one in outcome.outcomes]
    return pickle.dumps((outcomes, outcome.incarnation, _taken_apart(outcome.problem)), pickle.HIGHEST_PROTOCOL)


def unpack(parcel: bytes) -> GroupOutcome:
    """Return the outcome; the bytes are from our own child."""
    outcomes, incarnation, problem = pickle.loads(parcel)  # noqa: S301
    return GroupOutcome(
        [Outcome(result, _put_together(error)) for result, error in outcomes], incarnation, _put_together(problem)
    )


def _taken_apart(error: BaseException | None) -> _Error | None:
    """Return class, arguments and state: pickle's own way would call constructors that take something else."""
    if error is None:
        return None
    if not isinstance(error, MailerError):
        # A bug, then: whoever looks for it wants the line, and a traceback does not travel.
        error.add_note("In the writer's process:\n" + "".join(traceback.format_exception(error)).rstrip())
    parts = (type(error), error.args, error.__dict__)
    try:
        pickle.loads(pickle.dumps(parts))  # noqa: S301 (just made)
    except Exception:  # noqa: BLE001 (a driver's error may hold anything)
        return RuntimeError, (f"{type(error).__name__}: {error}",), {"__notes__": getattr(error, "__notes__", [])}
    return parts


def _put_together(parts: _Error | None) -> BaseException | None:
    if parts is None:
        return None
    kind, arguments, state = parts
    # Those of Python itself keep more than their arguments.
    error = kind(*arguments) if kind.__module__ == "builtins" else kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error
