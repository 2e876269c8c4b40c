"""What an error of the sender means for a run: wait and try again, or stop and ask a person."""

from dataclasses import dataclass
from random import Random

import grpc

from mailer.client import details_of, readable

MOST_BUGS = 12
"""So many INTERNAL answers in a row are no passing trouble: with a `Backoff` between them most of a minute."""
AGAIN_SECONDS = 0.2
"""How long to wait before a sender that is away is tried again: what was decided meanwhile must be there first."""
_LONGEST_ASKED_WAIT = 60.0
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
# The request itself is what is wrong: it would be refused for ever.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.DATA_LOSS,
    }
)


@dataclass(frozen=True, slots=True)
class Waits:
    """It may work later: after `seconds` where the sender named them, else after a back-off."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It never works like this."""

    reason: str


def judge(error: grpc.aio.AioRpcError) -> Waits | Refused:
    """Return what to do about a failed call."""
    if error.code() in _REFUSALS:
        return Refused(readable(error, target="the sender"))
    details = details_of(error)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and details.retry_after is not None:
        seconds = min(max(details.retry_after.total_seconds(), 0.05), _LONGEST_ASKED_WAIT)
        return Waits(f"the sender has enough for now: {details.message}", seconds)
    return Waits(readable(error, target="the sender"))


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the sender cannot be reached or cannot work: it may be back at any moment, and asking is cheap."""
    return error.code() in _AWAY


class Patience:
    """Judges the errors of one request that is repeated: a bug that it meets every time needs a person, too."""

    def __init__(self) -> None:
        """Begin without an error."""
        self._bugs = 0

    def judge(self, error: grpc.aio.AioRpcError) -> Waits | Refused:
        """Return what to do about the call that failed just now."""
        self._bugs = self._bugs + 1 if error.code() is grpc.StatusCode.INTERNAL else 0
        if self._bugs < MOST_BUGS:
            return judge(error)
        return Refused(f"{self._bugs} times in a row: {readable(error, target='the sender')}")


class Backoff:
    """Growing pauses with jitter, so that several runs do not come back together."""

    def __init__(self, random: Random, *, first: float = 0.2, longest: float = 5.0) -> None:
        """Begin with about `first` seconds and double up to `longest`."""
        self._random = random
        self._first = first
        self._longest = longest
        self._next = first

    def pause(self) -> float:
        """Return how long to wait now."""
        pause = self._next * self._random.uniform(0.75, 1.25)
        self._next = min(self._next * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin again after a success."""
        self._next = self._first
