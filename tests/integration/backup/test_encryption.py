"""Encrypted snapshots: what lies in the store, what opens it, and what is refused without the key."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import grpc
import pytest

from mailer.client import details_of
from mailer.clock import SystemClock
from mailer.errors import CannotStart, DataLoss, FailedPrecondition
from mailer.snapshot_key import SnapshotKey
from mailer.v1 import backup_pb2 as pb
from services.backup.create import Creator, Wish
from services.backup.drill import drill
from services.backup.encryption import Keys, refuse_silent_end
from services.backup.job import Job
from services.backup.pack import Packed, pack, unpack
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.stage import Stages
from services.backup.vault import Vault
from services.backup.verify import verify
from tests.fakes.clock import START
from tests.integration.backup.conftest import Service, make_restorer
from tests.integration.backup.mailing import MIGRATIONS, add_run, change, rows

ROOT = Path(__file__).parents[3]
FIRST, SECOND = SnapshotKey(b"1" * 32), SnapshotKey(b"2" * 32)
PLAIN, UNDER_FIRST, UNDER_SECOND, ROTATED = Keys(), Keys([FIRST]), Keys([SECOND]), Keys([SECOND, FIRST])
WISH = Wish(trigger=Trigger.MANUAL, note="before the update")
ADDRESS = "ada.lovelace@example.org"


def with_keys(vault: Vault, keys: Keys) -> Vault:
    """Return the same store as a service sees it that was given these keys."""
    return Vault(vault.directory, keys)


def take(vault: Vault, live: Path, job: Job, keys: Keys) -> Snapshot:
    return Creator(vault=with_keys(vault, keys), live=live, clock=SystemClock()).create(WISH, job)


def suppressed(path: Path) -> list[tuple[str, ...]]:
    return rows(path, "SELECT address FROM suppressions")


@pytest.fixture(autouse=True)
def _content(live: Path) -> None:
    change(live, f"INSERT INTO suppressions VALUES ('{ADDRESS}', '', 0)")


def test_an_encrypted_snapshot_is_proven_and_says_nothing_of_its_content(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    assert (snapshot.state, snapshot.key_id) == (State.OK, FIRST.id)
    data = vault.packed_path(snapshot).read_bytes()
    assert data.startswith(b"mailer snapshot\x01")
    assert b"(\xb5/\xfd" not in data[:100]
    assert verify(with_keys(vault, UNDER_FIRST), snapshot, job, now=START).state is State.OK


def test_the_key_lies_nowhere_in_the_store(vault: Vault, live: Path, job: Job) -> None:
    take(vault, live, job, UNDER_FIRST)
    for path in vault.directory.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert FIRST.key not in data
            assert FIRST.to_text().encode() not in data


def test_an_encrypted_snapshot_is_restored_and_so_is_the_state_before_it(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    add_run(live, "later")
    own = with_keys(vault, UNDER_FIRST)
    restored = make_restorer(own, live).restore(snapshot.snapshot_id, job, request_id="r")
    before = own.get(restored.pre_restore_snapshot_id)
    assert (before.trigger, before.key_id, before.state) == (Trigger.PRE_RESTORE, FIRST.id, State.OK)
    assert suppressed(live) == [(ADDRESS,)]
    make_restorer(own, live).restore(before.snapshot_id, job, request_id="undo")
    assert rows(live, "SELECT run_id FROM runs") == [("later",)]


def test_the_drill_opens_it_too(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    own = with_keys(vault, UNDER_FIRST)
    assert drill(own, Stages(own, MIGRATIONS), job).snapshot_id == snapshot.snapshot_id
    with pytest.raises(FailedPrecondition, match="not given"):
        drill(vault, Stages(vault, MIGRATIONS), job)


def test_a_snapshot_from_before_the_encryption_stays_restorable(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, PLAIN)
    change(live, "DELETE FROM suppressions")
    own = with_keys(vault, UNDER_FIRST)
    assert verify(own, snapshot, job, now=START).state is State.OK
    restored = make_restorer(own, live).restore(snapshot.snapshot_id, job, request_id="r")
    assert suppressed(live) == [(ADDRESS,)]
    assert own.get(restored.pre_restore_snapshot_id).key_id == FIRST.id


def test_a_rotated_key_opens_what_it_encrypted(vault: Vault, live: Path, job: Job) -> None:
    old, new = take(vault, live, job, UNDER_FIRST), take(vault, live, job, ROTATED)
    assert (old.key_id, new.key_id) == (FIRST.id, SECOND.id)
    for snapshot in (old, new):
        assert verify(with_keys(vault, ROTATED), snapshot, job, now=START).state is State.OK


@pytest.mark.parametrize("keys", [PLAIN, UNDER_SECOND], ids=["no key", "another key"])
def test_without_its_key_nothing_is_touched(vault: Vault, live: Path, job: Job, keys: Keys) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    own, before = with_keys(vault, keys), live.read_bytes()
    for call in (
        lambda: verify(own, snapshot, job, now=START),
        lambda: make_restorer(own, live).restore(snapshot.snapshot_id, job, request_id="r"),
        lambda: make_restorer(own, live).plan(snapshot.snapshot_id, job),
    ):
        with pytest.raises(FailedPrecondition, match=FIRST.id) as caught:
            call()
        assert caught.value.reason == "SNAPSHOT_KEY_MISSING"
    assert live.read_bytes() == before
    assert vault.snapshots() == [snapshot]


def test_a_key_of_the_same_id_does_not_help(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    forged = with_keys(vault, UNDER_SECOND)
    known = verify(forged, replace(snapshot, key_id=SECOND.id), job, now=START)
    assert known.damage == "it is encrypted under another key than its manifest says"


def test_no_flipped_bit_goes_unseen_even_under_the_right_hash(
    vault: Vault, live: Path, job: Job, tmp_path: Path
) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    packed = vault.packed_path(snapshot)
    whole, random = packed.read_bytes(), Random(5)
    for _ in range(100):
        bit = random.randrange(len(whole) * 8)
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        packed.write_bytes(data)
        forged = replace(snapshot, packed_sha256=hashlib.sha256(data).hexdigest())
        with pytest.raises(DataLoss):
            unpack(packed, forged, tmp_path / "copy.db", job, keys=UNDER_FIRST)


def test_one_snapshot_in_the_place_of_another_is_damaged(vault: Vault, live: Path, job: Job) -> None:
    old, new = take(vault, live, job, UNDER_FIRST), take(vault, live, job, UNDER_FIRST)
    vault.packed_path(new).write_bytes(vault.packed_path(old).read_bytes())
    forged = replace(old, snapshot_id=new.snapshot_id)
    assert "altered, moved" in verify(with_keys(vault, UNDER_FIRST), forged, job, now=START).damage


def test_what_is_not_encrypted_is_not_published_while_a_key_is_set(
    monkeypatch: pytest.MonkeyPatch, vault: Vault, live: Path, job: Job
) -> None:
    def pack_openly(plain: Path, packed: Path, job: Job, **_: object) -> Packed:
        return pack(plain, packed, job)

    monkeypatch.setattr("services.backup.create.pack", pack_openly)
    with pytest.raises(RuntimeError, match="must not be published"):
        take(vault, live, job, UNDER_FIRST)
    monkeypatch.setattr("services.backup.pre_restore.pack", pack_openly)
    snapshot = take(vault, live, job, PLAIN)
    with pytest.raises(RuntimeError, match="must not be published"):
        make_restorer(with_keys(vault, UNDER_FIRST), live).restore(snapshot.snapshot_id, job, request_id="r")
    assert vault.snapshots() == [snapshot]


def test_encryption_does_not_end_by_a_setting_that_got_lost(vault: Vault, live: Path, job: Job) -> None:
    take(vault, live, job, PLAIN)
    refuse_silent_end(PLAIN, vault.snapshots())
    take(vault, live, job, UNDER_FIRST)
    with pytest.raises(CannotStart, match=r"MAILER_BACKUP_ENCRYPTION=off"):
        refuse_silent_end(PLAIN, vault.snapshots())
    refuse_silent_end(UNDER_SECOND, vault.snapshots())
    refuse_silent_end(Keys([FIRST], off=True), vault.snapshots())


def test_a_manifest_of_before_has_no_key(vault: Vault, live: Path, job: Job) -> None:
    snapshot = take(vault, live, job, PLAIN)
    body = json.loads(snapshot.to_json())
    del body["key_id"], body["manifest_sha256"]
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    body["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    written = json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n"
    assert Snapshot.from_json(written, snapshot_id=snapshot.snapshot_id) == snapshot


def test_a_packed_copy_unpacks_to_the_same_rows(vault: Vault, live: Path, job: Job, tmp_path: Path) -> None:
    snapshot = take(vault, live, job, UNDER_FIRST)
    unpack(vault.packed_path(snapshot), snapshot, tmp_path / "copy.db", job, keys=UNDER_FIRST)
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        assert connection.execute("SELECT address FROM suppressions").fetchall() == [(ADDRESS,)]


async def test_list_says_locked_and_verify_and_restore_say_which_key_is_missing(
    service: Service, vault: Vault, live: Path, job: Job
) -> None:
    locked = take(vault, live, job, UNDER_FIRST)
    readable = take(vault, live, job, PLAIN)
    answer = await service.client.List(pb.BackupListRequest(), timeout=5)
    assert {one.snapshot_id: (one.state, one.key_id) for one in answer.snapshots} == {
        locked.snapshot_id: (pb.Snapshot.STATE_LOCKED, FIRST.id),
        readable.snapshot_id: (pb.Snapshot.STATE_OK, ""),
    }
    answer = await service.client.List(pb.BackupListRequest(states=[pb.Snapshot.STATE_LOCKED]), timeout=5)
    assert [one.snapshot_id for one in answer.snapshots] == [locked.snapshot_id]
    for call in (
        service.client.Verify(pb.BackupVerifyRequest(snapshot_id=locked.snapshot_id), timeout=10),
        service.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=locked.snapshot_id), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        details = details_of(caught.value)
        assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_KEY_MISSING")
        assert details.metadata["key_id"] == FIRST.id
    await service.keeper.health()
    assert service.registry.get_sample_value("mailer_backup_snapshots", {"state": "locked"}) == 1


def start(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start the service as a process that is expected to end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")}
    given = {"MAILER_DATA_DIR": str(tmp_path), "MAILER_BACKUP_PORT": "0", "MAILER_BACKUP_METRICS_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-m", "services.backup"],
        cwd=ROOT,
        env=inherited | {"MAILER_SETTINGS_FILE": os.devnull} | given | settings,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_service_whose_key_is_missing_does_not_start(tmp_path: Path) -> None:
    ended = start(tmp_path, MAILER_BACKUP_ENCRYPTION_KEY_FILE=str(tmp_path / "nowhere.key"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("mailer backup: MAILER_BACKUP_ENCRYPTION_KEY_FILE: ")


def test_a_service_that_lost_its_setting_does_not_start(tmp_path: Path, vault: Vault, live: Path, job: Job) -> None:
    take(vault, live, job, UNDER_FIRST)
    ended = start(tmp_path, MAILER_BACKUP_ENCRYPTION_KEY="")
    assert ended.returncode == 1
    assert "MAILER_BACKUP_ENCRYPTION=off" in ended.stderr
