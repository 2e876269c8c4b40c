"""The settings of the backup service that stay as they are while it runs; the others are in settings.py."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mailer.config import CommonSettings, Span, parse_span
from mailer.database.engine import locate
from mailer.errors import CannotStart


class BackupServiceSettings(CommonSettings):
    """What the backup service needs to know; every default works on one machine."""

    prefix: ClassVar[str] = "MAILER_BACKUP_"

    port: int = Field(50053, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    metrics_port: int = Field(9053, ge=0, le=65535, description="The port of /metrics; 0 turns it off.")
    store_dir: Path = Field(
        default_factory=lambda known: Path(known.get("data_dir", "data")) / "backups",
        description="Where the snapshots and their settings are kept.",
    )
    limit: Span = Field(parse_span("1h"), description="How long one operation may take at most.")
    lock_limit: Span = Field(
        parse_span("2m"), description="How long Restore may keep other writers waiting; beyond it nothing happens."
    )

    @property
    def live(self) -> Path:
        """Return the SQLite file that is backed up."""
        return locate(self.database_url).path

    def problems(self) -> list[str]:
        """Return what is wrong between settings, one line each."""
        found = super().problems()
        try:
            location = locate(self.database_url)
        except CannotStart as error:
            return [*found, *error.problems]
        if not location.is_sqlite:
            found.append(
                f"{self.name_of('database_url')}: the backup service keeps SQLite databases; for PostgreSQL use pg_dump"
            )
        return found
