"""Runs in SQL: what somebody decided about a whole run, and what that does to its deliveries, in one transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text, update

from mailer.errors import FailedPrecondition, NotFound
from services.sender.counts import Changes, upsert
from services.sender.states import DeliveryState, Policy, RunState
from services.sender.tables import IS_DEFERRED, IS_IN_PROGRESS, IS_PENDING, IS_TROUBLED, deliveries, run_counts, runs


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is stored; its counts are beside it (counts.py)."""

    run_id: str
    campaign_id: str
    state: RunState
    state_reason: str
    policy: Policy
    options: bytes
    content_hash: str
    unfinished: bool
    create_time: datetime
    update_time: datetime
    end_time: datetime | None
    removal_time: datetime | None
    emptied: bool


_UNFINISHED = {"sqlite": "sender_runs.unfinished = 1", "postgresql": "sender_runs.unfinished"}


def _run(row: Any) -> Run:
    values = {name: getattr(row, name) for name in Run.__dataclass_fields__}
    return Run(**{**values, "state": RunState(row.state), "policy": Policy(row.policy)})


def read(connection: Connection, run_id: str) -> Run | None:
    """Return the run, or None when nothing of it was ever stored."""
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).one_or_none()
    return None if row is None else _run(row)


def with_work(connection: Connection) -> list[tuple[Run, int]]:
    """Return the active runs that have open deliveries, oldest first, and how many of those wait to be claimed."""
    waiting = (
        select(run_counts.c.delivery_count)
        .where(run_counts.c.run_id == runs.c.run_id, run_counts.c.state == DeliveryState.PENDING.value)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(runs, waiting.label("waiting")).where(
            text(_UNFINISHED[connection.dialect.name]), runs.c.state == RunState.ACTIVE.value
        )
    )
    found = [(_run(row), row.waiting or 0) for row in rows]
    return sorted(found, key=lambda one: (one[0].create_time, one[0].run_id))


def existing(connection: Connection, run_id: str) -> Run:
    """Return the run. Raises NotFound."""
    run = read(connection, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}: nothing of it was ever stored", metadata={"run_id": run_id})
    return run


def refuse_cancelled(run: Run) -> None:
    """Raise FailedPrecondition when the run is cancelled: nothing of it may be sent any more."""
    if run.state is RunState.CANCELLED:
        raise FailedPrecondition(
            f"run {run.run_id} is CANCELLED, which is final: send to the recipients again in a new run",
            reason="RUN_CANCELLED",
            metadata={"run_id": run.run_id, "state": "CANCELLED"},
        )


def refuse_removed(run: Run) -> None:
    """Raise FailedPrecondition when the run's deliveries were removed: nobody could tell who has its mail."""
    if run.removal_time is not None:
        raise FailedPrecondition(
            f"run {run.run_id} is over for long, and its deliveries were removed on {run.removal_time:%Y-%m-%d} "
            "(MAILER_SENDER_DELIVERY_RETENTION): send to the recipients again in a new run",
            reason="RUN_REMOVED",
            metadata={"run_id": run.run_id},
        )


def removal_time(connection: Connection, *, run_id: str, campaign_id: str) -> datetime | None:
    """Return since when deliveries of a run, or of runs of a campaign, are being removed; None while all are kept."""
    query = select(func.max(runs.c.removal_time))
    if run_id:
        query = query.where(runs.c.run_id == run_id)
    elif campaign_id:
        query = query.where(runs.c.campaign_id == campaign_id)
    else:
        return None
    found: datetime | None = connection.execute(query).scalar_one()
    return found


def ensure(
    connection: Connection,
    *,
    run_id: str,
    campaign_id: str,
    policy: Policy,
    options: bytes,
    content_hash: str,
    now: datetime,
    state: RunState = RunState.ACTIVE,
) -> Run:
    """Return the run, storing it first when it is new: the first batch decides policy and options."""
    connection.execute(
        upsert(connection, runs).on_conflict_do_nothing(index_elements=["run_id"]),
        {
            "run_id": run_id,
            "campaign_id": campaign_id,
            "state": state.value,
            "state_reason": "",
            "policy": policy.value,
            "options": options,
            "content_hash": content_hash,
            "unfinished": False,
            "emptied": False,
            "create_time": now,
            "update_time": now,
        },
    )
    run = read(connection, run_id)
    assert run is not None
    return run


def set_state(connection: Connection, run_id: str, state: RunState, *, reason: str, now: datetime) -> None:
    """Store what was decided about a run."""
    connection.execute(
        update(runs).where(runs.c.run_id == run_id).values(state=state.value, state_reason=reason, update_time=now)
    )


def note(connection: Connection, run_id: str, reason: str, *, now: datetime) -> None:
    """Say something about an active run to whoever looks at it; another decision about it wins."""
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.state == RunState.ACTIVE.value)
        .values(state_reason=reason, update_time=now)
    )


def take_back_claims(connection: Connection, run_id: str, *, now: datetime, changes: Changes) -> int:
    """Put claimed deliveries of a run back into the queue and void the claims: nobody gets leave for their dot."""
    values = {"state": DeliveryState.PENDING.value, "worker": None}
    return _move(connection, run_id, DeliveryState.CLAIMED, values, now=now, changes=changes)


def pause(connection: Connection, run_id: str, *, reason: str, now: datetime) -> None:
    """Pause a run that is active, and void its claims; any other stays as it is. Raises NotFound."""
    if existing(connection, run_id).state is not RunState.ACTIVE:
        return
    set_state(connection, run_id, RunState.PAUSED, reason=reason, now=now)
    changes = Changes()
    take_back_claims(connection, run_id, now=now, changes=changes)
    changes.apply(connection)


def cancel_open(connection: Connection, run_id: str, *, now: datetime, changes: Changes) -> int:
    """Cancel every delivery of a run that is not yet at its final dot."""
    values = {
        "state": DeliveryState.CANCELLED.value,
        "state_reason": "its run was cancelled",
        "worker": None,
        "next_attempt_time": None,
    }
    return sum(
        _move(connection, run_id, before, values, now=now, changes=changes)
        for before in (DeliveryState.PENDING, DeliveryState.DEFERRED, DeliveryState.CLAIMED)
    )


def requeue(
    connection: Connection,
    run_id: str,
    before: DeliveryState,
    *,
    now: datetime,
    expire_time: datetime,
    flag: bool,
    changes: Changes,
) -> int:
    """Queue again what came to an end in state `before`: a fresh start, with a new time to expire.

    `flag` marks them as possible duplicates.
    """
    values: dict[str, Any] = {
        "state": DeliveryState.PENDING.value,
        "state_reason": "queued again by a person",
        "attempt_count": 0,
        "rule": "",
        "rule_count": 0,
        "rule_since": None,
        "expire_time": expire_time,
    }
    if flag:
        values["possible_duplicate"] = True
    return _move(connection, run_id, before, values, now=now, changes=changes)


_SAID_BY_INDEX = {
    DeliveryState.PENDING: IS_PENDING,
    DeliveryState.DEFERRED: IS_DEFERRED,
    DeliveryState.CLAIMED: IS_IN_PROGRESS,
    DeliveryState.FAILED: IS_TROUBLED,
    DeliveryState.UNKNOWN: IS_TROUBLED,
    DeliveryState.EXPIRED: IS_TROUBLED,
}


def _move(
    connection: Connection,
    run_id: str,
    before: DeliveryState,
    values: dict[str, Any],
    *,
    now: datetime,
    changes: Changes,
) -> int:
    """Move the deliveries of a run that are in one state, voiding claims. Return how many moved."""
    of_run = deliveries.c.run_id == run_id
    if before is DeliveryState.CLAIMED:
        # Of the few that are claimed, those of the run; the other way round a million rows would be looked at.
        of_run = deliveries.c.run_id.concat("") == run_id
    moved = connection.execute(
        update(deliveries)
        .where(_SAID_BY_INDEX[before], of_run, deliveries.c.state == before.value)
        .values(token=deliveries.c.token + 1, update_time=now, **values)
    ).rowcount
    changes.add(run_id, before, values["state"], moved)
    return moved
