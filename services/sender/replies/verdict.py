"""What follows from an incident, as a value."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Action(StrEnum):
    """What becomes of the message."""

    SENT = "sent"
    """Accepted. Final."""
    REQUEUE = "requeue"
    """Back to the queue, the attempt not counted: the trouble is the account's or the path's."""
    DEFER = "defer"
    """Back with back-off, the attempt counted."""
    FAIL = "fail"
    """Refused for good. Final."""
    UNKNOWN = "unknown"
    """Perhaps accepted: the policy of the run decides."""
    AGAIN_NOW = "again_now"
    """The next transaction at once, not counted: this one has as many recipients as the server takes."""
    AGAIN_PLAIN = "again_plain"
    """Once more, on a fresh connection and without optional parameters; not counted."""
    OTHER_ACCOUNT = "other_account"
    """Another account that offers what this one lacks; without one it fails."""
    NOTHING = "nothing"
    """Nothing: what was decided before stands, and a message not yet begun waits for another connection."""


class Breaker(StrEnum):
    """What the circuit of the account learns."""

    FAILURE = "failure"
    SUCCESS = "success"
    TRIP = "trip"
    """Opens at once."""
    REST = "rest"
    """The account slows down or rests; no failure."""
    NONE = "none"


class Hold(StrEnum):
    """What waits for a person or a changed setting."""

    NONE = "none"
    SENDER = "sender"
    """This account, for this From address."""
    ACCOUNT = "account"
    """This account, for everything."""


class Scope(StrEnum):
    """Whose history a rule asks for: note its name there, and pass the history the next time."""

    NONE = "none"
    ACCOUNT = "account"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class History:
    """How often, and since how long, the same rule applied before, without a success in between."""

    count: int = 0
    lasting: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do. `reason` is a sentence for operators, with the cure where a person has to act."""

    action: Action
    breaker: Breaker = Breaker.NONE
    hold: Hold = Hold.NONE
    rule: str = ""
    remember: Scope = Scope.NONE
    suppress: bool = False
    feeds_guard: bool = False
    """It may be the account that is refused, not the recipient: many in a row hold the account."""
    counts_against_run: bool = False
    """It may be the content that is refused: ten in a row pause the run."""
    tell_run: bool = False
    """The run should say so: it concerns every message like this one."""
    close_connection: bool = False
    rest: timedelta | None = None
    """How long the account rests at least."""
    retry_after: timedelta | None = None
    """When to try again, in the words of the server: wins over the table of delays."""
    reason: str = ""

    @property
    def is_counted(self) -> bool:
        """Say whether the attempt counts towards the limit of attempts."""
        return self.action in _COUNTED


_COUNTED = frozenset({Action.SENT, Action.DEFER, Action.FAIL, Action.UNKNOWN})
