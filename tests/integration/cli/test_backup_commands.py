"""Backups by command line, over a real channel."""

from pathlib import Path

from mailer.snapshot_key import read_keys
from mailer.v1 import backup_pb2
from tests.fakes.scripted_backup import ScriptedBackup
from tests.fakes.scripted_scheduler import ScriptedScheduler, State
from tests.integration.cli.conftest import CommandLine


async def test_a_snapshot_is_taken_and_listed(mailer: CommandLine, backup: ScriptedBackup) -> None:
    outcome = await mailer("backup", "create", "--note", "before the update", "--json")
    assert outcome.document["snapshot"]["note"] == "before the update"
    assert len((await mailer("backup", "list", "--json")).document["snapshots"]) == 1


async def test_damage_has_its_own_status(mailer: CommandLine, backup: ScriptedBackup) -> None:
    backup.snapshots = [backup.snapshot(state=backup_pb2.Snapshot.STATE_DAMAGED, damage="one byte differs")]
    outcome = await mailer("backup", "verify", "snapshot-0")
    assert outcome.status == 6
    assert "one byte differs" in outcome.out


async def test_the_latest_snapshot_is_never_a_damaged_one(mailer: CommandLine, backup: ScriptedBackup) -> None:
    backup.snapshots = [backup.snapshot(state=backup_pb2.Snapshot.STATE_DAMAGED)]
    backup.snapshots.append(backup.snapshot())
    outcome = await mailer("backup", "verify", "latest", "--json")
    assert outcome.document["snapshot"]["snapshot_id"] == "snapshot-1"


async def test_the_latest_snapshot_is_never_one_that_undoes_a_restore(
    mailer: CommandLine, backup: ScriptedBackup
) -> None:
    backup.snapshots = [backup.snapshot(trigger=backup_pb2.Snapshot.TRIGGER_PRE_RESTORE)]
    outcome = await mailer("backup", "restore", "latest", "--yes")
    assert outcome.status == 3
    assert "of the state before a restore" in outcome.err
    backup.snapshots.append(backup.snapshot())
    await mailer("backup", "restore", "latest", "--yes")
    assert backup.restored == ["snapshot-1"]


async def test_without_a_snapshot_there_is_no_latest(mailer: CommandLine) -> None:
    outcome = await mailer("backup", "restore", "latest", "--yes")
    assert outcome.status == 3
    assert "mailer backup create" in outcome.err


async def test_nothing_is_pruned_before_the_plan_was_agreed_to(mailer: CommandLine, backup: ScriptedBackup) -> None:
    outcome = await mailer("backup", "prune", "--keep-last", "3")
    assert outcome.status == 2
    assert "old" in outcome.err
    assert [request.validate_only for request in backup.pruned] == [True]


async def test_without_a_question_the_plan_is_shown_all_the_same(mailer: CommandLine, backup: ScriptedBackup) -> None:
    pruned = await mailer("backup", "prune", "--keep-last", "3", "--yes")
    assert "would be removed" in pruned.err
    restored = await mailer("backup", "restore", "snapshot-0", "--yes")
    assert "12 messages, still known as sent afterwards" in restored.err
    assert (len(backup.pruned), backup.restored) == (2, ["snapshot-0"])


async def test_a_script_that_reads_json_gets_no_plan(mailer: CommandLine, backup: ScriptedBackup) -> None:
    outcomes = [
        await mailer("backup", "prune", "--keep-last", "3", "--yes", "--json"),
        await mailer("backup", "restore", "snapshot-0", "--yes", "--json"),
    ]
    assert ["would be" in one.err or "known as sent" in one.err for one in outcomes] == [False, False]
    assert (len(backup.pruned), backup.restored) == (2, ["snapshot-0"])


async def test_a_dry_run_prunes_nothing(mailer: CommandLine, backup: ScriptedBackup) -> None:
    outcome = await mailer("backup", "prune", "--keep-last", "3", "--dry-run", "--yes")
    assert outcome.status == 0
    assert "would be removed" in outcome.out
    assert [request.validate_only for request in backup.pruned] == [True]


async def test_without_a_rule_those_of_the_settings_prune(mailer: CommandLine, backup: ScriptedBackup) -> None:
    await mailer("backup", "prune", "--yes")
    assert backup.pruned[-1] == backup_pb2.BackupPruneRequest(policy=backup_pb2.RetentionPolicy(keep_last_count=7))


async def test_nothing_is_restored_before_the_plan_was_agreed_to(mailer: CommandLine, backup: ScriptedBackup) -> None:
    outcome = await mailer("backup", "restore", "snapshot-0")
    assert outcome.status == 2
    assert "12 messages, still known as sent afterwards" in outcome.err
    assert backup.restored == []


async def test_a_restore_says_how_to_undo_it_and_what_waits(
    mailer: CommandLine, backup: ScriptedBackup, scheduler: ScriptedScheduler
) -> None:
    scheduler.add("a" * 32, "winter", State.STATE_HELD)
    outcome = await mailer("backup", "restore", "snapshot-0", "--yes")
    assert f"mailer campaign resume {'a' * 32}    # winter" in outcome.err
    assert backup.restored == ["snapshot-0"]
    assert "mailer backup restore before" in outcome.out
    assert "bb" in outcome.out
    assert "resume or cancel" in outcome.err


async def test_a_restore_by_script_prints_one_document(mailer: CommandLine) -> None:
    outcome = await mailer("backup", "restore", "snapshot-0", "--yes", "--json")
    assert outcome.document["held_run_ids"] == ["aa"]


async def test_a_new_key_is_for_its_owner_only_and_overwrites_nothing(mailer: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "backup.key"
    outcome = await mailer("backup", "new-key", str(file), "--json")
    (key,) = read_keys(file.read_text())
    assert outcome.document == {"file": str(file), "key_id": key.id}
    assert file.stat().st_mode & 0o777 == 0o600
    again = await mailer("backup", "new-key", str(file))
    assert again.status == 2
    assert "is there already" in again.err
    assert read_keys(file.read_text()) == (key,)


async def test_a_key_is_made_but_never_shown(mailer: CommandLine, tmp_path: Path) -> None:
    outcome = await mailer("backup", "new-key", str(tmp_path / "backup.key"))
    (key,) = read_keys((tmp_path / "backup.key").read_text())
    assert key.id in outcome.out
    assert key.to_text() not in outcome.out + outcome.err


async def test_a_key_that_cannot_be_written_is_said(mailer: CommandLine, tmp_path: Path) -> None:
    outcome = await mailer("backup", "new-key", str(tmp_path / "no" / "backup.key"))
    assert outcome.status == 2
    assert "cannot be made" in outcome.err


async def test_a_locked_snapshot_names_the_key_that_is_missing(mailer: CommandLine, backup: ScriptedBackup) -> None:
    locked = backup.snapshot(state=backup_pb2.Snapshot.STATE_LOCKED)
    locked.key_id = "0a1b2c3d4e5f"
    backup.snapshots = [locked]
    outcome = await mailer("backup", "list")
    assert "locked" in outcome.out
    assert "not given key 0a1b2c3d4e5f" in outcome.out


async def test_where_every_snapshot_is_locked_there_is_no_latest(mailer: CommandLine, backup: ScriptedBackup) -> None:
    backup.snapshots = [backup.snapshot(state=backup_pb2.Snapshot.STATE_LOCKED)]
    outcome = await mailer("backup", "restore", "latest", "--yes")
    assert outcome.status == 3
    assert "locked" in outcome.err


async def test_the_list_says_how_it_is_with_the_copies(mailer: CommandLine, backup: ScriptedBackup) -> None:
    one = backup.snapshot()
    one.copy_state = backup_pb2.Snapshot.COPY_STATE_ONLY_COPY
    backup.snapshots = [one]
    backup.health.waiting_copy_count = 2
    backup.health.last_copy_failure = "The bucket is away."
    backup.health.last_copy_failure_time.GetCurrentTime()
    outcome = await mailer("backup", "list")
    assert "only copy" in outcome.out
    assert "Copies: last never, 2 to be made." in outcome.out
    assert "The bucket is away." in outcome.out


async def test_copies_that_no_rule_keeps_are_shown_before_they_go(mailer: CommandLine, backup: ScriptedBackup) -> None:
    backup.removed_copy_ids = ["lost", "old"]
    outcome = await mailer("backup", "prune", "--keep-last", "3", "--dry-run")
    assert "copy would be removed" in outcome.out
    assert "2 copies off the machine would be removed." in outcome.out
