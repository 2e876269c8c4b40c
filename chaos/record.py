"""The file of the SMTP server: one line per thing that happened to it, written before it answers."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic


class Kind(StrEnum):
    """What happened."""

    OPENED = "opened"
    ACCEPTED = "accepted"
    LOST = "lost"  # the client was gone without a goodbye
    CUT = "cut"  # we closed the connection instead of answering the final dot
    HELD = "held"  # the final dot waits for its answer until the harness has seen enough


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `time` is CLOCK_MONOTONIC, which all processes of a machine share."""

    time: float
    kind: Kind
    connection: int
    address: str = ""
    digest: str = ""


class Recorder:
    """Writes the file."""

    def __init__(self, path: Path) -> None:
        """Open the file to append to it."""
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: Kind, connection: int, *, address: str = "", digest: str = "") -> None:
        """Append one line; it outlives this process once this returns."""
        line = json.dumps(asdict(Event(monotonic(), kind, connection, address, digest)))
        os.write(self._handle, line.encode() + b"\n")


class Reader:
    """Reads the file while it grows."""

    def __init__(self, path: Path) -> None:
        """Start at its beginning."""
        self._path = path
        self._offset = 0
        self._rest = b""

    def fresh(self) -> Iterator[Event]:
        """Yield the events since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = file.tell()
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            values = json.loads(line)
            yield Event(**{**values, "kind": Kind(values["kind"])})
