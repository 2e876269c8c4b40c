"""Restores that go well, that are refused, and that find no database to restore into."""

import errno
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from mailer.database import users_lock_path
from mailer.database.migrate import migrate_all
from mailer.errors import DataLoss, FailedPrecondition, MailerError
from mailer.lockfile import LockFile
from services.backup import live as live_module
from services.backup.create import Creator, Wish
from services.backup.job import Job, Phase, Progress
from services.backup.pack import pack, unpack
from services.backup.restore import Restorer
from services.backup.restore_book import Entry, RestoreBook
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.swap import Swap
from services.backup.vault import Vault
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import (
    MIGRATIONS,
    add_delivery,
    add_run,
    change,
    opened,
    rows,
    run_states,
    states,
)

Take = Callable[[], Snapshot]


def incarnation(live: Path) -> str:
    return str(rows(live, "SELECT incarnation FROM database_identity")[0][0])


def with_page_size(live: Path, size: int) -> None:
    with opened(live) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL")


def leftovers(vault: Vault, live: Path) -> list[str]:
    work = [path.name for path in (vault.directory / "work").iterdir()]
    return work + [path.name for path in live.parent.iterdir() if "arriving" in path.name]


class TestOnline:
    def test_rows_since_the_snapshot_go_and_rows_of_the_snapshot_come_back(
        self, live: Path, take: Take, restorer: Restorer, job: Job
    ) -> None:
        add_run(live, "run", state="finished")
        snapshot = take()
        change(live, "UPDATE campaigns SET name = 'renamed'")
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert rows(live, "SELECT name FROM campaigns") == [("run",)]

    def test_an_open_connection_sees_the_new_content_and_stays_in_wal_mode(
        self, live: Path, take: Take, restorer: Restorer, job: Job
    ) -> None:
        snapshot = take()
        change(live, "INSERT INTO templates VALUES ('t', 'n', x'', '', 0, 0)")
        with opened(live) as connection:
            assert connection.execute("SELECT count(*) FROM templates").fetchone() == (1,)
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
            assert connection.execute("SELECT count(*) FROM templates").fetchone() == (0,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def test_the_state_before_is_a_verified_snapshot(
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job
    ) -> None:
        snapshot = take()
        add_run(live, "later")
        restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        before = vault.get(restored.pre_restore_snapshot_id)
        assert (before.trigger, before.state) == (Trigger.PRE_RESTORE, State.OK)
        assert before.row_counts["runs"] == 1
        assert before.incarnation == "first"

    def test_pages_of_another_size_are_rebuilt(self, live: Path, take: Take, restorer: Restorer, job: Job) -> None:
        add_run(live, "run", state="finished")
        with_page_size(live, 16384)
        snapshot = take()
        change(live, "UPDATE campaigns SET name = 'renamed'")
        with_page_size(live, 4096)
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert rows(live, "SELECT name FROM campaigns") == [("run",)]
        assert rows(live, "PRAGMA page_size") == [(4096,)]

    @pytest.mark.parametrize("size", [512, 16384])
    def test_pages_of_another_size_are_rebuilt_also_for_a_database_without_tables(
        self, live: Path, take: Take, restorer: Restorer, job: Job, size: int
    ) -> None:
        add_run(live, "run", state="finished")
        snapshot = take()
        for path in live.parent.glob("mailer.db*"):
            if path.is_file() and "users" not in path.name:
                path.unlink()
        with opened(live) as connection:
            connection.execute(f"PRAGMA page_size={size}")
            connection.execute("PRAGMA journal_mode=WAL")
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
            assert connection.execute("SELECT name FROM campaigns").fetchall() == [("run",)]
            assert connection.execute("PRAGMA page_size").fetchone() == (size,)

    def test_an_older_schema_is_brought_up_to_date(self, live: Path, vault: Vault, tmp_path: Path, job: Job) -> None:
        older = tmp_path / "older.db"
        migrate_all(f"sqlite:///{older}", MIGRATIONS[:1])
        snapshot = Creator(vault=vault, live=older, clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
        make_restorer(vault, live).restore(snapshot.snapshot_id, job, request_id="r")
        assert rows(live, "SELECT count(*) FROM deliveries") == [(0,)]

    def test_a_reader_in_the_middle_of_its_work_is_not_disturbed(
        self, live: Path, take: Take, restorer: Restorer, job: Job
    ) -> None:
        snapshot = take()
        add_run(live, "later")
        with opened(live) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM campaigns").fetchone() == (1,)
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
            assert reader.execute("SELECT count(*) FROM campaigns").fetchone() == (1,)
            reader.execute("COMMIT")

    def test_nothing_is_left_behind(self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job) -> None:
        restorer.restore(take().snapshot_id, job, request_id="r")
        assert leftovers(vault, live) == []


class TestRefused:
    def test_a_newer_schema(self, live: Path, take: Take, restorer: Restorer, job: Job) -> None:
        before = rows(live, "SELECT version_num FROM alembic_version_sender")[0][0]
        change(live, "UPDATE alembic_version_sender SET version_num = '9999'")
        snapshot = take()
        change(live, "UPDATE alembic_version_sender SET version_num = ?", before)
        with pytest.raises(FailedPrecondition, match="newer sender") as caught:
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert caught.value.reason == "SNAPSHOT_NEWER"
        assert incarnation(live) == "first"

    def test_a_live_database_of_a_newer_schema(self, live: Path, take: Take, restorer: Restorer, job: Job) -> None:
        snapshot = take()
        change(live, "UPDATE alembic_version_sender SET version_num = '9999'")
        with pytest.raises(FailedPrecondition, match="newer sender"):
            restorer.plan(snapshot.snapshot_id, job)
        with pytest.raises(FailedPrecondition, match="newer sender") as caught:
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert caught.value.reason == "DATABASE_NEWER"
        assert rows(live, "SELECT version_num FROM alembic_version_sender") == [("9999",)]

    def test_a_live_database_that_was_migrated_just_before_the_lock_was_taken(
        self, live: Path, take: Take, restorer: Restorer, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot, run = take(), Swap.run

        def migrated_before(swap: Swap, job: Job) -> float:
            change(live, "UPDATE alembic_version_sender SET version_num = '9999'")
            return run(swap, job)

        monkeypatch.setattr(Swap, "run", migrated_before)
        with pytest.raises(FailedPrecondition, match="newer sender"):
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert incarnation(live) == "first"

    def test_a_live_database_of_another_application(self, live: Path, take: Take, restorer: Restorer, job: Job) -> None:
        snapshot = take()
        change(live, "PRAGMA application_id = 7")
        with pytest.raises(FailedPrecondition, match="another application"):
            restorer.restore(snapshot.snapshot_id, job, request_id="r")

    def test_a_snapshot_of_another_application(
        self, live: Path, vault: Vault, restorer: Restorer, take: Take, job: Job
    ) -> None:
        change(live, "PRAGMA application_id = 0")
        change(live, "DROP TABLE runs")
        snapshot = _of_other_application(live, vault, job)
        change(live, f"PRAGMA application_id = {0x4D41494C}")
        with pytest.raises(FailedPrecondition, match="another application"):
            restorer.restore(snapshot.snapshot_id, job, request_id="r")

    def test_a_snapshot_of_another_engine(
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job
    ) -> None:
        snapshot = take()
        vault.record(replace(snapshot, engine="postgresql"))
        for refused in (restorer.plan, partial(restorer.restore, request_id="r")):
            with pytest.raises(FailedPrecondition, match="is of postgresql") as caught:
                refused(snapshot.snapshot_id, job)
            assert caught.value.reason == "WRONG_ENGINE"
        assert incarnation(live) == "first"

    @pytest.mark.parametrize("size", [0, 1, -1])
    def test_a_snapshot_that_was_cut(  # noqa: PLR0917
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, size: int
    ) -> None:
        snapshot = take()
        packed = vault.packed_path(snapshot)
        packed.write_bytes(packed.read_bytes()[:size])
        for refused in (restorer.plan, partial(restorer.restore, request_id="r")):
            with pytest.raises(DataLoss) as caught:
                refused(snapshot.snapshot_id, job)
            assert caught.value.reason == "SNAPSHOT_DAMAGED"
        assert incarnation(live) == "first"

    def test_more_time_under_the_lock_than_allowed(self, live: Path, vault: Vault, take: Take, job: Job) -> None:
        snapshot = take()
        with pytest.raises(MailerError, match="kept writers waiting") as caught:
            make_restorer(vault, live, lock_limit=0).restore(snapshot.snapshot_id, job, request_id="r")
        assert caught.value.reason == "DATABASE_BUSY"
        assert incarnation(live) == "first"
        assert len(vault.snapshots()) == 1
        assert leftovers(vault, live) == []

    def test_a_writer_that_never_ends(self, live: Path, take: Take, restorer: Restorer) -> None:
        snapshot = take()
        with opened(live) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(MailerError, match="Not finished within"):
                restorer.restore(snapshot.snapshot_id, Job(SystemClock(), limit_seconds=1), request_id="r")
            writer.execute("ROLLBACK")
        assert incarnation(live) == "first"

    @pytest.mark.parametrize("phase", [Phase.VERIFYING, Phase.CARRYING, Phase.PACKING, Phase.COPYING])
    def test_a_stop_in_any_phase_leaves_everything_as_it_was(
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, phase: Phase
    ) -> None:
        add_run(live, "run")
        snapshot = take()
        add_run(live, "later")

        def stop(progress: Progress) -> None:
            if progress.phase is phase:
                stopped.stop()

        stopped = Job(SystemClock(), limit_seconds=60, report=stop)
        with pytest.raises(MailerError, match="stopping"):
            restorer.restore(snapshot.snapshot_id, stopped, request_id="r")
        assert incarnation(live) == "first"
        assert run_states(live) == {"run": "sending", "later": "sending"}
        assert [one.snapshot_id for one in vault.snapshots()] == [snapshot.snapshot_id]
        assert leftovers(vault, live) == []


class TestLostDatabase:
    @pytest.fixture
    def snapshot(self, live: Path, take: Take) -> Snapshot:
        add_run(live, "run")
        for state in ("pending", "deferred", "sent"):
            add_delivery(live, state, run_id="run", state=state)
        return take()

    def test_what_may_have_been_sent_since_comes_back_unknown(
        self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job
    ) -> None:
        live.unlink()
        restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert states(live) == {"pending": "unknown", "deferred": "unknown", "sent": "sent"}
        assert run_states(live) == {"run": "held"}
        assert restored.held_run_ids == ("run",)
        assert restored.pre_restore_snapshot_id == ""
        assert incarnation(live) == restored.incarnation

    def test_a_journal_of_the_lost_file_is_not_played_into_the_new_one(
        self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job
    ) -> None:
        with opened(live) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("UPDATE campaigns SET name = 'from the journal'")
            live.unlink()
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
            assert rows(live, "SELECT name FROM campaigns") == [("run",)]
        assert rows(live, "PRAGMA integrity_check") == [("ok",)]

    def test_a_damaged_file_is_set_aside(self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job) -> None:
        live.write_bytes(b"damaged beyond opening" * 1000)
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert states(live)["pending"] == "unknown"
        (aside,) = live.parent.glob("mailer.db.damaged-*")
        assert aside.read_bytes().startswith(b"damaged")

    def test_a_file_damaged_inside_is_set_aside(
        self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job
    ) -> None:
        with sqlite3.connect(live) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'deliveries'").fetchone()
        connection.close()
        with live.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(b"\xff" * 4096)
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert states(live) == {"pending": "unknown", "deferred": "unknown", "sent": "sent"}
        assert len(list(live.parent.glob("mailer.db.damaged-*"))) == 1

    def test_a_file_that_others_have_open_is_left_alone(
        self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_module, "_PATIENCE_SECONDS", 0.1)
        live.write_bytes(b"damaged beyond opening" * 1000)
        service = LockFile(users_lock_path(live))
        assert service.acquire(shared=True)
        with pytest.raises(FailedPrecondition, match="stop the scheduler and the sender"):
            restorer.restore(snapshot.snapshot_id, job, request_id="r")
        service.release()
        assert live.read_bytes().startswith(b"damaged")

    def test_the_plan_says_so_before(self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job) -> None:
        live.unlink()
        plan = restorer.plan(snapshot.snapshot_id, job)
        assert plan.held_run_ids == ("run",)
        assert not live.exists()

    def test_an_empty_file_in_its_place_is_no_database(
        self, live: Path, snapshot: Snapshot, restorer: Restorer, job: Job
    ) -> None:
        live.unlink()
        live.touch()
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert states(live)["pending"] == "unknown"
        assert rows(live, "PRAGMA journal_mode") == [("wal",)]


class TestCutShort:
    def test_a_restore_that_had_committed_is_not_done_again(
        self, live: Path, take: Take, restorer: Restorer, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot = take()

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Restorer, "_settle", die)
            with pytest.raises(KeyboardInterrupt):
                restorer.restore(snapshot.snapshot_id, job, request_id="r")
        committed = incarnation(live)
        add_run(live, "since")
        restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert restored.incarnation == committed == incarnation(live)
        assert run_states(live) == {"since": "sending"}

    def test_repeating_one_that_nobody_wrote_down_does_not_undo_a_later_one(
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job
    ) -> None:
        snapshot = take()
        first = restorer.restore(snapshot.snapshot_id, job, request_id="first")
        book = RestoreBook(vault.directory / "restores")
        entry = book.find("first", snapshot_id=snapshot.snapshot_id)
        assert entry is not None
        book.write(replace(entry, done=False))
        later = restorer.restore(first.pre_restore_snapshot_id, job, request_id="later")
        repeated = restorer.restore(snapshot.snapshot_id, job, request_id="first")
        assert repeated == first
        assert incarnation(live) == later.incarnation

    def test_it_is_written_down_at_the_next_start(self, vault: Vault, take: Take, restorer: Restorer, job: Job) -> None:
        snapshot = take()
        book = RestoreBook(vault.directory / "restores")
        happened = restorer.restore(snapshot.snapshot_id, job, request_id="happened")
        for request_id, restored in (("happened", happened), ("begun", replace(happened, incarnation="never"))):
            book.write(Entry(request_id=request_id, snapshot_id=snapshot.snapshot_id, done=False, restored=restored))
        restorer.sweep()
        entry = book.find("happened", snapshot_id=snapshot.snapshot_id)
        assert entry is not None
        assert (entry.done, entry.restored) == (True, happened)
        assert book.find("begun", snapshot_id=snapshot.snapshot_id) is None

    @pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"null", b"[]", b"{}", b'{"restored": {"tables": [1]}}'])
    def test_an_entry_that_cannot_be_read_is_set_aside_and_stops_no_restore(  # noqa: PLR0917
        self, live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job, damage: bytes
    ) -> None:
        snapshot = take()
        before = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        (entry,) = (vault.directory / "restores").glob("*.json")
        entry.write_bytes(damage)
        restorer.sweep()
        again = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert before.incarnation != again.incarnation == incarnation(live)
        assert entry.with_suffix(".damaged").read_bytes() == damage

    def test_one_whose_end_could_not_be_written_down_has_happened(
        self, live: Path, take: Take, restorer: Restorer, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot, write = take(), RestoreBook.write

        def write_first(book: RestoreBook, entry: Entry) -> None:
            if entry.done:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(book, entry)

        with monkeypatch.context() as patched:
            patched.setattr(RestoreBook, "write", write_first)
            restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert incarnation(live) == restored.incarnation
        repeated = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert repeated.incarnation == restored.incarnation == incarnation(live)

    def test_a_restore_that_had_not_committed_is_done(
        self, live: Path, take: Take, restorer: Restorer, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        snapshot = take()

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Swap, "run", die)
            with pytest.raises(KeyboardInterrupt):
                restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert incarnation(live) == "first"
        restored = restorer.restore(snapshot.snapshot_id, job, request_id="r")
        assert restored.incarnation == incarnation(live)


def test_a_snapshot_that_nobody_has_proven_is_proven_before_it_comes_back(
    live: Path, vault: Vault, take: Take, restorer: Restorer, job: Job
) -> None:
    add_run(live, "run")
    snapshot = _unsound(vault, take(), job)
    with pytest.raises(DataLoss, match="refers to a row"):
        restorer.restore(snapshot.snapshot_id, job, request_id="r")
    assert incarnation(live) == "first"


def _unsound(vault: Vault, snapshot: Snapshot, job: Job) -> Snapshot:
    """Replace a snapshot by one whose hashes are right and whose database is not sound."""
    with vault.scratch("plain") as plain, vault.scratch("packed") as packed:
        unpack(vault.packed_path(snapshot), snapshot, plain, job)
        with sqlite3.connect(plain) as connection:
            connection.execute("UPDATE runs SET campaign_id = 'nobody'")
        connection.close()
        figures = pack(plain, packed, job)
        unsound = replace(
            snapshot,
            verified_time=None,
            plain_sha256=figures.plain_sha256,
            plain_size_bytes=figures.plain_size_bytes,
            packed_sha256=figures.packed_sha256,
            packed_size_bytes=figures.packed_size_bytes,
        )
        vault.publish(unsound, packed)
    return unsound


def _of_other_application(live: Path, vault: Vault, job: Job) -> Snapshot:
    """Take a snapshot of a database that is not ours, past the check that refuses it."""
    creator = Creator(vault=vault, live=live, clock=SystemClock())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("services.backup.create.look", lambda _: live_module.LiveState.USABLE)
        return creator.create(Wish(trigger=Trigger.MANUAL), job)
