"""What stands before the name of a command, and what every command shares."""

from dataclasses import dataclass
from pathlib import Path

from mailer.clock import Clock


@dataclass(slots=True)
class Choices:
    """Travels as the `obj` of the command's context; None means: as the settings say."""

    clock: Clock
    scheduler: str | None = None
    sender: str | None = None
    backup: str | None = None
    ca_file: Path | None = None
    as_json: bool = False
