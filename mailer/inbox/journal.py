"""What happened at the inbox, one JSON object a line, in the order in which it happened."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

FILE_NAME = "journal.jsonl"


class Event(StrEnum):
    """What an entry tells."""

    CONNECT = "connect"
    FIRST_COMMAND = "first_command"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One event at one connection. Empty fields do not apply to the event."""

    time: datetime
    listener: str
    port: int
    connection: int
    event: Event
    mail_from: str = ""
    recipients: tuple[str, ...] = ()
    message_id: str = ""
    file: str = ""
    size_bytes: int = 0
    reply: str = ""

    def to_json(self) -> str:
        """Return the entry as one line, without the fields that do not apply."""
        fields = asdict(self) | {
            "time": self.time.isoformat(timespec="microseconds"),
            "event": self.event.value,
        }
        return json.dumps({name: value for name, value in fields.items() if value or name == "time"})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the entry of a line that `to_json` made."""
        fields = json.loads(line)
        fields["time"] = datetime.fromisoformat(fields["time"])
        fields["event"] = Event(fields["event"])
        fields["recipients"] = tuple(fields.get("recipients", ()))
        return cls(**fields)


class Journal:
    """The append-only file of entries. Safe to use from several threads: an entry is one write."""

    def __init__(self, directory: Path) -> None:
        """Open the journal of the directory, which must exist."""
        self._file = (directory / FILE_NAME).open("ab", buffering=0)

    def append(self, entry: Entry) -> None:
        """Write the entry; another process that reads the file sees it when this returns."""
        self._file.write(entry.to_json().encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(directory: Path) -> Iterator[Entry]:
    """Yield the entries written so far, oldest first; nothing when there is no journal yet."""
    try:
        file = (directory / FILE_NAME).open(encoding="utf-8")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            # A line without its end is still being written.
            if line.endswith("\n"):
                yield Entry.from_json(line)
