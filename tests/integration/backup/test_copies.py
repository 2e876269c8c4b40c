"""Copies off the machine: made, compared, found again, pruned and fetched, in a folder and in a bucket."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from mailer.errors import Aborted, DataLoss, FailedPrecondition, MailerError, NotFound
from mailer.snapshot_key import SnapshotKey
from services.backup import pruning
from services.backup.copies.copier import Copier
from services.backup.copies.shelf import Shelf
from services.backup.create import Creator, Wish
from services.backup.encryption import Keys
from services.backup.job import Job, Phase, Progress
from services.backup.retention import Policy
from services.backup.schedule import check_zone
from services.backup.shown import Copy
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.integration.backup.conftest import make_restorer
from tests.integration.backup.mailing import add_delivery, add_run, change, rows, states
from tests.integration.backup.sites import Site

Take = Callable[[], Snapshot]
ROOT = Path(__file__).parents[3]
KEY = Keys([SnapshotKey(b"1" * 32)])
ZONE = check_zone("UTC")


def copier_of(vault: Vault, site: Site, folder: str = "a") -> Copier:
    opened = Copier(vault=vault, shelf=Shelf(site.place(folder)), clock=SystemClock())
    opened.open()
    return opened


@pytest.fixture
def copier(vault: Vault, site: Site) -> Copier:
    return copier_of(vault, site)


def copy(copier: Copier) -> bool:
    return copier.copy_all(lambda: Job(SystemClock(), limit_seconds=60))


def pair(snapshot: Snapshot, folder: str = "a") -> set[str]:
    return {f"{folder}/{snapshot.snapshot_id}.db.zst", f"{folder}/{snapshot.snapshot_id}.json"}


def flip(site: Site, path: str) -> None:
    data = bytearray(site.files()[path])
    data[len(data) // 2] ^= 1
    site.write(path, bytes(data))


def empty_store(tmp_path: Path, keys: Keys = KEY) -> Vault:
    """Return the store of a machine that has nothing."""
    opened = Vault(tmp_path / "new machine" / "backups", keys)
    opened.open()
    return opened


class TestCopying:
    def test_both_files_lie_there_as_they_lie_here(self, copier: Copier, vault: Vault, site: Site, take: Take) -> None:
        snapshot = take()
        assert copier.copy_of(snapshot) is Copy.UNKNOWN
        assert copy(copier)
        names = (f"{snapshot.snapshot_id}.db.zst", f"{snapshot.snapshot_id}.json")
        assert site.files() == {f"a/{name}": (vault.directory / name).read_bytes() for name in names}
        assert copier.copy_of(snapshot) is Copy.COPIED
        assert copier.book.success_time is not None

    def test_what_was_copied_is_not_copied_again(self, copier: Copier, site: Site, take: Take) -> None:
        take()
        copy(copier)
        before = site.place().names()
        take()
        assert copy(copier)
        assert before.items() < site.place().names().items()

    def test_a_copy_that_somebody_cut_short_is_made_anew(self, copier: Copier, site: Site, take: Take) -> None:
        snapshot = take()
        copy(copier)
        whole = site.files()
        site.write(f"a/{snapshot.snapshot_id}.db.zst", b"half")
        copier.look()
        assert copier.copy_of(snapshot) is Copy.WAITING
        assert copy(copier)
        assert site.files() == whole

    def test_only_what_is_proven_leaves_the_machine(self, copier: Copier, vault: Vault, site: Site, take: Take) -> None:
        snapshot = take()
        vault.record(replace(snapshot, verified_time=None))
        assert copy(copier)
        assert site.files() == {}

    def test_what_is_not_encrypted_does_not_leave_a_machine_that_encrypts(
        self, vault: Vault, site: Site, live: Path, take: Take, job: Job
    ) -> None:
        openly = take()
        keyed = Vault(vault.directory, KEY)
        closed = Creator(vault=keyed, live=live, clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
        own = copier_of(keyed, site)
        assert copy(own)
        assert set(site.files()) == pair(closed)
        assert own.copy_of(openly) is Copy.NONE

    def test_a_new_machine_without_the_key_lays_nothing_readable_beside_encrypted_copies(
        self, vault: Vault, site: Site, live: Path, job: Job, tmp_path: Path
    ) -> None:
        keyed = Vault(vault.directory, KEY)
        closed = Creator(vault=keyed, live=live, clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
        assert copy(copier_of(keyed, site))
        new = empty_store(tmp_path, Keys())
        Creator(vault=new, live=live, clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
        own = copier_of(new, site)
        assert not copy(own)
        assert "MAILER_BACKUP_ENCRYPTION=off" in own.book.failure
        assert set(site.files()) == pair(closed)
        assert copy(copier_of(Vault(new.directory, Keys(off=True)), site))
        assert len(site.files()) == 4

    def test_a_place_that_is_away_keeps_them_waiting_until_it_is_back(
        self, copier: Copier, site: Site, take: Take
    ) -> None:
        snapshot = take()
        site.go()
        assert not copy(copier)
        assert "The place of the copies" in copier.book.failure
        assert copier.copy_of(snapshot) is Copy.UNKNOWN
        site.come_back()
        assert copy(copier)
        assert copier.copy_of(snapshot) is Copy.COPIED
        assert copier.book.failure_time is None

    def test_what_is_wrong_with_one_does_not_keep_the_others(
        self, copier: Copier, vault: Vault, site: Site, take: Take
    ) -> None:
        good, bad = take(), take()
        packed = vault.packed_path(bad)
        data = bytearray(packed.read_bytes())
        data[len(data) // 2] ^= 1
        packed.write_bytes(data)
        assert not copy(copier)
        assert bad.snapshot_id in copier.book.failure
        assert set(site.files()) == pair(good)

    def test_a_snapshot_pruned_while_it_is_copied_is_not_published(
        self, copier: Copier, vault: Vault, site: Site, take: Take
    ) -> None:
        snapshot = take()

        def prune(_: Progress) -> None:
            vault.remove(snapshot.snapshot_id)

        assert copier.copy_all(lambda: Job(SystemClock(), limit_seconds=60, report=prune))
        assert site.files() == {}
        assert copier.book.begun_ids == frozenset()

    def test_a_store_that_cannot_be_read_is_said(
        self, copier: Copier, vault: Vault, take: Take, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "mailer_1.db.zst")

        take()
        monkeypatch.setattr(Vault, "packed_path", broken)
        assert not copy(copier)
        assert "mailer_1.db.zst: Input/output error" in copier.book.failure

    def test_a_copy_that_was_told_to_stop_leaves_nothing_and_is_no_failure(
        self, copier: Copier, site: Site, take: Take
    ) -> None:
        take()
        job = Job(SystemClock(), limit_seconds=60, report=lambda _: job.stop())
        assert not copier.copy_all(lambda: job)
        assert not [path for path in site.files() if path.endswith(".json")]
        assert copier.book.failure_time is None
        assert copy(copier)
        assert len(site.files()) == 2

    def test_two_stores_in_two_folders_do_not_touch_one_another(
        self, copier: Copier, vault: Vault, site: Site, take: Take, tmp_path: Path
    ) -> None:
        snapshot = take()
        other = empty_store(tmp_path, Keys())
        shutil.copytree(vault.directory, other.directory, dirs_exist_ok=True)
        second = copier_of(other, site, "ab")
        assert copy(copier)
        assert copy(second)
        assert copier.remove([snapshot.snapshot_id]) == [snapshot.snapshot_id]
        assert set(site.files()) == pair(snapshot, "ab")

    def test_foreign_files_are_neither_listed_nor_removed(self, copier: Copier, site: Site, take: Take) -> None:
        foreign = {
            "a/notes.txt": b"mine",
            "a/mailer_foreign.json": b"{}",
            "a/mailer_20260101T000000Z-00000001.db.zst": b"without a manifest",
            "a/mailer_20260101T000000Z-00000002.json": b"{",
        }
        for path, data in foreign.items():
            site.write(path, data)
        snapshot = take()
        assert copy(copier)
        seen = copier.look()
        assert {one: there.state for one, there in seen.items()} == {
            snapshot.snapshot_id: State.OK,
            "mailer_20260101T000000Z-00000002": State.DAMAGED,
        }
        policy, now = Policy(keep_last=1), SystemClock().now()
        pruned = pruning.plan(
            copier._vault, policy, now=now, zone=ZONE, copies=pruning.Copies(snapshots=seen, own_ids=None)
        )
        assert pruned.removed_copies == ()
        assert foreign.items() < site.files().items()


class TestKilled:
    def kill(self, vault: Vault, site: Site, where: str) -> None:
        settings = {"MAILER_SETTINGS_FILE": os.devnull, "MAILER_BACKUP_COPY_URL": site.url(), **site.environment()}
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.backup.dying_copy", str(vault.directory), where],
            cwd=ROOT,
            env=os.environ | settings,
            check=False,
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL

    @pytest.fixture
    def large(self, live: Path, take: Take) -> Snapshot:
        """Return a snapshot that is sent in several parts."""
        change(live, "CREATE TABLE filler (data BLOB)")
        change(live, f"INSERT INTO filler VALUES (randomblob({6 << 20}))")
        return take()

    @pytest.mark.parametrize(("where", "listed"), [("copying:2", 0), ("between the two", 0), ("after both", 1)])
    def test_a_killed_copy_is_never_half_listed_and_goes_on_at_the_next_start(
        self, vault: Vault, site: Site, large: Snapshot, where: str, listed: int
    ) -> None:
        self.kill(vault, site, where)
        started = copier_of(vault, site)
        assert len(started.look()) == listed
        assert copy(started)
        assert set(site.files()) == pair(large)
        assert site.halves() == []
        assert started.book.own_ids == {large.snapshot_id}

    @pytest.mark.parametrize("where", ["copying:2", "between the two"])
    def test_what_was_pruned_after_the_kill_leaves_nothing(
        self, vault: Vault, site: Site, large: Snapshot, where: str
    ) -> None:
        self.kill(vault, site, where)
        vault.remove(large.snapshot_id)
        assert copy(copier_of(vault, site))
        assert (site.files(), site.halves()) == ({}, [])


class TestDiskLost:
    def test_a_new_machine_sees_what_lies_there_and_restores_it(
        self, copier: Copier, site: Site, live: Path, take: Take, tmp_path: Path
    ) -> None:
        add_run(live, "run")
        add_delivery(live, "ada", run_id="run")
        snapshot = take()
        copy(copier)
        new = empty_store(tmp_path)
        own, fresh = copier_of(new, site), new.directory.parent / "mailer.db"
        assert own.look() == {snapshot.snapshot_id: snapshot}
        seen: list[Progress] = []
        job = Job(SystemClock(), limit_seconds=60, report=seen.append)
        restored = make_restorer(new, fresh, find=own.find).restore(snapshot.snapshot_id, job, request_id="r")
        assert restored.held_run_ids == ("run",)
        assert states(fresh) == {"ada": "unknown"}
        fetched = [one for one in seen if one.phase is Phase.FETCHING]
        assert fetched[-1].done_bytes == fetched[-1].total_bytes == snapshot.packed_size_bytes
        assert own.copy_of(new.get(snapshot.snapshot_id)) is Copy.COPIED

    def test_one_that_is_damaged_there_is_refused_and_not_taken_in(
        self, copier: Copier, site: Site, take: Take, tmp_path: Path
    ) -> None:
        snapshot = take()
        copy(copier)
        flip(site, f"a/{snapshot.snapshot_id}.db.zst")
        new = empty_store(tmp_path)
        job = Job(SystemClock(), limit_seconds=60)
        with pytest.raises(DataLoss, match="does not match its SHA-256") as caught:
            copier_of(new, site).bring(snapshot.snapshot_id, job)
        assert caught.value.reason == "SNAPSHOT_DAMAGED"
        assert new.snapshots() == []
        assert list((new.directory / "work").iterdir()) == []

    def test_without_its_key_it_is_not_even_fetched(
        self, vault: Vault, site: Site, live: Path, job: Job, tmp_path: Path
    ) -> None:
        keyed = Vault(vault.directory, KEY)
        snapshot = Creator(vault=keyed, live=live, clock=SystemClock()).create(Wish(trigger=Trigger.MANUAL), job)
        copy(copier_of(keyed, site))
        new = empty_store(tmp_path, Keys())
        with pytest.raises(FailedPrecondition) as caught:
            copier_of(new, site).bring(snapshot.snapshot_id, job)
        assert caught.value.reason == "SNAPSHOT_KEY_MISSING"
        assert new.snapshots() == []
        again = empty_store(tmp_path)
        copier_of(again, site).bring(snapshot.snapshot_id, job)
        assert verify(again, again.get(snapshot.snapshot_id), job, now=SystemClock().now()).state is State.OK

    def test_one_that_is_damaged_here_is_fetched(
        self, copier: Copier, vault: Vault, live: Path, take: Take, job: Job
    ) -> None:
        change(live, "INSERT INTO suppressions VALUES ('ada@x', '', 0)")
        snapshot = take()
        copy(copier)
        vault.packed_path(snapshot).write_bytes(b"cut")
        change(live, "DELETE FROM suppressions")
        make_restorer(vault, live, find=copier.find).restore(snapshot.snapshot_id, job, request_id="r")
        assert rows(live, "SELECT address FROM suppressions") == [("ada@x",)]
        assert vault.get(snapshot.snapshot_id).state is State.OK

    def test_what_lies_nowhere_is_not_found(self, copier: Copier, job: Job) -> None:
        with pytest.raises(NotFound, match="There is no snapshot"):
            copier.bring("mailer_20261123T020000Z-0a1b2c3d", job)

    def test_a_place_that_is_away_is_said_where_it_is_needed(
        self, copier: Copier, site: Site, take: Take, tmp_path: Path
    ) -> None:
        snapshot = take()
        copy(copier)
        new, job = empty_store(tmp_path), Job(SystemClock(), limit_seconds=60)
        site.go()
        with pytest.raises(MailerError, match="The place of the copies"):
            copier_of(new, site).bring(snapshot.snapshot_id, job)
        copier.bring(snapshot.snapshot_id, job)

    def test_a_busy_store_fetches_nothing(self, copier: Copier, site: Site, take: Take, tmp_path: Path) -> None:
        snapshot = take()
        copy(copier)
        new = empty_store(tmp_path)
        with new.exclusive(), pytest.raises(Aborted):
            copier_of(new, site).bring(snapshot.snapshot_id, Job(SystemClock(), limit_seconds=60))

    def test_a_copy_that_grows_under_our_hands_fills_no_disk(
        self, copier: Copier, site: Site, take: Take, tmp_path: Path
    ) -> None:
        snapshot = take()
        copy(copier)
        new, job = empty_store(tmp_path), Job(SystemClock(), limit_seconds=60)
        own = copier_of(new, site)
        site.write(f"a/{snapshot.snapshot_id}.db.zst", bytes(8 << 20))
        with pytest.raises(DataLoss, match="larger than its manifest"):
            own._fetch(snapshot, job)
        assert new.snapshots() == []


class TestPrune:
    KEEP_ONE = Policy(keep_last=1)

    def prune(self, vault: Vault, copier: Copier, *, own_only: bool) -> pruning.Pruned:
        own_ids = copier.book.own_ids if own_only else None
        copies = pruning.Copies(snapshots=copier.look(), own_ids=own_ids)
        pruned = pruning.prune(vault, self.KEEP_ONE, now=SystemClock().now(), zone=ZONE, copies=copies)
        return replace(pruned, removed_copies=tuple(copier.remove(pruned.removed_copies)))

    def test_one_plan_counts_for_both_sides(self, copier: Copier, vault: Vault, site: Site, take: Take) -> None:
        old, new = take(), take()
        copy(copier)
        pruned = self.prune(vault, copier, own_only=True)
        assert pruned.removed == pruned.removed_copies == (old.snapshot_id,)
        assert set(site.files()) == pair(new)
        assert copy(copier)
        assert set(site.files()) == pair(new)

    def test_the_schedule_removes_nothing_that_this_store_has_not_copied(
        self, copier: Copier, site: Site, live: Path, take: Take, tmp_path: Path
    ) -> None:
        old, older = take(), take()
        copy(copier)
        new = empty_store(tmp_path, Keys())
        own = copier_of(new, site)
        snapshots = [
            Creator(vault=new, live=live, clock=SystemClock()).create(
                Wish(trigger=Trigger.CRON), Job(SystemClock(), limit_seconds=60)
            )
            for _ in range(2)
        ]
        copy(own)
        pruned = self.prune(new, own, own_only=True)
        assert pruned.removed_copies == (snapshots[0].snapshot_id,)
        reasons = {one.snapshot_id: one.reasons for one in pruned.kept}
        assert reasons[old.snapshot_id] == reasons[older.snapshot_id] == ("not copied by this store",)
        assert set(self.prune(new, own, own_only=False).removed_copies) == {old.snapshot_id, older.snapshot_id}
        assert set(site.files()) == pair(snapshots[1])

    def test_neither_side_leans_on_the_other(self, copier: Copier, vault: Vault, take: Take) -> None:
        both, here = take(), take()
        copy(copier)
        copier.remove([here.snapshot_id])
        kept = {one.snapshot_id: one.reasons for one in self.prune(vault, copier, own_only=False).kept}
        assert kept == {
            here.snapshot_id: ("newest verified", "keep-last 1"),
            both.snapshot_id: ("newest verified of the copies",),
        }

    def test_the_store_keeps_its_newest_though_a_newer_one_lies_there(
        self, copier: Copier, vault: Vault, take: Take
    ) -> None:
        here, there = take(), take()
        copy(copier)
        vault.remove(there.snapshot_id)
        kept = {one.snapshot_id: one.reasons for one in self.prune(vault, copier, own_only=False).kept}
        assert kept == {
            there.snapshot_id: ("newest verified", "keep-last 1"),
            here.snapshot_id: ("newest verified in the store",),
        }

    def test_what_could_not_be_removed_there_goes_next_time(
        self, copier: Copier, vault: Vault, site: Site, take: Take, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = take(), take()
        copy(copier)
        seen = copier.look()
        site.go()
        assert copier.remove([old.snapshot_id]) == []
        assert copier.book.failure_time is not None
        vault.remove(old.snapshot_id)
        site.come_back()
        if not site.files():
            return  # this kind of place comes back empty
        assert copier.look() == seen
        assert self.prune(vault, copier, own_only=True).removed_copies == (old.snapshot_id,)
        assert set(site.files()) == pair(new)

    def test_half_a_removal_leaves_no_snapshot(
        self, copier: Copier, site: Site, take: Take, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object) -> None:
            raise InterruptedError

        snapshot = take()
        copy(copier)
        monkeypatch.setattr(Shelf, "discard", stop)
        with pytest.raises(InterruptedError):
            copier.remove([snapshot.snapshot_id])
        assert copier.look() == {}

    def test_of_two_the_one_that_is_not_damaged_counts(
        self, copier: Copier, vault: Vault, site: Site, take: Take
    ) -> None:
        snapshot = take()
        copy(copier)
        packed = vault.packed_path(snapshot)
        whole = packed.read_bytes()
        packed.write_bytes(b"cut")
        (one,) = pruning.union(vault.snapshots(), copier.look())
        assert one.state is State.OK
        packed.write_bytes(whole)
        site.write(f"a/{snapshot.snapshot_id}.db.zst", b"cut")
        (one,) = pruning.union(vault.snapshots(), copier.look())
        assert one.state is State.OK
        packed.write_bytes(b"cut, too")
        (one,) = pruning.union(vault.snapshots(), copier.look())
        assert one.state is State.DAMAGED


def test_a_book_that_cannot_be_read_claims_nothing(copier: Copier, vault: Vault, site: Site, take: Take) -> None:
    take()
    copy(copier)
    assert copier_of(vault, site).book == copier.book
    (vault.directory / "copies.json").write_text("{")
    assert copier_of(vault, site).book.own_ids == frozenset()
