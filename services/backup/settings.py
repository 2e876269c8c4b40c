"""The settings that change while the service runs, and the file that keeps them.

The file lies beside the snapshots: it survives the loss of the database, and a restore does not roll it back.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mailer.errors import CannotStart
from services.backup.durable import replace_file, unfinished
from services.backup.retention import Policy
from services.backup.schedule import Schedule, check_expression, check_zone, parse

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """When snapshots are taken, and which are kept."""

    backup_schedule: str = "0 2 * * *"
    """Five cron fields; empty = off."""
    time_zone: str = "UTC"
    backup_retention: int = 7
    """How many of the newest snapshots are kept."""
    further_rules: Policy = field(default_factory=Policy)
    """Rules beside it; its keep_last stays 0."""
    drill_schedule: str = ""
    """When the newest snapshot is restored into a scratch file; empty = off."""

    @property
    def schedule(self) -> Schedule | None:
        """Return when snapshots are due, None when that is switched off."""
        return parse(self.backup_schedule, self.time_zone) if self.backup_schedule else None

    @property
    def drill(self) -> Schedule | None:
        """Return when the restore drill is due, None when that is switched off."""
        return parse(self.drill_schedule, self.time_zone) if self.drill_schedule else None

    @property
    def policy(self) -> Policy:
        """Return all rules as one policy; never an empty one."""
        return replace(self.further_rules, keep_last=self.backup_retention)

    def problems(self) -> list[tuple[str, str]]:
        """Return what cannot be used: field and cure."""
        found = []
        for name, expression in (
            ("backup_schedule", self.backup_schedule),
            ("drill_schedule", self.drill_schedule),
        ):
            if expression:
                found += _problem(name, check_expression, expression)
        found += _problem("time_zone", check_zone, self.time_zone)
        if self.backup_retention < 1:
            found.append(("backup_retention", "must be at least 1"))
        return found


class SettingsFile:
    """Keeps the settings: read once, written whole with each change."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path

    def load(self) -> Settings:
        """Return the settings, the defaults when there is no file yet. Raises CannotStart for a damaged one.

        Not the defaults then: they might keep less than what somebody chose.
        """
        settings = Settings()
        unfinished(self._path).unlink(missing_ok=True)
        try:
            settings = _from_json(json.loads(self._path.read_bytes()))
            problems = settings.problems()
        except FileNotFoundError:
            return settings
        except (OSError, ValueError, TypeError, KeyError) as error:
            problems = [("file", str(error))]
        if problems:
            lines = [f"{self._path.name}: {name}: {problem}" for name, problem in problems]
            raise CannotStart(*lines, f"mend {self._path}, or remove it to begin with the defaults")
        return settings

    def store(self, settings: Settings) -> None:
        """Keep the settings, on disk when this returns."""
        body = asdict(settings) | {"format": _FORMAT}
        body["further_rules"]["keep_within"] = settings.further_rules.keep_within.total_seconds()
        replace_file(self._path, json.dumps(body, indent=1).encode() + b"\n")


def _from_json(body: dict[str, Any]) -> Settings:
    if body.pop("format") != _FORMAT:
        raise ValueError("it was written by another version")
    rules = body.pop("further_rules")
    rules["keep_within"] = timedelta(seconds=rules["keep_within"])
    return Settings(**body, further_rules=Policy(**rules))


def _problem(name: str, check: Any, value: str) -> list[tuple[str, str]]:
    try:
        check(value)
    except ValueError as error:
        return [(name, str(error))]
    return []
