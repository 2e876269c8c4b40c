"""Snapshots: what is in them, what is refused, and what is left behind."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailer.clock import SystemClock
from mailer.errors import AlreadyExists, CannotStart, DataLoss, FailedPrecondition, MailerError
from services.backup.create import Creator, Wish
from services.backup.drill import drill
from services.backup.job import Job, Phase, Progress
from services.backup.pack import Packed, pack, unpack
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.stage import Stages
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.integration.backup.mailing import MIGRATIONS, add_run, change, opened, rows

Take = Callable[[], Snapshot]
WISH = Wish(trigger=Trigger.MANUAL)


def test_the_store_is_for_its_owner_only(vault: Vault, take: Take) -> None:
    take()
    assert vault.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in vault.directory.iterdir() if path.is_file()} == {0o600}


def test_rows_that_are_only_in_the_journal_are_in_the_snapshot(
    vault: Vault, live: Path, take: Take, job: Job, tmp_path: Path
) -> None:
    with opened(live) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO suppressions VALUES ('ada@x', '', 0)")
        snapshot = take()
    unpack(vault.packed_path(snapshot), snapshot, tmp_path / "copy.db", job)
    assert rows(tmp_path / "copy.db", "SELECT address FROM suppressions") == [("ada@x",)]


def test_a_snapshot_unpacks_to_a_plain_sqlite_file(vault: Vault, take: Take, job: Job, tmp_path: Path) -> None:
    snapshot = take()
    unpack(vault.packed_path(snapshot), snapshot, tmp_path / "copy.db", job)
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA application_id").fetchone() == (0x4D41494C,)


def test_a_database_without_tables_of_ours_makes_no_snapshot(vault: Vault, tmp_path: Path, job: Job) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(FailedPrecondition, match="no tables"):
        Creator(vault=vault, live=empty, clock=SystemClock()).create(WISH, job)
    assert vault.snapshots() == []


def test_broken_references_make_no_snapshot(live: Path, vault: Vault, take: Take) -> None:
    add_run(live, "run")
    with sqlite3.connect(live) as connection:
        connection.execute("DELETE FROM campaigns")
    with pytest.raises(DataLoss, match="refers to a row"):
        take()
    assert vault.snapshots() == []


def test_a_create_that_is_repeated_after_a_restart_is_answered_with_its_snapshot(
    vault: Vault, live: Path, creator: Creator, job: Job
) -> None:
    wish = Wish(trigger=Trigger.MANUAL, request_id="r", request_digest="body", note="first")
    snapshot = creator.create(wish, job)
    started_anew = Creator(vault=Vault(vault.directory), live=live, clock=SystemClock())
    assert started_anew.create(wish, job) == snapshot
    with pytest.raises(AlreadyExists, match="was used for another Create") as caught:
        started_anew.create(replace(wish, request_digest="another body"), job)
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert vault.snapshots() == [snapshot]


def test_a_full_disk_is_said_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, vault: Vault, take: Take
) -> None:
    usage = shutil.disk_usage(vault.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(FailedPrecondition, match="Not enough space"):
        take()
    assert list((vault.directory / "work").iterdir()) == []


def test_a_disk_that_fills_while_it_is_copied_to_is_not_blamed_on_the_database(
    monkeypatch: pytest.MonkeyPatch, take: Take
) -> None:
    @contextmanager
    def filling(*_: object) -> Iterator[None]:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        yield
        raise error

    monkeypatch.setattr("services.backup.copy_sqlite._watched", filling)
    with pytest.raises(FailedPrecondition, match="Not enough space") as caught:
        take()
    assert caught.value.reason == "NOT_ENOUGH_SPACE"


def test_what_is_unpacked_to_be_looked_at_must_fit(
    monkeypatch: pytest.MonkeyPatch, vault: Vault, take: Take, job: Job
) -> None:
    snapshot = take()
    usage = shutil.disk_usage(vault.directory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=snapshot.plain_size_bytes))
    with pytest.raises(FailedPrecondition, match="Not enough space"):
        verify(vault, snapshot, job, now=SystemClock().now())
    with pytest.raises(FailedPrecondition, match="Not enough space"):
        drill(vault, Stages(vault, MIGRATIONS), job)
    assert vault.get(snapshot.snapshot_id).state is State.OK


def test_a_copy_that_the_disk_did_not_keep_is_not_published(
    monkeypatch: pytest.MonkeyPatch, vault: Vault, take: Take
) -> None:
    def pack_badly(plain: Path, packed: Path, job: Job, **how: Any) -> Packed:
        figures = pack(plain, packed, job, **how)
        data = bytearray(packed.read_bytes())
        data[len(data) // 2] ^= 1
        packed.write_bytes(data)
        return figures

    monkeypatch.setattr("services.backup.create.pack", pack_badly)
    with pytest.raises(DataLoss):
        take()
    assert vault.snapshots() == []


@pytest.mark.parametrize("phase", list(Phase)[:4])
def test_a_stopped_create_leaves_nothing(vault: Vault, creator: Creator, phase: Phase) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase is phase:
            job.stop()

    job = Job(SystemClock(), limit_seconds=60, report=stop)
    with pytest.raises(MailerError, match="stopping"):
        creator.create(WISH, job)
    assert list((vault.directory / "work").iterdir()) == []
    assert list(vault.directory.glob("mailer_*")) == []


def test_a_create_that_takes_too_long_ends(vault: Vault, creator: Creator) -> None:
    with pytest.raises(MailerError, match="Not finished within"):
        creator.create(WISH, Job(SystemClock(), limit_seconds=0))
    assert vault.snapshots() == []


@pytest.mark.parametrize("change_data", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_cut_or_grown_copy_is_damaged(
    vault: Vault, take: Take, job: Job, change_data: Callable[[bytes], bytes]
) -> None:
    snapshot = take()
    packed = vault.packed_path(snapshot)
    packed.write_bytes(change_data(packed.read_bytes()))
    assert vault.get(snapshot.snapshot_id).state is State.DAMAGED
    assert verify(vault, snapshot, job, now=SystemClock().now()).state is State.DAMAGED


def test_a_lost_copy_is_damaged(vault: Vault, take: Take, job: Job) -> None:
    snapshot = take()
    vault.packed_path(snapshot).unlink()
    assert vault.get(snapshot.snapshot_id).damage == "the packed copy is missing"


def test_a_copy_that_is_put_back_is_good_after_a_verify(vault: Vault, take: Take, job: Job) -> None:
    snapshot = take()
    packed = vault.packed_path(snapshot)
    data = packed.read_bytes()
    packed.write_bytes(data[:-1])
    verify(vault, snapshot, job, now=SystemClock().now())
    packed.write_bytes(data)
    verify(vault, vault.get(snapshot.snapshot_id), job, now=SystemClock().now())
    assert vault.get(snapshot.snapshot_id).state is State.OK


def test_a_verify_does_not_bring_a_removed_snapshot_back(vault: Vault, take: Take, job: Job) -> None:
    snapshot = take()
    vault.remove(snapshot.snapshot_id)
    assert vault.record(replace(snapshot, note="changed")) is False
    assert vault.snapshots() == []


def test_half_a_publication_is_no_snapshot_and_is_swept(vault: Vault, take: Take) -> None:
    good = take()
    orphan = vault.directory / "mailer_20260101T000000Z-0a1b2c3d.db.zst"
    orphan.write_bytes(b"x")
    (vault.directory / "work" / "mailer_20260101T000000Z-0a1b2c3d.halfway").touch()
    (vault.directory / "work" / "copy-1234").write_bytes(b"x")
    (vault.directory / f".{good.snapshot_id}.json.new").write_bytes(b"x")
    (vault.directory / "notes.txt").write_text("mine")
    assert [one.snapshot_id for one in vault.snapshots()] == [good.snapshot_id]
    Vault(vault.directory).open()
    assert not orphan.exists()
    assert list(vault.directory.glob(".*")) == []
    assert list((vault.directory / "work").iterdir()) == []
    assert (vault.directory / "notes.txt").exists()


def test_a_copy_that_somebody_brings_back_before_its_manifest_is_not_swept(vault: Vault, take: Take) -> None:
    snapshot = take()
    manifest = vault.directory / f"{snapshot.snapshot_id}.json"
    data = manifest.read_bytes()
    manifest.unlink()
    take()
    Vault(vault.directory).open()
    manifest.write_bytes(data)
    assert vault.get(snapshot.snapshot_id).state is State.OK


def test_folders_and_links_that_are_named_like_ours_are_passed_over(vault: Vault, take: Take, tmp_path: Path) -> None:
    for name in ("mailer_20260101T000000Z-00000001.db.zst", "mailer_20260101T000000Z-00000002.json"):
        (vault.directory / name).mkdir()
    (vault.directory / ".mailer_20260101T000000Z-00000003.json.new").mkdir()
    (vault.directory / "work" / "link").symlink_to(tmp_path, target_is_directory=True)
    (vault.directory / "work" / "mailer_20260101T000000Z-00000001.halfway").touch()
    Vault(vault.directory).open()
    snapshot = take()
    assert [one.snapshot_id for one in vault.snapshots()] == [snapshot.snapshot_id]
    vault.remove(snapshot.snapshot_id)
    assert vault.snapshots() == []
    assert list((vault.directory / "work").iterdir()) == []
    assert not (tmp_path / "lock").exists()


def test_a_folder_in_the_place_of_a_copy_is_a_missing_copy_and_is_not_removed(
    vault: Vault, take: Take, job: Job
) -> None:
    snapshot = take()
    packed = vault.packed_path(snapshot)
    packed.unlink()
    packed.mkdir()
    assert verify(vault, snapshot, job, now=SystemClock().now()).damage == "its packed copy is missing"
    assert vault.get(snapshot.snapshot_id).state is State.DAMAGED
    vault.remove(snapshot.snapshot_id)
    assert vault.snapshots() == []
    assert packed.is_dir()


def test_a_sweep_takes_nothing_from_those_who_are_at_work(vault: Vault) -> None:
    with vault.scratch("verify") as path:
        assert Vault(vault.directory).sweep() == []
        assert path.exists()
    assert list((vault.directory / "work").iterdir()) == []


def test_a_second_process_sweeps_nothing_while_the_first_publishes(vault: Vault) -> None:
    with vault.exclusive():
        unpublished = vault.directory / "mailer_20260101T000000Z-0a1b2c3d.db.zst"
        unpublished.write_bytes(b"x")
        Vault(vault.directory).open()
        assert unpublished.exists()


def test_a_store_has_one_service(vault: Vault) -> None:
    other = Vault(vault.directory)
    with vault.occupied(), pytest.raises(CannotStart, match="another backup service"), other.occupied():
        pass
    with other.occupied():
        pass


def test_a_store_in_a_place_that_cannot_hold_one_does_not_start() -> None:
    nowhere = Vault(Path("/proc/no/such/folder"))
    with pytest.raises(CannotStart, match="cannot use /proc/no"), nowhere.occupied():
        pass


def test_a_small_copy_says_how_long_writers_waited_too(live: Path, take: Take) -> None:
    with sqlite3.connect(live, isolation_level=None, check_same_thread=False) as writer:
        writer.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, writer.execute, ("ROLLBACK",))
        release.start()
        assert take().writer_wait_seconds > 0.1
        release.join()
    writer.close()


def test_a_copy_says_how_long_writers_waited(live: Path, take: Take) -> None:
    change(live, "INSERT INTO suppressions VALUES ('ada@x', '', 0)")
    assert 0 <= take().writer_wait_seconds < 5
