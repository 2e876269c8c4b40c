"""Runs in SQL: one firing of a campaign, how far its hand-over is, and what the sender should know.

A decision (pause, resume, cancel ...) adds one to `revision`. Whoever watches or hands over writes under the
revision it has read: what it learnt before the decision changes nothing after it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, Select, delete, insert, or_, select, update

from services.scheduler.campaign_states import RunState
from services.scheduler.tables import IS_OPEN, runs

ACTIVE, PAUSED, CANCELLED = "active", "paused", "cancelled"
"""What the sender should do with a run."""

_RESTING = (RunState.HELD, RunState.MISSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it is stored, but for its content: that is large and read where it is sent."""

    run_id: str
    campaign_id: str
    slot_time: datetime
    state: RunState
    state_reason: str
    options: bytes
    batch_count_limit: int
    batch_byte_limit: int
    recipient_count: int
    cursor: int
    dispatched_count: int
    rejected_count: int
    handed_over: bool
    wanted: str
    told: str
    counts: bytes
    revision: int
    start_time: datetime | None
    end_time: datetime | None

    @property
    def needs_work(self) -> bool:
        """Say whether anything is to be done for it: handed over, told, or followed."""
        return self.end_time is None and self.state not in _RESTING

    @property
    def is_known_better_by_the_sender(self) -> bool:
        """Say whether what is stored here may be behind; of a held run the snapshot knows less than the sender."""
        return self.needs_work or self.state is RunState.HELD


def run_id_of(campaign_id: str, slot_time: datetime) -> str:
    """Return the id of the run for a slot: whoever makes it makes the same."""
    return uuid5(UUID(campaign_id), slot_time.astimezone(UTC).isoformat(timespec="microseconds")).hex


def find(connection: Connection, run_id: str) -> Run | None:
    """Return the run, or None."""
    row = connection.execute(_QUERY.where(runs.c.run_id == run_id)).one_or_none()
    return None if row is None else _run(row)


def find_all(connection: Connection, run_ids: Sequence[str]) -> dict[str, Run]:
    """Return the runs that exist, by id."""
    found = connection.execute(_QUERY.where(runs.c.run_id.in_(list(run_ids))))
    return {row.run_id: _run(row) for row in found}


def page(connection: Connection, campaign_id: str, after: tuple[datetime, str] | None, limit: int) -> list[Run]:
    """Return the runs of a campaign, newest slot first."""
    slot, run_id = runs.c.slot_time, runs.c.run_id
    query = _QUERY.where(runs.c.campaign_id == campaign_id)
    query = query.order_by(slot.desc(), run_id.desc()).limit(limit)
    if after is not None:
        instant, last_id = after
        query = query.where(slot <= instant, or_(slot < instant, run_id < last_id))
    return [_run(row) for row in connection.execute(query)]


def at_work(connection: Connection) -> dict[str, int]:
    """Return the revision of every run for which something is to be done, by id."""
    query = select(runs.c.run_id, runs.c.revision).where(IS_OPEN, runs.c.state.not_in(list(_RESTING)))
    return {row.run_id: row.revision for row in connection.execute(query)}


def unfinished(connection: Connection, campaign_id: str) -> list[Run]:
    """Return the runs of a campaign that are not over: after a restore an older one may be among them."""
    return [_run(row) for row in connection.execute(_QUERY.where(runs.c.campaign_id == campaign_id, IS_OPEN))]


def content_of(connection: Connection, run_id: str) -> bytes:
    """Return what a run sends: serialized MessageContent."""
    return bytes(connection.execute(select(runs.c.content).where(runs.c.run_id == run_id)).scalar_one())


def create(connection: Connection, run: Run, content: bytes) -> None:
    """Store a new run with what it sends."""
    connection.execute(insert(runs).values(**asdict(run), content=content))


def replace(connection: Connection, run: Run, content: bytes) -> None:
    """Store a run begun anew, read in the same transaction, with what it sends now."""
    query = update(runs).where(runs.c.run_id == run.run_id)
    connection.execute(query.values(**asdict(run), content=content))


def decide(connection: Connection, run: Run, state: RunState, *, wanted: str, reason: str = "") -> None:
    """Put a run into a state by a decision; the sender is told what is wanted, whatever it was told before."""
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run.run_id)
        .values(
            state=state,
            state_reason=reason,
            wanted=wanted,
            told="",
            end_time=None,
            revision=runs.c.revision + 1,
        )
    )


def mark_told(connection: Connection, run: Run, told: str) -> bool:
    """Note what the sender knows; False when somebody decided anew meanwhile."""
    return _change(connection, run, told=told)


def advance(connection: Connection, run: Run, *, cursor: int, dispatched: int, rejected: int, last: bool) -> bool:
    """Move the cursor after the sender's answer; False when it was moved or decided about meanwhile."""
    changed = connection.execute(
        update(runs)
        .where(runs.c.run_id == run.run_id, runs.c.revision == run.revision, runs.c.cursor == run.cursor)
        .values(
            cursor=cursor,
            dispatched_count=runs.c.dispatched_count + dispatched,
            rejected_count=runs.c.rejected_count + rejected,
            state_reason="",
            handed_over=last,
            state=RunState.SENDING if last else RunState.DISPATCHING,
        )
    )
    return changed.rowcount == 1


def finish_hand_over(connection: Connection, run: Run) -> bool:
    """Note that the sender has everybody; False when somebody decided anew meanwhile."""
    return _change(connection, run, handed_over=True, state=RunState.SENDING, state_reason="")


def start_over(connection: Connection, run: Run) -> bool:
    """Hand the run over from its first recipient again; batches that the sender knows have no second effect."""
    return _change(
        connection,
        run,
        state=RunState.DISPATCHING,
        handed_over=False,
        cursor=0,
        dispatched_count=0,
        rejected_count=0,
    )


def note(connection: Connection, run: Run, *, reason: str | None = None, counts: bytes | None = None) -> bool:
    """Keep what was heard about a run; False when somebody decided anew meanwhile."""
    values = {"state_reason": reason, "counts": counts}
    return _change(connection, run, **{name: value for name, value in values.items() if value is not None})


def close(connection: Connection, run: Run, state: RunState, *, counts: bytes, now: datetime) -> bool:
    """End a run whose every delivery is final; False when somebody decided anew meanwhile."""
    return _change(connection, run, state=state, state_reason="", counts=counts, end_time=now)


def remove_all(connection: Connection, campaign_id: str) -> None:
    """Remove the runs of a campaign that is being deleted."""
    connection.execute(delete(runs).where(runs.c.campaign_id == campaign_id))


def _change(connection: Connection, run: Run, **values: Any) -> bool:
    changed = connection.execute(
        update(runs).where(runs.c.run_id == run.run_id, runs.c.revision == run.revision).values(**values)
    )
    return changed.rowcount == 1


_QUERY: Select[Any] = select(*(column for column in runs.columns if column.name != "content"))


def _run(row: Row[Any]) -> Run:
    values = {
        **row._mapping,
        "state": RunState(row.state),
        "options": bytes(row.options),
        "counts": bytes(row.counts),
    }
    return Run(**values)
