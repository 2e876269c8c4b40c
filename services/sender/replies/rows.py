"""What a row of the table consists of."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.sender.replies.conditions import Condition
from services.sender.replies.incident import Stage
from services.sender.replies.verdict import Scope, Verdict


@dataclass(frozen=True, slots=True)
class Patience:
    """The `count`th time in a row, or once it has been going on for `lasting`, something else follows."""

    scope: Scope
    then: Verdict
    count: int | None = None
    lasting: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row: at these stages, under this condition, this follows.

    `names_rest` takes the rest of the account from the words of the reply, at least the one given in `then`.
    """

    name: str
    stages: frozenset[Stage]
    when: Condition
    then: Verdict
    patience: Patience | None = None
    names_rest: bool = False


def at(*stages: Stage) -> frozenset[Stage]:
    """Name the stages of a row."""
    return frozenset(stages)


ANYWHERE: Final = frozenset(Stage)
OPENING: Final = at(Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS_HANDSHAKE, Stage.AUTH)
"""Before the first transaction: nothing here is about a message."""
ENVELOPE: Final = at(Stage.MAIL, Stage.RCPT)
BEFORE_DOT: Final = at(Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY)
TRANSACTION: Final = BEFORE_DOT | {Stage.DOT}
CONTENT: Final = at(Stage.BODY, Stage.DOT)
"""From the first byte of the body on, a reply is the answer to the message; an early one is, too."""
BETWEEN: Final = at(Stage.IDLE, Stage.RSET, Stage.NOOP, Stage.QUIT)
