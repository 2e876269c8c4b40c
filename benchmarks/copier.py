"""`python -m benchmarks.copier HOW LIVE TARGET SECONDS`: copy a database with what SQLite brings along.

`whole`: the backup API in one step, so in one read transaction. `steps`: 100 pages a step, as the `.backup` of the
sqlite3 shell and most examples have it; after a commit of another process it begins anew. It gives up after so many
seconds. `vacuum`: VACUUM INTO. Each then waits until its copy is on disk.

The last line is a JSON object; `began` and `ended` are by the clock that all processes of a machine share.
"""

import json
import os
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

PAGES_A_STEP = {"whole": -1, "steps": 100}


class _TooLate(Exception):
    """The time is over."""


@dataclass(slots=True)
class Steps:
    """How far the backup API has come, step by step."""

    end: float
    restarts: int = 0
    furthest: float = 0.0  # of 1
    _copied: int = 0

    def look(self, status: int, remaining: int, total: int) -> None:
        """Take note of a step; raises when the time is over."""
        copied = total - remaining
        self.restarts += status == sqlite3.SQLITE_OK and copied <= self._copied
        self.furthest = max(self.furthest, copied / total)
        self._copied = copied
        if remaining and monotonic() > self.end:
            raise _TooLate


def copy(how: str, live: Path, target: Path, seconds: float) -> dict[str, float]:
    """Copy, and return what came of it."""
    began = monotonic()
    steps = Steps(began + seconds)
    is_done = 0
    with closing(sqlite3.connect(live, isolation_level=None, timeout=5)) as connection:
        if how == "vacuum":
            connection.execute("VACUUM INTO ?", (str(target),))
            is_done = 1
        else:
            with closing(sqlite3.connect(target)) as copied, suppress(_TooLate):
                connection.backup(copied, pages=PAGES_A_STEP[how], progress=steps.look)
                is_done = 1
    file = os.open(target, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
    return {
        "began": began,
        "ended": monotonic(),
        "done": is_done,
        "restarts": steps.restarts,
        "furthest": steps.furthest,
    }


if __name__ == "__main__":
    print(json.dumps(copy(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))))
