"""What writers and readers have to say: one line each time, in a file of their own, written once it is true."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Written:
    """A write that was acknowledged. Times are CLOCK_MONOTONIC, which all processes of a machine share."""

    number: int
    era: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Looked:
    """So many looks, each in one transaction, and how many of them saw a mix."""

    looks: int
    mixed: int


class Pen:
    """Writes a diary."""

    def __init__(self, path: Path) -> None:
        """Open the file to append to it."""
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, entry: Written | Looked) -> None:
        """Append one line; it outlives this process once this returns."""
        os.write(self._handle, json.dumps(list(asdict(entry).values())).encode() + b"\n")


class Diary:
    """Reads a diary while it grows."""

    def __init__(self, path: Path) -> None:
        """Start at its beginning."""
        self._path = path
        self._offset = 0

    def fresh(self) -> Iterator[list[float | int | str]]:
        """Yield the values of the lines since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)
