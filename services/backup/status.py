"""How the schedule is doing: kept in a file beside the snapshots, so that a restart forgets no failure."""

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mailer.log import get_logger
from services.backup.durable import replace_file
from services.backup.schedule import Schedule

log = get_logger(__name__)

GRACE = timedelta(hours=1)
"""How late a snapshot may be before the schedule counts as stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What happened last. None: never, as far as is known."""

    watched_since: datetime | None = None
    """Since when the present schedule is followed: what would have been due before is nobody's fault."""
    success_time: datetime | None = None
    failure_time: datetime | None = None
    """Unset once it worked again."""
    failure: str = ""
    drill_time: datetime | None = None
    drill_failure_time: datetime | None = None
    drill_failure: str = ""

    def succeeded(self, at: datetime) -> "Status":
        """Return the status after a snapshot was taken."""
        return replace(self, success_time=at, failure_time=None, failure="")

    def failed(self, at: datetime, why: str) -> "Status":
        """Return the status after one could not be taken."""
        return replace(self, failure_time=at, failure=why)

    def drilled(self, at: datetime) -> "Status":
        """Return the status after a restore drill went well."""
        return replace(self, drill_time=at, drill_failure_time=None, drill_failure="")

    def drill_failed(self, at: datetime, why: str) -> "Status":
        """Return the status after one did not."""
        return replace(self, drill_failure_time=at, drill_failure=why)


def missed(schedule: Schedule, *, since: datetime, now: datetime) -> bool:
    """Say whether the schedule fired after `since` and up to now: however often, it is caught up once."""
    return since < schedule.last_before(now)


def is_stale(schedule: Schedule | None, *, newest: datetime | None, status: Status, now: datetime) -> bool:
    """Say whether the newest good snapshot is older than the schedule says it should be."""
    known = [instant for instant in (newest, status.watched_since) if instant is not None]
    return schedule is not None and bool(known) and missed(schedule, since=max(known), now=now - GRACE)


class StatusFile:
    """Keeps the status. A file that cannot be read is begun anew: nothing depends on it but messages."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path

    def load(self) -> Status:
        """Return the status as last stored."""
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
    if name in {"failure", "drill_failure"}:
        return str(value or "")
    return datetime.fromisoformat(value) if value else None
