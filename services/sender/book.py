"""The book in SQL: what became of claimed deliveries. Every entry names the claim's token and the state it leaves.

The order that makes the book exact: intent on disk, then the dot on the wire, then the result on disk. So a row in
`dot_intent` after a crash is the one, and the only one, of which nobody can tell whether the server has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Connection, and_, bindparam, literal_column, or_, select, text, update

from services.sender.account_usage import rooms_within_caps
from services.sender.counts import Changes, upsert
from services.sender.outbox import Claimed
from services.sender.states import OPEN_STATES, DeliveryState, LogOutcome, RunState
from services.sender.tables import account_usage, deliveries, runs, send_logs, suppressions

REPLY_TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Intent:
    """Asks for leave to write the final dot of a claimed delivery through an account."""

    claimed: Claimed
    life: str  # of the database in which it was claimed: in another one the claim is void
    account_id: str
    now: datetime


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


@dataclass(frozen=True, slots=True)
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
    step: str = "end"


_now = bindparam("now", type_=deliveries.c.update_time.type)

_IS_CLAIM = (
    deliveries.c.id == bindparam("row"),
    deliveries.c.token == bindparam("claim_token"),
    text("deliveries.state = 'claimed'"),
)
# Checked at the last moment: whoever unsubscribed while the message was on its way to a server gets no dot.
_IS_SUPPRESSED: Any = (
    select(literal_column("1")).select_from(suppressions).where(suppressions.c.address == deliveries.c.canonical)
)
_SET_INTENT = (
    update(deliveries)
    .where(*_IS_CLAIM, ~_IS_SUPPRESSED.exists())
    .values(state=DeliveryState.DOT_INTENT.value, account_id=bindparam("account"), update_time=_now)
)
_SET_SUPPRESSED = (
    update(deliveries)
    .where(*_IS_CLAIM, _IS_SUPPRESSED.exists())
    .values(
        state=DeliveryState.SUPPRESSED.value,
        state_reason="on the suppression list",
        worker=None,
        update_time=_now,
    )
)

_IS_OURS = and_(deliveries.c.token == bindparam("claim_token"), text("deliveries.state IN ('claimed', 'dot_intent')"))
# That a server has the message is true whatever was booked in between: a rescue or a restore turned the intent into
# 'unknown' or put it back, and somebody may have claimed it since. Only another dot may not be overtaken.
_IS_NOT_AT_A_DOT = and_(
    deliveries.c.token >= bindparam("claim_token"),
    text("deliveries.state IN ('pending', 'deferred', 'claimed', 'unknown')"),
)


def _set_result(*, is_final_word: bool) -> Any:
    return (
        update(deliveries)
        .where(
            deliveries.c.id == bindparam("row"),
            deliveries.c.delivery_key == bindparam("key"),
            or_(_IS_OURS, _IS_NOT_AT_A_DOT) if is_final_word else _IS_OURS,
        )
        .values(
            state=bindparam("new_state"),
            token=deliveries.c.token + (1 if is_final_word else 0),
            worker=bindparam("keeper"),
            account_id=bindparam("account"),
            attempt_count=deliveries.c.attempt_count + bindparam("counted"),
            possible_duplicate=or_(deliveries.c.possible_duplicate, bindparam("flag", type_=Boolean())),
            rule=bindparam("rule_name"),
            rule_count=bindparam("rule_times"),
            rule_since=bindparam("rule_began", type_=deliveries.c.rule_since.type),
            state_reason=bindparam("reason"),
            reply_code=bindparam("code"),
            enhanced_code=bindparam("enhanced"),
            reply_text=bindparam("reply"),
            update_time=_now,
            next_attempt_time=bindparam("next", type_=deliveries.c.next_attempt_time.type),
        )
    )


_SET_RESULT = _set_result(is_final_word=False)
_SET_SENT = _set_result(is_final_word=True)


def write_intents(connection: Connection, intents: Sequence[Intent], changes: Changes) -> frozenset[int]:
    """Turn claims into intents. Return the ids of the rows that may be sent; the others have no claim or no room."""
    intents = _within_caps(connection, intents)
    granted = _update_each(
        connection,
        _SET_INTENT,
        [
            {
                "row": one.claimed.id,
                "claim_token": one.claimed.token,
                "account": one.account_id,
                "now": one.now,
            }
            for one in intents
        ],
    )
    usage: dict[tuple[str, int], int] = {}
    for one, is_granted in zip(intents, granted, strict=True):
        if is_granted:
            changes.add(one.claimed.run_id, DeliveryState.CLAIMED, DeliveryState.DOT_INTENT)
            key = (one.account_id, int(one.now.timestamp()) // 60)
            usage[key] = usage.get(key, 0) + 1
        else:
            values = {"row": one.claimed.id, "claim_token": one.claimed.token, "now": one.now}
            suppressed = connection.execute(_SET_SUPPRESSED, values).rowcount
            changes.add(one.claimed.run_id, DeliveryState.CLAIMED, DeliveryState.SUPPRESSED, suppressed)
    if usage:
        count_usage(connection, usage)
    return frozenset(one.claimed.id for one, is_granted in zip(intents, granted, strict=True) if is_granted)


def _within_caps(connection: Connection, intents: Sequence[Intent]) -> list[Intent]:
    """Return the intents for which their accounts have room this hour and this day, first come first served.

    Each process keeps to the caps by what it last read; where several share the last few, this decides.
    """
    if not intents:
        return []
    now = max(one.now for one in intents)
    rooms = rooms_within_caps(connection, {one.account_id for one in intents}, now=now)
    kept = []
    for one in intents:
        room = rooms.get(one.account_id, 1)
        if one.account_id in rooms:
            rooms[one.account_id] = room - 1
        if room > 0:
            kept.append(one)
    return kept


def count_usage(connection: Connection, usage: dict[tuple[str, int], int]) -> None:
    """Add messages per account and minute: what caps are checked against after a restart."""
    statement = upsert(connection, account_usage)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id", "minute"],
            set_={"message_count": account_usage.c.message_count + statement.excluded.message_count},
        ),
        [
            {"account_id": account_id, "minute": minute, "message_count": count}
            for (account_id, minute), count in sorted(usage.items())
        ],
    )


def write_results(connection: Connection, results: Sequence[Result], changes: Changes) -> frozenset[int]:
    """Book what attempts came to, each with its row in the log. Return the ids of the rows that were still theirs."""
    results = _closed_where_cancelled(connection, results)
    before = _states(connection, [one.claimed.id for one in results])
    booked: set[int] = set()
    for statement, is_sent in ((_SET_SENT, True), (_SET_RESULT, False)):
        group = [one for one in results if (one.state is DeliveryState.SENT) is is_sent]
        if not group:
            continue
        done = _update_each(connection, statement, [_result_values(one) for one in group])
        for one, is_done in zip(group, done, strict=True):
            if is_done:
                booked.add(one.claimed.id)
                changes.add(one.claimed.run_id, before[one.claimed.id], one.state)
    append_log(connection, [_log_row(one, lost=one.claimed.id not in booked) for one in results])
    suppressed = [one for one in results if one.suppress and one.claimed.id in booked]
    if suppressed:
        connection.execute(
            upsert(connection, suppressions).on_conflict_do_nothing(index_elements=["address"]),
            [
                {
                    "address": one.claimed.canonical,
                    "reason": f"refused for good: {one.reply_code} {one.reply_text}".strip()[:500],
                    "create_time": one.end_time,
                }
                for one in suppressed
            ],
        )
    return frozenset(booked)


def _closed_where_cancelled(connection: Connection, results: Sequence[Result]) -> list[Result]:
    """Return the results; what would go on although its run was cancelled in between is cancelled, or uncertain."""
    going_on = {one.claimed.run_id for one in results if one.state in OPEN_STATES}
    if not going_on:
        return list(results)
    cancelled = set(
        connection.execute(
            select(runs.c.run_id).where(runs.c.run_id.in_(going_on), runs.c.state == RunState.CANCELLED.value)
        ).scalars()
    )
    return [
        replace(
            one,
            state=DeliveryState.UNKNOWN if one.outcome is LogOutcome.UNKNOWN else DeliveryState.CANCELLED,
            next_attempt_time=None,
        )
        if one.state in OPEN_STATES and one.claimed.run_id in cancelled
        else one
        for one in results
    ]


def _states(connection: Connection, ids: list[int]) -> dict[int, str]:
    rows = connection.execute(select(deliveries.c.id, deliveries.c.state).where(deliveries.c.id.in_(ids)))
    return {row.id: row.state for row in rows}


def _result_values(one: Result) -> dict[str, Any]:
    return {
        "row": one.claimed.id,
        "claim_token": one.claimed.token,
        "key": one.claimed.delivery_key,
        "new_state": one.state.value,
        "keeper": one.worker if one.state is DeliveryState.CLAIMED else None,
        "account": one.account_id,
        "counted": int(one.counted),
        "flag": one.possible_duplicate,
        "rule_name": one.streak.rule,
        "rule_times": one.streak.count,
        "rule_began": one.streak.since,
        "reason": one.description[:REPLY_TEXT_LIMIT],
        "code": one.reply_code,
        "enhanced": one.enhanced_code,
        "reply": one.reply_text[:REPLY_TEXT_LIMIT],
        "now": one.end_time,
        "next": one.next_attempt_time,
    }


def _log_row(one: Result, *, lost: bool) -> dict[str, Any]:
    description = one.description[:REPLY_TEXT_LIMIT]
    return {
        "log_key": log_key(one.claimed.delivery_key, one.claimed.token, "late" if lost else one.step),
        "run_id": one.claimed.run_id,
        "account_id": one.account_id,
        "worker": one.worker,
        "stage": one.stage,
        "outcome": one.outcome.value,
        "reply_code": one.reply_code,
        "enhanced_code": one.enhanced_code,
        "reply_text": one.reply_text[:REPLY_TEXT_LIMIT],
        "description": f"came after the claim was lost: {description}" if lost else description,
        "retry_count": one.claimed.attempt_count,
        "start_time": one.start_time,
        "end_time": one.end_time,
    }


def log_key(delivery_key: str, token: int, step: str) -> str:
    """Return the key of a log row: rows of one delivery are found, in their order, by its prefix."""
    return f"{delivery_key}:{token:08d}:{step}"


def append_log(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Append rows to the log; a row that is there already stays as it is."""
    if rows:
        connection.execute(upsert(connection, send_logs).on_conflict_do_nothing(index_elements=["log_key"]), rows)


def _update_each(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> list[bool]:
    """Run a conditional UPDATE for each row and tell which ones matched: in one go, or one by one when one did not."""
    if not rows:
        return []
    with connection.begin_nested() as savepoint:
        if connection.execute(statement, rows).rowcount == len(rows):
            return [True] * len(rows)
        savepoint.rollback()
    return [connection.execute(statement, row).rowcount == 1 for row in rows]
