"""Snapshots and restores while other processes write and read."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.backup.job import Job
from services.backup.pack import unpack
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot
from services.backup.vault import Vault
from tests.integration.backup import traffic
from tests.integration.backup.mailing import opened, rows

Take = Callable[[], Snapshot]
ROOT = Path(__file__).parents[3]


@dataclass
class Traffic:
    """Processes at work, and what they have to say once they have ended."""

    processes: dict[str, "subprocess.Popen[str]"]
    reports: dict[str, dict[str, Any]]

    def end(self) -> None:
        """Tell them to end, and hear them."""
        for name, process in self.processes.items():
            out, _ = process.communicate("stop\n", timeout=60)
            self.reports[name] = json.loads(out)
        self.processes = {}

    @property
    def acknowledged(self) -> set[str]:
        return {key for report in self.reports.values() for key in report["acknowledged"]}

    @property
    def mixed(self) -> list[Any]:
        return [mix for report in self.reports.values() for mix in report["mixed"]]

    @property
    def eras_seen(self) -> set[str]:
        return {era for report in self.reports.values() for era in report["eras"]}


@contextmanager
def busy(live: Path, *, writers: int, readers: int) -> Iterator[Traffic]:
    """Let so many processes work on the database, until the block ends."""
    names = [("writer", f"w{number}") for number in range(writers)]
    names += [("reader", f"r{number}") for number in range(readers)]
    at_work = Traffic({}, {})
    try:
        for role, name in names:
            at_work.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.backup.traffic", role, str(live), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        for process in at_work.processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield at_work
        at_work.end()
    finally:
        for process in at_work.processes.values():
            process.kill()
            process.wait()


def test_snapshots_under_writers_are_consistent(live: Path, vault: Vault, take: Take, job: Job, tmp_path: Path) -> None:
    traffic.prepare(live, era="first")
    with busy(live, writers=2, readers=0):
        snapshots = [take() for _ in range(4)]
    for number, snapshot in enumerate(snapshots):
        copy = tmp_path / f"copy-{number}.db"
        unpack(vault.packed_path(snapshot), snapshot, copy, job)
        with opened(copy) as connection:
            assert traffic.look(connection)[0] == traffic.TOTAL
    logs = [snapshot.row_counts["send_logs"] for snapshot in snapshots]
    assert logs == sorted(logs)
    assert logs[0] < logs[-1]


def test_a_restore_under_readers_and_writers_shows_no_mix_and_loses_nothing_acknowledged(
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job
) -> None:
    traffic.prepare(live, era="old")
    old = take()
    traffic.begin_era(live, "new")
    with busy(live, writers=2, readers=2) as at_work:
        for number in range(3):
            assert restorer.restore(old.snapshot_id, job, request_id=f"r{number}").write_lock_seconds > 0
            with opened(live) as connection:
                assert traffic.look(connection)[1] == "old"
            traffic.begin_era(live, "new")
    assert at_work.mixed == []
    assert at_work.eras_seen == {"old", "new"}
    present = {key for (key,) in rows(live, "SELECT log_key FROM send_logs")}
    assert at_work.acknowledged <= present
    assert len(at_work.acknowledged) > 100
    assert rows(live, "PRAGMA integrity_check") == [("ok",)]


def test_the_state_before_a_restore_holds_every_write_up_to_it(  # noqa: PLR0917
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, tmp_path: Path
) -> None:
    traffic.prepare(live, era="old")
    old = take()
    traffic.begin_era(live, "new")
    with busy(live, writers=2, readers=0):
        restored = restorer.restore(old.snapshot_id, job, request_id="r")
    before = vault.get(restored.pre_restore_snapshot_id)
    unpack(vault.packed_path(before), before, tmp_path / "before.db", job)
    with opened(tmp_path / "before.db") as connection:
        assert traffic.look(connection) == (traffic.TOTAL, "new", "new")
    kept = {key for (key,) in rows(tmp_path / "before.db", "SELECT log_key FROM send_logs")}
    after = [key for (key,) in rows(live, "SELECT log_key FROM send_logs ORDER BY id")]
    # What is live now is what was there before the restore, followed by what was written after it: no gap.
    assert set(after[: len(kept)]) == kept
    for writer in ("w0", "w1"):
        numbers = [int(key.partition("-")[2]) for key in after if key.startswith(writer)]
        assert numbers == list(range(len(numbers)))
