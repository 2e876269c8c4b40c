"""How the schedule is doing: kept in a file beside the snapshots, so that a restart forgets no failure."""

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mailer.log import get_logger
from services.backup.durable import replace_file, unfinished
from services.backup.schedule import LONG_AGO, Schedule

log = get_logger(__name__)

GRACE = timedelta(hours=1)
"""How late a snapshot may be before the schedule counts as stale."""

FROZEN_FOR = timedelta(hours=1)
"""How long after a failed Create nothing is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What happened last. None: never, as far as is known."""

    watched_since: datetime | None = None
    """Since when the present schedule is followed: what would have been due before is nobody's fault."""
    success_time: datetime | None = None
    failure_time: datetime | None = None
    """Unset once it worked again."""
    failure: str = ""
    failure_reason: str = ""
    drill_time: datetime | None = None
    drill_failure_time: datetime | None = None
    drill_failure: str = ""

    def watched(self, since: datetime) -> "Status":
        """Return the status with a schedule that is followed from now on."""
        return replace(self, watched_since=since)

    def as_of(self, now: datetime) -> "Status":
        """Return the status without what a clock that was ahead has put into the future; it is watched from now on.

        Such an instant would satisfy the schedule until it has come, and nobody would miss the snapshots.
        """
        return replace(
            self,
            watched_since=now if self.watched_since is None else min(self.watched_since, now),
            success_time=_if_past(self.success_time, now),
            failure_time=self.failure_time and min(self.failure_time, now),
            drill_time=_if_past(self.drill_time, now),
            drill_failure_time=self.drill_failure_time and min(self.drill_failure_time, now),
        )

    def succeeded(self, at: datetime) -> "Status":
        """Return the status after a snapshot was taken."""
        latest = at if self.success_time is None else max(at, self.success_time)
        return replace(self, success_time=latest, failure_time=None, failure="", failure_reason="")

    def succeeded_before(self, at: datetime | None) -> "Status":
        """Return the status with what the store tells of earlier times."""
        return replace(self, success_time=at)

    def failed(self, at: datetime, why: str, reason: str = "") -> "Status":
        """Return the status after one could not be taken."""
        return replace(self, failure_time=at, failure=why, failure_reason=reason)

    def drilled(self, at: datetime) -> "Status":
        """Return the status after a restore drill went well."""
        return replace(self, drill_time=at, drill_failure_time=None, drill_failure="")

    def drill_failed(self, at: datetime, why: str) -> "Status":
        """Return the status after one did not."""
        return replace(self, drill_failure_time=at, drill_failure=why)

    def done_until(self, now: datetime) -> datetime:
        """Return up to when the schedule was satisfied; instants of a clock that was wrong do not count."""
        return _latest(now, self.success_time, self.watched_since)

    def drilled_until(self, now: datetime) -> datetime:
        """Return the same for the restore drill."""
        return _latest(now, self.drill_time, self.watched_since)


def missed(schedule: Schedule, *, since: datetime, now: datetime) -> bool:
    """Say whether the schedule fired after `since` and up to now: however often, it is caught up once."""
    return since < schedule.last_before(now)


def is_stale(schedule: Schedule | None, *, newest: datetime | None, status: Status, now: datetime) -> bool:
    """Say whether the newest good snapshot is older than the schedule says it should be."""
    if schedule is None:
        return False
    return missed(schedule, since=_latest(now, newest, status.watched_since), now=now - GRACE)


def is_frozen(status: Status, *, now: datetime) -> str:
    """Return why nothing may be removed at present, '' when that is all right.

    Right after a failed Create the snapshots there are may be the last good ones. A full disk is another
    matter: removing some is the cure.
    """
    if status.failure_time is None or status.failure_reason == "NOT_ENOUGH_SPACE":
        return ""
    return "the last Create failed" if now - status.failure_time < FROZEN_FOR else ""


def _latest(now: datetime, *instants: datetime | None) -> datetime:
    """Return the latest of the instants up to now; long ago when there is none, and never one that moves with now."""
    return max((instant for instant in instants if instant is not None and instant <= now), default=LONG_AGO)


def _if_past(instant: datetime | None, now: datetime) -> datetime | None:
    return instant if instant is not None and instant <= now else None


class StatusFile:
    """Keeps the status. A file that cannot be read is begun anew: nothing depends on it but messages."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path

    def load(self) -> Status:
        """Return the status as last stored."""
        unfinished(self._path).unlink(missing_ok=True)
        try:
            body: dict[str, Any] = json.loads(self._path.read_bytes())
            return Status(**{item.name: _value(item.name, body.get(item.name)) for item in fields(Status)})
        except FileNotFoundError:
            return Status()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("the status file cannot be read and is begun anew", error=str(error))
            return Status()

    def store(self, status: Status) -> None:
        """Keep the status, on disk when this returns."""
        values = {item.name: getattr(status, item.name) for item in fields(Status)}
        body = {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }
        replace_file(self._path, json.dumps(body, indent=1).encode() + b"\n")


def _value(name: str, value: Any) -> Any:
    if name in {"failure", "failure_reason", "drill_failure"}:
        return str(value or "")
    return datetime.fromisoformat(value) if value else None
