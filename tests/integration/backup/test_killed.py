"""SIGKILL in the middle of Create and Restore."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot, State
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.fakes.clock import START
from tests.integration.backup import traffic
from tests.integration.backup.mailing import add_delivery, add_run, opened, rows, states

Take = Callable[[], Snapshot]
ROOT = Path(__file__).parents[3]


def kill(operation: str, live: Path, vault: Vault, where: str, snapshot_id: str = "") -> None:
    """Run an operation in a process that kills itself there."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.integration.backup.dying",
            operation,
            str(live),
            str(vault.directory),
            where,
            snapshot_id,
        ],
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


def temporary(vault: Vault) -> list[str]:
    known = {f"{one.snapshot_id}{end}" for one in vault.snapshots() for end in (".json", ".db.zst")}
    names = [path.name for path in vault.directory.glob("mailer_*") if path.name not in known]
    return names + [path.name for path in (vault.directory / "work").iterdir()]


@pytest.mark.parametrize(
    "where", ["copying", "checking:2", "packing", "packing:3", "verifying:2", "between the renames"]
)
def test_a_killed_create_is_not_listed_and_is_swept(live: Path, vault: Vault, take: Take, where: str) -> None:
    traffic.prepare(live, era="first", filler_rows=6000)
    good = take()
    kill("create", live, vault, where)
    assert [one.snapshot_id for one in vault.snapshots()] == [good.snapshot_id]
    assert temporary(vault) != []
    Vault(vault.directory).open()
    assert temporary(vault) == []
    assert take().state is State.OK


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize(
    "where", ["before the file is in place", "while the file is missing", "after the file is in place"]
)
def test_a_killed_restore_of_a_lost_database_can_be_repeated(  # noqa: PLR0917
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, where: str, is_damaged: bool
) -> None:
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    add_delivery(live, "bob", run_id="run", state="sent")
    snapshot = take()
    for path in live.parent.glob("mailer.db*"):
        path.unlink()
    damage = b"damaged beyond opening" * 1000
    if is_damaged:
        live.write_bytes(damage)
    kill("restore", live, vault, where, snapshot.snapshot_id)
    Vault(vault.directory).open()
    restorer.sweep()
    assert temporary(vault) == []
    assert [path.name for path in live.parent.iterdir() if "arriving" in path.name] == []
    before = rows(live, "SELECT incarnation FROM database_identity") if where.startswith("after") else []
    restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert states(live) == {"ada": "unknown", "bob": "sent"}
    assert rows(live, "PRAGMA integrity_check") == [("ok",)]
    assert not before or before == [(restored.incarnation,)]
    asides = [path.read_bytes() for path in live.parent.glob("mailer.db.damaged-*") if path.suffix != ".users"]
    assert asides == ([damage] if is_damaged else [])


@pytest.mark.parametrize(
    ("where", "happened"),
    [
        ("verifying", False),
        ("carrying", False),
        ("packing:2", False),
        ("before the entry", False),
        ("swap:1", False),
        ("swap:4", False),
        ("swap:9", False),
        ("after the commit", True),
    ],
)
def test_a_killed_restore_leaves_the_old_or_the_new_and_can_be_repeated(  # noqa: PLR0917
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, where: str, happened: bool
) -> None:
    traffic.prepare(live, era="old", filler_rows=9000)
    add_run(live, "run")
    add_delivery(live, "ada", run_id="run")
    old = take()
    traffic.begin_era(live, "new")
    kill("restore", live, vault, where, old.snapshot_id)
    era = "old" if happened else "new"
    with opened(live) as connection:
        assert traffic.look(connection) == (traffic.TOTAL, era, era)
    assert rows(live, "PRAGMA integrity_check") == [("ok",)]
    Vault(vault.directory).open()
    assert temporary(vault) == []
    for snapshot in vault.snapshots():
        assert verify(vault, snapshot, job, now=START).state is State.OK
    restorer.restore(old.snapshot_id, job, request_id="r")
    with opened(live) as connection:
        assert traffic.look(connection) == (traffic.TOTAL, "old", "old")
    assert states(live) == {"ada": "pending"}
