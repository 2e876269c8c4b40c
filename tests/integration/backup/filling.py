"""A process with a small disk of its own, which is full when an operation has come so far.

`unshare -rm python -m tests.integration.backup.filling <folder> store|live|both <operation> <where>`

In the folder lies `empty.db`, a database with all tables. The disk is a tmpfs that only this process sees, so it is the
kernel that refuses to write. What is on it: the store, the live database, or both. Prints one JSON object: how the
operation ended, what lay there then, and how it went once there was room again.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mailer.clock import SystemClock
from mailer.errors import MailerError
from services.backup import copy_sqlite, create, pre_restore, restore, stage, vault
from services.backup import verify as verification
from services.backup.create import Creator, Wish
from services.backup.job import Job
from services.backup.pruning import prune
from services.backup.restore import Restorer
from services.backup.restore_book import RestoreBook
from services.backup.retention import Policy
from services.backup.snapshot import Trigger
from services.backup.swap import Swap
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.integration.backup import traffic
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import opened, rows

SIZE = 96 * 1024 * 1024  # more than what Create and Restore ask for beforehand
_FILLER_ROWS = 4000
_FACTS = 4000

_BEFORE: dict[str, tuple[object, str]] = {
    "copying": (copy_sqlite, "_watched"),
    "packing": (create, "pack"),
    "publishing": (vault, "replace_file"),
    "unpacking to verify": (verification, "unpack"),
    "staging": (stage, "unpack"),
    "rebuilding": (restore, "rebuild"),
    "preparing": (Restorer, "_prepare"),
    "copying the state before": (pre_restore, "copy_database"),
    "packing the state before": (pre_restore, "pack"),
    "carrying": (Restorer, "_carry"),
    "writing down": (RestoreBook, "write"),
    "swapping": (Swap, "_after_step"),
    "closing": (Restorer, "_close"),
    "settling": (Restorer, "_settle"),
    "putting in place": (restore, "put_in_place"),
}


@dataclass
class Report:
    """What came out."""

    reason: str = ""
    message: str = ""
    leftovers: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """Of the snapshots that are listed, once there is room to read them."""
    era: str = ""
    """Of the live database; empty when there is none."""
    is_sound: bool = True
    facts: int = 0
    repeated: str = ""
    """The reason that a repetition gave, once there was room again; empty when it went well."""
    era_after: str = ""


class Disk:
    """A small disk, with ballast on it when it is to be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        handle = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    os.write(handle, bytes(size))
        os.close(handle)
        if shutil.disk_usage(self.folder).free:
            raise RuntimeError("the disk is not full")

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


def _main(folder: Path, what: str, operation: str, where: str) -> None:
    disk = Disk(folder / "small")
    live = (disk.folder if what in {"live", "both"} else folder) / "data" / "mailer.db"
    store = Vault((disk.folder if what in {"store", "both"} else folder) / "backups")
    live.parent.mkdir()
    shutil.copyfile(folder / "empty.db", live)
    traffic.prepare(live, era="old", filler_rows=_FILLER_ROWS)
    store.open()
    act = _operation(operation, live, store)
    _change_since(live)
    if where == "rebuilding":
        _rebuild(live)
    if operation == "restore offline":
        for path in live.parent.iterdir():
            path.unlink()
    report = Report()
    if where == "before":
        disk.fill()
    else:
        _arm(*_BEFORE[where], disk.fill)
    try:
        act()
    except MailerError as error:
        report.reason, report.message = error.reason, error.message
    report.leftovers = _leftovers(store, live)
    disk.free()
    _look(report, store, live)
    try:
        act()
    except MailerError as error:
        report.repeated = error.reason
    report.era_after = _era(live)
    print(json.dumps(asdict(report)))  # noqa: T201


def _operation(operation: str, live: Path, store: Vault) -> Callable[[], object]:
    creator = Creator(vault=store, live=live, clock=SystemClock())
    restorer = make_restorer(store, live)
    first = creator.create(Wish(trigger=Trigger.MANUAL), _job())
    match operation:
        case "create":
            return lambda: creator.create(Wish(trigger=Trigger.MANUAL), _job())
        case "verify":
            return lambda: verify(store, first, _job(), now=SystemClock().now())
        case "prune":
            creator.create(Wish(trigger=Trigger.MANUAL), _job())
            now = SystemClock().now
            return lambda: prune(store, Policy(keep_last=1), now=now(), zone=now().tzinfo)  # type: ignore[arg-type]
        case _:
            return lambda: restorer.restore(first.snapshot_id, _job(), request_id="r")


def _job() -> Job:
    return Job(SystemClock(), limit_seconds=60)


def _change_since(live: Path) -> None:
    """Begin another era, and add facts that a restore has to carry."""
    traffic.begin_era(live, "new")
    with opened(live) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO suppressions VALUES (?, ?, 0)", [(f"{number}@x", "why " * 50) for number in range(_FACTS)]
        )
        for number in range(_FACTS):
            connection.execute(
                "INSERT INTO send_logs (log_key, run_id, account_id, worker, stage, outcome, reply_code,"
                " enhanced_code, reply_text, description, retry_count, start_time, end_time)"
                " VALUES (?, '', '', '', '', 'sent', 250, '', '', '', 0, 0, 0)",
                (f"log-{number}",),
            )
        connection.execute("COMMIT")


def _rebuild(live: Path) -> None:
    with opened(live) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA page_size=8192")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")


def _arm(owner: object, name: str, fill: Callable[[], None]) -> None:
    """Let the disk be full just before that is called for the first time."""
    true, calls = getattr(owner, name), [fill]

    def filled(*args: Any, **kwargs: Any) -> Any:
        if calls:
            calls.pop()()
        return true(*args, **kwargs)

    setattr(owner, name, filled)


def _leftovers(store: Vault, live: Path) -> list[str]:
    known = {f"{one.snapshot_id}{end}" for one in store.snapshots() for end in (".json", ".db.zst")}
    known |= {"work", "restores", "store.lock", "manifests.lock"}
    found = [path.name for path in store.directory.iterdir() if path.name not in known]
    found += [f"work/{path.name}" for path in (store.directory / "work").iterdir()]
    found += [path.name for path in store.directory.glob("restores/*") if path.suffix != ".json"]
    beside = {live.name, f"{live.name}-wal", f"{live.name}-shm", f"{live.name}.users", f"{live.name}.migrating"}
    return found + [path.name for path in live.parent.iterdir() if path.name not in beside]


def _look(report: Report, store: Vault, live: Path) -> None:
    report.states = [verify(store, one, _job(), now=SystemClock().now()).state.value for one in store.snapshots()]
    report.era = _era(live)
    if report.era:
        report.is_sound = rows(live, "PRAGMA integrity_check") == [("ok",)]
        ((report.facts,),) = rows(live, "SELECT count(*) FROM suppressions")


def _era(live: Path) -> str:
    """Return the era of the live database, or what is mixed in it."""
    if not live.exists():
        return ""
    with opened(live) as connection:
        total, begins, ends = traffic.look(connection)
    return begins if (total, begins) == (traffic.TOTAL, ends) else f"{begins}, {ends}, {total}"


if __name__ == "__main__":
    _main(Path(sys.argv[1]), *sys.argv[2:])
