"""The book in SQL: what became of claimed deliveries. Every entry names the claim's token and the state it leaves.

The order that makes the book exact: intent on disk, then the dot on the wire, then the result on disk. So after a crash
only of a row in `dot_intent` a server may have what is not booked; the marks of dots (dots.py) say of which of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from mailer.database import portable
from mailer.database.rows import BOOLEAN, INTEGER, TEXT, RowStatement
from mailer.database.types import from_microseconds
from services.sender.account_usage import rooms_within_caps
from services.sender.counts import Changes, upsert
from services.sender.entries import (
    Acceptance,
    Intent,
    Result,
    acceptance_entry,
    accepted_row,
    late_row,
    log_entry,
    result_row,
)
from services.sender.send_log import append_log
from services.sender.states import OPEN_STATES, DeliveryState, LogOutcome, RunState
from services.sender.tables import runs, suppressions

_MINUTE_MICROSECONDS = 60_000_000

_CLAIM = {"id": INTEGER, "token": INTEGER, "account": TEXT, "at": INTEGER}
# Checked at the last moment: whoever unsubscribed while the message was on its way to a server gets no dot.
_IS_SUPPRESSED = "EXISTS (SELECT 1 FROM suppressions WHERE suppressions.address = deliveries.canonical)"
_IS_CLAIM = "deliveries.id = r.id AND deliveries.token = r.token AND deliveries.state = 'claimed'"
_SET_INTENT = RowStatement(
    f"""
    UPDATE deliveries SET state = 'dot_intent', account_id = r.account, update_time = r.at
    FROM :rows AS r
    WHERE {_IS_CLAIM} AND NOT {_IS_SUPPRESSED}
    """,
    _CLAIM,
    returning="deliveries.id",
)
# One that was stored a while ago is asked for once more: somebody may have unsubscribed since.
_HAS_INTENT = "deliveries.id = r.id AND deliveries.token = r.token AND deliveries.state = 'dot_intent'"
_RENEW_INTENT = RowStatement(
    f"""
    UPDATE deliveries SET account_id = r.account, update_time = r.at
    FROM :rows AS r
    WHERE {_HAS_INTENT} AND NOT {_IS_SUPPRESSED}
    """,
    _CLAIM,
    returning="deliveries.id",
)
_SET_SUPPRESSED = {
    before: RowStatement(
        f"""
        UPDATE deliveries
        SET state = 'suppressed', state_reason = 'on the suppression list', worker = NULL, update_time = r.at
        FROM :rows AS r
        WHERE {condition} AND {_IS_SUPPRESSED}
        """,
        _CLAIM,
        returning="deliveries.run_id",
    )
    for before, condition in ((DeliveryState.CLAIMED, _IS_CLAIM), (DeliveryState.DOT_INTENT, _HAS_INTENT))
}
_STATES = RowStatement(
    "SELECT deliveries.id, deliveries.state FROM :rows AS r JOIN deliveries ON deliveries.id = r.id", {"id": INTEGER}
)
# That a server has the message is true whatever was booked in between: a rescue or a restore turned the intent into
# 'unknown' or put it back, and somebody may have claimed it since. Only another dot may not be overtaken.
_SET_RESULT = RowStatement(
    """
    UPDATE deliveries SET
        state = r.state, token = deliveries.token + r.is_sent, worker = r.worker, account_id = r.account,
        attempt_count = deliveries.attempt_count + r.counted,
        possible_duplicate = deliveries.possible_duplicate OR r.flagged,
        rule = r.rule, rule_count = r.rule_count, rule_since = r.rule_since, state_reason = r.reason,
        reply_code = r.code, enhanced_code = r.enhanced, reply_text = r.reply,
        update_time = r.at, next_attempt_time = r.next
    FROM :rows AS r
    WHERE deliveries.id = r.id AND deliveries.delivery_key = r.key AND (
        (deliveries.token = r.token AND deliveries.state IN ('claimed', 'dot_intent'))
        OR (r.is_sent = 1 AND deliveries.token >= r.token
            AND deliveries.state IN ('pending', 'deferred', 'claimed', 'unknown'))
    )
    """,
    {
        "id": INTEGER,
        "token": INTEGER,
        "key": TEXT,
        "state": TEXT,
        "is_sent": INTEGER,
        "worker": TEXT,
        "account": TEXT,
        "counted": INTEGER,
        "flagged": BOOLEAN,
        "rule": TEXT,
        "rule_count": INTEGER,
        "rule_since": INTEGER,
        "reason": TEXT,
        "code": INTEGER,
        "enhanced": TEXT,
        "reply": TEXT,
        "at": INTEGER,
        "next": INTEGER,
    },
    returning="deliveries.id",
)
# What happens nearly always: the server took a message whose intent stands as it was left.
_SET_ACCEPTED = RowStatement(
    """
    UPDATE deliveries SET
        state = 'sent', token = deliveries.token + 1, worker = NULL, attempt_count = deliveries.attempt_count + 1,
        state_reason = r.reason, reply_code = r.code, enhanced_code = r.enhanced, reply_text = r.reply,
        update_time = r.at, next_attempt_time = NULL
    FROM :rows AS r
    WHERE deliveries.id = r.id AND deliveries.token = r.token AND deliveries.state = 'dot_intent'
        AND deliveries.delivery_key = r.key AND deliveries.account_id = r.account
    """,
    {
        "id": INTEGER,
        "token": INTEGER,
        "key": TEXT,
        "account": TEXT,
        "reason": TEXT,
        "code": INTEGER,
        "enhanced": TEXT,
        "reply": TEXT,
        "at": INTEGER,
    },
    returning="deliveries.id",
)
_COUNT_USAGE = RowStatement(
    """
    INSERT INTO account_usage (account_id, minute, message_count)
    SELECT r.account_id, r.minute, r.message_count FROM :rows AS r WHERE r.account_id IS NOT NULL
    ON CONFLICT (account_id, minute) DO UPDATE SET message_count = account_usage.message_count + excluded.message_count
    """,
    {"account_id": TEXT, "minute": INTEGER, "message_count": INTEGER},
)


@portable
def write_group(
    connection: Connection, acceptances: Sequence[Acceptance], results: Sequence[Result], intents: Sequence[Intent]
) -> tuple[frozenset[int], frozenset[str]]:
    """Write what has collected, and the counts it moves. Return the ids that may be sent, and the runs that changed.

    An acceptance is the last word about its delivery, so it may come after results of earlier attempts.
    """
    changes = Changes()
    write_results(connection, results, changes)
    write_acceptances(connection, acceptances, changes)
    granted = write_intents(connection, intents, changes)
    changes.apply(connection)
    return granted, changes.run_ids


def write_intents(connection: Connection, intents: Sequence[Intent], changes: Changes) -> frozenset[int]:
    """Turn claims into intents. Return the ids of the rows that may be sent; the others have no claim or no room."""
    intents = _within_caps(connection, list({one.delivery_id: one for one in intents}.values()))
    rows = [(one.delivery_id, one.token, one.account_id, one.time) for one in intents]
    granted = _SET_INTENT.changed(connection, rows)
    usage: Counter[tuple[str, int]] = Counter()
    runs_of: Counter[str] = Counter()
    for one in intents:
        if one.delivery_id in granted:
            runs_of[one.run_id] += 1
            usage[one.account_id, one.time // _MINUTE_MICROSECONDS] += 1
    for run_id, count in runs_of.items():
        changes.add(run_id, DeliveryState.CLAIMED, DeliveryState.DOT_INTENT, count)
    count_usage(connection, usage)
    if len(granted) < len(intents):
        others = [one for one in rows if one[0] not in granted]
        granted |= _RENEW_INTENT.changed(connection, others)
        for before, statement in _SET_SUPPRESSED.items():
            for (run_id,) in statement(connection, others):
                changes.add(run_id, before, DeliveryState.SUPPRESSED)
    return frozenset(granted)


def _within_caps(connection: Connection, intents: Sequence[Intent]) -> list[Intent]:
    """Return the intents for which their accounts have room this hour and this day, first come first served.

    Each process keeps to the caps by what it last read; where several share the last few, this decides.
    """
    if not intents:
        return []
    now = from_microseconds(max(one.time for one in intents))
    rooms = rooms_within_caps(connection, {one.account_id for one in intents}, now=now)
    if not rooms:
        return list(intents)
    kept = []
    for one in intents:
        room = rooms.get(one.account_id, 1)
        if one.account_id in rooms:
            rooms[one.account_id] = room - 1
        if room > 0:
            kept.append(one)
    return kept


def count_usage(connection: Connection, usage: Mapping[tuple[str, int], int]) -> None:
    """Add messages per account and minute: what caps are checked against after a restart."""
    _COUNT_USAGE.count(
        connection, [(account_id, minute, count) for (account_id, minute), count in sorted(usage.items())]
    )


def write_acceptances(connection: Connection, acceptances: Sequence[Acceptance], changes: Changes) -> None:
    """Book messages that servers took, each with its row in the log."""
    booked = _SET_ACCEPTED.changed(connection, [accepted_row(one) for one in acceptances])
    runs_of: Counter[str] = Counter()
    others = []
    for one in acceptances:
        if one.delivery_id in booked:
            runs_of[one.run_id] += 1
        else:
            others.append(one)
    for run_id, count in runs_of.items():
        changes.add(run_id, DeliveryState.DOT_INTENT, DeliveryState.SENT, count)
    if others:
        moved = {one.delivery_id: (one.run_id, DeliveryState.SENT) for one in others}
        booked |= _move(connection, [late_row(one) for one in others], moved, changes)
    append_log(connection, [acceptance_entry(one, lost=one.delivery_id not in booked) for one in acceptances])


def write_results(connection: Connection, results: Sequence[Result], changes: Changes) -> None:
    """Book what attempts came to, each with its row in the log."""
    for part in _one_per_delivery(_closed_where_cancelled(connection, results)):
        _write_part(connection, part, changes)


def _move(
    connection: Connection,
    rows: Sequence[tuple[Any, ...]],
    moved: Mapping[int, tuple[str, DeliveryState]],
    changes: Changes,
) -> set[int]:
    """Run `_SET_RESULT`; `moved` has run and new state by id. Return the ids of the rows that were still theirs."""
    before = dict(_STATES(connection, [(row[0],) for row in rows]))
    booked = _SET_RESULT.changed(connection, rows)
    for delivery_id, (run_id, state) in moved.items():
        if delivery_id in booked:
            changes.add(run_id, before[delivery_id], state)
    return booked


def _write_part(connection: Connection, results: Sequence[Result], changes: Changes) -> None:
    """Book results of as many deliveries."""
    moved = {one.claimed.id: (one.claimed.run_id, one.state) for one in results}
    booked = _move(connection, [result_row(one) for one in results], moved, changes)
    append_log(connection, [log_entry(one, lost=one.claimed.id not in booked) for one in results])
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


def _one_per_delivery(results: Sequence[Result]) -> Iterator[Sequence[Result]]:
    """Give the results in their order, cut where a delivery comes a second time: it was tried again at once."""
    start, seen = 0, set[int]()
    for position, one in enumerate(results):
        if one.claimed.id in seen:
            yield results[start:position]
            start = position
            seen.clear()
        seen.add(one.claimed.id)
    if start < len(results):
        yield results[start:]


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
