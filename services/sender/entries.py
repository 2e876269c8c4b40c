"""What is entered in the book: intents, acceptances, results. Each is plain data, and knows its rows.

An entry names the claim it belongs to, by the id of the delivery and its token.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from mailer.database.types import to_microseconds
from services.sender.outbox import Claimed
from services.sender.send_log import LogEntry, log_key
from services.sender.states import DeliveryState, LogOutcome

REPLY_TEXT_LIMIT = 1000

_END, _LATE = "end", "late"  # steps of a claim, in the keys of the log
_LOST = "came after the claim was lost: "


class Intent(NamedTuple):
    """Asks for leave to write the final dot of a claimed delivery through an account."""

    delivery_id: int
    token: int
    run_id: str
    account_id: str
    time: int  # microseconds since 1970


@dataclass(frozen=True, slots=True)
class Streak:
    """How often, and since when, the same row of the table of replies applied to a delivery in a row."""

    rule: str = ""
    count: int = 0
    since: datetime | None = None

    def after(self, rule: str, now: datetime) -> "Streak":
        """Return the streak after a row applied once more, or another one did."""
        if rule == self.rule:
            return Streak(rule, self.count + 1, self.since)
        return Streak(rule, 1, now)


NO_STREAK = Streak()


class Acceptance(NamedTuple):
    """A server took a message at its first word: what nearly every attempt comes to. Times are microseconds."""

    delivery_id: int
    token: int
    delivery_key: str
    run_id: str
    account_id: str
    worker: str
    retry_count: int
    start_time: int
    end_time: int
    reply_code: int
    enhanced_code: str
    reply_text: str
    description: str


@dataclass(slots=True)
class Result:
    """What an attempt came to: the state the delivery goes to, and the row for the log.

    With state CLAIMED the worker keeps its claim, because it tries again at once: then `step` tells the tries apart.
    """

    claimed: Claimed
    state: DeliveryState
    outcome: LogOutcome
    worker: str
    account_id: str
    stage: str
    start_time: datetime
    end_time: datetime
    counted: bool = True
    reply_code: int = 0
    enhanced_code: str = ""
    reply_text: str = ""
    description: str = ""
    next_attempt_time: datetime | None = None
    streak: Streak = NO_STREAK
    possible_duplicate: bool = False
    suppress: bool = False
    step: str = _END


def accepted_row(one: Acceptance) -> tuple[Any, ...]:
    """Return it as a row of `_SET_ACCEPTED` in book.py."""
    return (
        one.delivery_id,
        one.token,
        one.delivery_key,
        one.account_id,
        one.description,
        one.reply_code,
        one.enhanced_code,
        one.reply_text,
        one.end_time,
    )


def late_row(one: Acceptance) -> tuple[Any, ...]:
    """Return an acceptance as a row of `_SET_RESULT`: its intent does not stand as it was left."""
    return (
        one.delivery_id,
        one.token,
        one.delivery_key,
        DeliveryState.SENT.value,
        1,
        None,
        one.account_id,
        1,
        False,
        NO_STREAK.rule,
        NO_STREAK.count,
        NO_STREAK.since,
        one.description,
        one.reply_code,
        one.enhanced_code,
        one.reply_text,
        one.end_time,
        None,
    )


def result_row(one: Result) -> tuple[Any, ...]:
    """Return it as a row of `_SET_RESULT` in book.py."""
    return (
        one.claimed.id,
        one.claimed.token,
        one.claimed.delivery_key,
        one.state.value,
        int(one.state is DeliveryState.SENT),
        one.worker if one.state is DeliveryState.CLAIMED else None,
        one.account_id,
        int(one.counted),
        one.possible_duplicate,
        one.streak.rule,
        one.streak.count,
        one.streak.since and to_microseconds(one.streak.since),
        one.description[:REPLY_TEXT_LIMIT],
        one.reply_code,
        one.enhanced_code,
        one.reply_text[:REPLY_TEXT_LIMIT],
        to_microseconds(one.end_time),
        one.next_attempt_time and to_microseconds(one.next_attempt_time),
    )


def log_entry(one: Result, *, lost: bool) -> LogEntry:
    """Return its row in the log; `lost`: the delivery was no longer its own."""
    description = one.description[:REPLY_TEXT_LIMIT]
    return LogEntry(
        log_key=log_key(one.claimed.delivery_key, one.claimed.token, _LATE if lost else one.step),
        run_id=one.claimed.run_id,
        account_id=one.account_id,
        worker=one.worker,
        stage=one.stage,
        outcome=one.outcome.value,
        reply_code=one.reply_code,
        enhanced_code=one.enhanced_code,
        reply_text=one.reply_text[:REPLY_TEXT_LIMIT],
        description=f"{_LOST}{description}" if lost else description,
        retry_count=one.claimed.attempt_count,
        start_time=to_microseconds(one.start_time),
        end_time=to_microseconds(one.end_time),
    )


def acceptance_entry(one: Acceptance, *, lost: bool) -> LogEntry:
    """Return its row in the log; `lost`: the delivery was no longer its own."""
    return LogEntry(
        log_key(one.delivery_key, one.token, _LATE if lost else _END),
        one.run_id,
        one.account_id,
        one.worker,
        "DOT",
        LogOutcome.SENT.value,
        one.reply_code,
        one.enhanced_code,
        one.reply_text,
        f"{_LOST}{one.description}" if lost else one.description,
        one.retry_count,
        one.start_time,
        one.end_time,
    )
