"""Every method of the service over a real channel, with good and bad input."""

import asyncio
import errno
import os
import shutil
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from mailer.client import ErrorDetails, details_of
from mailer.v1 import backup_pb2 as pb
from services.backup.status import StatusFile
from services.backup.vault import Vault
from tests.integration.backup.conftest import Service
from tests.integration.backup.mailing import add_campaign, add_delivery, add_run, change, rows, states

PATHS = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "mailer_20261123T020000Z-0a1b2c3d/../settings",
    "mailer_20261123T020000Z-0a1b2c3d.json",
    "mailer_20261123T020000Z-0a1b2c3d\x00",
    "settings",
    "",
]
MISSING = "mailer_20261123T020000Z-0a1b2c3d"


async def refused(call: Awaitable[Any]) -> ErrorDetails:
    """Return how a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return details_of(caught.value)


async def created(service: Service, request_id: str = "first", **fields: Any) -> pb.BackupCreateResponse:
    return await service.client.Create(pb.BackupCreateRequest(request_id=request_id, **fields), timeout=30)


async def listed(service: Service, **fields: Any) -> list[str]:
    answer = await service.client.List(pb.BackupListRequest(**fields), timeout=5)
    return [snapshot.snapshot_id for snapshot in answer.snapshots]


async def update(service: Service, *paths: str, **fields: Any) -> pb.BackupUpdateSettingsResponse:
    return await service.client.UpdateSettings(
        pb.BackupUpdateSettingsRequest(settings=pb.BackupSettings(**fields), update_mask=FieldMask(paths=paths)),
        timeout=5,
    )


def remove(path: Path) -> None:
    path.unlink()


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def damage(vault: Vault, snapshot_id: str) -> None:
    path = vault.directory / f"{snapshot_id}.db.zst"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class TestCreate:
    async def test_the_answer_describes_a_proven_snapshot(self, service: Service, live: Path) -> None:
        add_run(live, "run")
        answer = await created(service, note="before the upgrade", pinned=True)
        snapshot = answer.snapshot
        assert snapshot.state == pb.Snapshot.STATE_OK
        assert snapshot.trigger == pb.Snapshot.TRIGGER_MANUAL
        assert snapshot.verify_time.ToDatetime(UTC) <= datetime.now(UTC)
        assert (snapshot.note, snapshot.pinned, snapshot.engine) == ("before the upgrade", True, "sqlite")
        assert snapshot.row_counts["runs"] == 1
        assert snapshot.database_size_bytes > snapshot.size_bytes > 0
        assert len(snapshot.sha256) == 64
        assert answer.duration.ToTimedelta().total_seconds() > 0
        assert "pinned" in snapshot.keep_reasons

    async def test_the_same_request_is_answered_the_same_and_takes_no_second_snapshot(self, service: Service) -> None:
        assert await created(service) == await created(service)
        assert len(await listed(service)) == 1

    async def test_the_same_id_with_another_body_is_refused(self, service: Service) -> None:
        await created(service)
        details = await refused(created(service, note="another"))
        assert (details.code, details.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    async def test_two_in_the_same_second_are_two(self, service: Service) -> None:
        await created(service, "one")
        await created(service, "two")
        assert len(set(await listed(service))) == 2

    async def test_all_wrong_fields_are_named(self, service: Service) -> None:
        details = await refused(created(service, "", note="x" * 501))
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in details.violations] == ["request_id", "note"]

    async def test_a_busy_store_answers_aborted(self, service: Service, vault: Vault) -> None:
        with vault.exclusive():
            details = await refused(created(service))
        assert (details.code, details.reason) == (grpc.StatusCode.ABORTED, "BACKUP_BUSY")

    async def test_a_missing_database_is_said_and_not_made(self, service: Service, live: Path) -> None:
        remove(live)
        details = await refused(created(service))
        assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATABASE_MISSING")
        assert content(live) is None

    async def test_a_damaged_database_makes_no_snapshot(self, service: Service, live: Path) -> None:
        overwrite(live, b"not a database at all" * 1000)
        details = await refused(created(service))
        assert (details.code, details.reason) == (grpc.StatusCode.DATA_LOSS, "DATABASE_DAMAGED")
        assert await listed(service) == []

    async def test_a_database_of_another_application_is_refused(self, service: Service, live: Path) -> None:
        change(live, "PRAGMA application_id = 7")
        details = await refused(created(service))
        assert details.reason == "NOT_A_MAILER_DATABASE"

    async def test_a_full_disk_is_said_also_when_nothing_more_can_be_written(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        monkeypatch.setattr(StatusFile, "store", full)
        details = await refused(created(service))
        assert details.code is grpc.StatusCode.FAILED_PRECONDITION
        health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        assert "Not enough space" in health.last_failure

    async def test_a_store_that_is_gone_is_said_and_shows_in_health(self, service: Service, vault: Vault) -> None:
        snapshot_id = (await created(service)).snapshot.snapshot_id
        shutil.rmtree(vault.directory)
        policy = pb.RetentionPolicy(keep_last_count=1)
        for call in (
            created(service, "second"),
            service.client.List(pb.BackupListRequest(), timeout=5),
            service.client.Prune(pb.BackupPruneRequest(policy=policy), timeout=5),
            service.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot_id), timeout=5),
            update(service, "backup_retention", backup_retention=3),
        ):
            details = await refused(call)
            assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STORE_UNUSABLE")
        answer = await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)
        assert "No such file" in answer.health.last_failure
        assert answer.health.stale
        assert answer.settings.backup_retention == 7

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE])
    async def test_a_disk_that_cannot_be_written_is_said_and_shows_in_health(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def broken(*_: object) -> None:
            raise OSError(number, os.strerror(number), "store.lock")

        monkeypatch.setattr(Vault, "exclusive", broken)
        details = await refused(created(service))
        assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STORE_UNUSABLE")
        health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        assert os.strerror(number) in health.last_failure

    async def test_a_create_that_ends_by_a_bug_shows_in_health(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Vault, "sweep", broken)
        assert (await refused(created(service))).code is grpc.StatusCode.INTERNAL
        health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        assert "ZeroDivisionError" in health.last_failure

    async def test_a_repeated_request_is_no_new_success(self, service: Service, live: Path) -> None:
        await created(service)
        await created(service, "second")
        change(live, "PRAGMA application_id = 7")
        await refused(created(service, "third"))
        before = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        await created(service)
        assert (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health == before
        labels = {"operation": "create", "outcome": "ok"}
        assert service.registry.get_sample_value("mailer_backup_operations_total", labels) == 2

    async def test_a_failure_shows_until_the_next_success(self, service: Service, live: Path) -> None:
        change(live, "PRAGMA application_id = 7")
        await refused(created(service))
        health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        assert "another application" in health.last_failure
        change(live, f"PRAGMA application_id = {0x4D41494C}")
        await created(service, "second")
        health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
        assert not health.HasField("last_failure_time")
        assert health.HasField("last_success_time")

    async def test_the_stream_ends_with_the_snapshot(self, service: Service) -> None:
        request = pb.BackupCreateStreamRequest(request_id="r")
        events = [event async for event in service.client.CreateStream(request, timeout=30)]
        assert [event.WhichOneof("event") for event in events][-1] == "result"
        assert {event.WhichOneof("event") for event in events[:-1]} <= {"progress"}
        assert [events[-1].result.snapshot.snapshot_id] == await listed(service)

    async def test_the_stream_refuses_what_the_call_refuses(self, service: Service) -> None:
        call = service.client.CreateStream(pb.BackupCreateStreamRequest(), timeout=30)
        details = await refused(anext(aiter(call)))
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT


class TestList:
    async def test_pages_are_newest_first_and_complete(self, service: Service) -> None:
        made = [(await created(service, f"r{number}")).snapshot.snapshot_id for number in range(5)]
        seen, token = [], ""
        while True:
            answer = await service.client.List(pb.BackupListRequest(page_size=2, page_token=token), timeout=5)
            seen += [snapshot.snapshot_id for snapshot in answer.snapshots]
            token = answer.next_page_token
            if not token:
                break
        assert seen == made[::-1]

    async def test_only_the_states_asked_for_are_shown(self, service: Service, vault: Vault) -> None:
        await created(service, "good")
        bad = (await created(service, "bad")).snapshot.snapshot_id
        damage(vault, bad)
        await service.client.Verify(pb.BackupVerifyRequest(snapshot_id=bad), timeout=10)
        assert await listed(service, states=[pb.Snapshot.STATE_DAMAGED]) == [bad]

    async def test_bad_tokens_and_states_are_refused(self, service: Service) -> None:
        details = await refused(
            service.client.List(pb.BackupListRequest(page_token="x", states=[pb.Snapshot.STATE_UNSPECIFIED]), timeout=5)
        )
        assert {violation.field for violation in details.violations} == {"states", "page_token"}

    async def test_damaged_and_foreign_files_do_not_hide_the_good_ones(self, service: Service, vault: Vault) -> None:
        good = (await created(service, "good")).snapshot.snapshot_id
        (vault.directory / f"{MISSING}.json").write_text("{")
        (vault.directory / "mailer_foreign.json").write_text("{}")
        (vault.directory / "notes.txt").write_text("mine")
        answer = await service.client.List(pb.BackupListRequest(), timeout=5)
        assert {one.snapshot_id: one.state for one in answer.snapshots} == {
            good: pb.Snapshot.STATE_OK,
            MISSING: pb.Snapshot.STATE_DAMAGED,
        }

    async def test_it_says_why_each_is_kept(self, service: Service) -> None:
        await update(service, "backup_retention", backup_retention=1)
        old = (await created(service, "old")).snapshot.snapshot_id
        new = (await created(service, "new")).snapshot.snapshot_id
        answer = await service.client.List(pb.BackupListRequest(), timeout=5)
        reasons = {one.snapshot_id: list(one.keep_reasons) for one in answer.snapshots}
        assert reasons == {new: ["newest verified", "keep-last 1"], old: []}


class TestPrune:
    async def test_what_no_rule_keeps_is_removed(self, service: Service) -> None:
        made = [(await created(service, f"r{number}")).snapshot.snapshot_id for number in range(3)]
        answer = await service.client.Prune(
            pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1)), timeout=5
        )
        assert list(answer.removed_snapshot_ids) == [made[1], made[0]]
        assert answer.freed_bytes > 0
        assert await listed(service) == [made[2]]

    async def test_the_plan_removes_nothing(self, service: Service) -> None:
        for number in range(3):
            await created(service, f"r{number}")
        request = pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1), validate_only=True)
        answer = await service.client.Prune(request, timeout=5)
        assert len(answer.removed_snapshot_ids) == 2
        assert len(await listed(service)) == 3

    @pytest.mark.parametrize("policy", [None, pb.RetentionPolicy(), pb.RetentionPolicy(keep_within=Duration())])
    async def test_an_empty_policy_is_refused(self, service: Service, policy: pb.RetentionPolicy | None) -> None:
        details = await refused(service.client.Prune(pb.BackupPruneRequest(policy=policy), timeout=5))
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in details.violations] == ["policy"]

    @pytest.mark.parametrize("seconds", [36525 * 86400 + 1, 315_576_000_000, -1])
    async def test_a_span_that_nobody_means_is_refused(self, service: Service, seconds: int) -> None:
        policy = pb.RetentionPolicy(keep_within=Duration(seconds=seconds))
        details = await refused(service.client.Prune(pb.BackupPruneRequest(policy=policy), timeout=5))
        assert [violation.field for violation in details.violations] == ["policy.keep_within"]
        details = await refused(update(service, "retention_policy", retention_policy=policy))
        assert [violation.field for violation in details.violations] == ["settings.retention_policy.keep_within"]

    async def test_nothing_goes_right_after_a_failed_create(self, service: Service, live: Path) -> None:
        await created(service, "one")
        await created(service, "two")
        change(live, "PRAGMA application_id = 7")
        await refused(created(service, "three"))
        answer = await service.client.Prune(
            pb.BackupPruneRequest(policy=pb.RetentionPolicy(keep_last_count=1)), timeout=5
        )
        assert list(answer.removed_snapshot_ids) == []
        assert all("the last Create failed" in kept.reasons for kept in answer.kept)


class TestRestore:
    async def test_it_brings_the_snapshot_back(self, service: Service, live: Path) -> None:
        add_run(live, "run")
        add_delivery(live, "ada", run_id="run")
        snapshot = (await created(service)).snapshot
        change(live, "UPDATE deliveries SET state = 'sent'")
        answer = await service.client.Restore(
            pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id), timeout=30
        )
        assert answer.snapshot_id == snapshot.snapshot_id
        assert list(answer.held_run_ids) == ["run"]
        assert (answer.sent_since_count, answer.carried_row_count) == (1, 1)
        assert rows(live, "SELECT incarnation FROM database_identity") == [(answer.incarnation,)]
        assert answer.pre_restore_snapshot_id in await listed(service)
        assert states(live) == {"ada": "sent"}

    async def test_the_same_request_restores_once(self, service: Service, live: Path) -> None:
        snapshot = (await created(service)).snapshot
        request = pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id)
        first = await service.client.Restore(request, timeout=30)
        add_run(live, "later")
        second = await service.client.Restore(request, timeout=30)
        assert first == second
        assert rows(live, "SELECT run_id FROM runs") == [("later",)]

    async def test_the_same_id_for_another_snapshot_is_refused(self, service: Service) -> None:
        one = (await created(service, "one")).snapshot.snapshot_id
        two = (await created(service, "two")).snapshot.snapshot_id
        await service.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=one), timeout=30)
        details = await refused(
            service.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=two), timeout=30)
        )
        assert (details.code, details.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    @pytest.mark.parametrize("snapshot_id", PATHS)
    @pytest.mark.parametrize("validate_only", [True, False])
    async def test_nothing_but_an_id_is_taken(self, service: Service, snapshot_id: str, validate_only: bool) -> None:
        details = await refused(
            service.client.Restore(
                pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot_id, validate_only=validate_only),
                timeout=5,
            )
        )
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in details.violations] == ["snapshot_id"]

    async def test_an_id_of_nothing_is_not_found(self, service: Service) -> None:
        details = await refused(
            service.client.Restore(pb.BackupRestoreRequest(request_id="r", snapshot_id=MISSING), timeout=5)
        )
        assert details.code == grpc.StatusCode.NOT_FOUND

    async def test_a_request_id_is_required_also_for_a_plan(self, service: Service) -> None:
        request = pb.BackupRestoreRequest(snapshot_id=MISSING, validate_only=True)
        details = await refused(service.client.Restore(request, timeout=5))
        assert [violation.field for violation in details.violations] == ["request_id"]

    async def test_the_plan_changes_nothing(self, service: Service, live: Path) -> None:
        snapshot = (await created(service)).snapshot
        add_run(live, "later")
        request = pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id, validate_only=True)
        answer = await service.client.Restore(request, timeout=30)
        assert list(answer.held_run_ids) == ["later"]
        assert (answer.pre_restore_snapshot_id, answer.incarnation) == ("", "")
        assert rows(live, "SELECT state FROM runs") == [("sending",)]
        assert rows(live, "SELECT incarnation FROM database_identity") == [("first",)]

    async def test_the_plan_and_the_answer_name_the_campaigns_that_wait_for_a_person(
        self, service: Service, live: Path
    ) -> None:
        add_campaign(live, "due", state="scheduled", next_due_time=1)
        snapshot = (await created(service)).snapshot
        for validate_only in (True, False):
            request = pb.BackupRestoreRequest(
                request_id="r", snapshot_id=snapshot.snapshot_id, validate_only=validate_only
            )
            assert list((await service.client.Restore(request, timeout=30)).held_campaign_ids) == ["due"]

    async def test_a_damaged_snapshot_is_refused(self, service: Service, vault: Vault, live: Path) -> None:
        snapshot = (await created(service)).snapshot
        damage(vault, snapshot.snapshot_id)
        details = await refused(
            service.client.Restore(
                pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id), timeout=30
            )
        )
        assert (details.code, details.reason) == (grpc.StatusCode.DATA_LOSS, "SNAPSHOT_DAMAGED")
        assert rows(live, "SELECT incarnation FROM database_identity") == [("first",)]

    async def test_the_stream_ends_with_the_result(self, service: Service) -> None:
        snapshot = (await created(service)).snapshot
        request = pb.BackupRestoreStreamRequest(request_id="r", snapshot_id=snapshot.snapshot_id)
        events = [event async for event in service.client.RestoreStream(request, timeout=30)]
        assert events[-1].result.snapshot_id == snapshot.snapshot_id
        assert events[-1].result.incarnation


class TestVerify:
    async def test_a_whole_snapshot_is_ok(self, service: Service) -> None:
        snapshot = (await created(service)).snapshot
        answer = await service.client.Verify(pb.BackupVerifyRequest(snapshot_id=snapshot.snapshot_id), timeout=10)
        assert answer.snapshot.state == pb.Snapshot.STATE_OK
        assert answer.snapshot.verify_time.ToDatetime() > snapshot.verify_time.ToDatetime()

    async def test_damage_is_an_answer_and_is_remembered(self, service: Service, vault: Vault) -> None:
        snapshot = (await created(service)).snapshot
        damage(vault, snapshot.snapshot_id)
        answer = await service.client.Verify(pb.BackupVerifyRequest(snapshot_id=snapshot.snapshot_id), timeout=10)
        assert answer.snapshot.state == pb.Snapshot.STATE_DAMAGED
        assert answer.snapshot.damage
        assert await listed(service, states=[pb.Snapshot.STATE_DAMAGED]) == [snapshot.snapshot_id]

    @pytest.mark.parametrize("snapshot_id", PATHS)
    async def test_nothing_but_an_id_is_taken(self, service: Service, snapshot_id: str) -> None:
        details = await refused(service.client.Verify(pb.BackupVerifyRequest(snapshot_id=snapshot_id), timeout=5))
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT


class TestSettings:
    async def test_the_defaults(self, service: Service) -> None:
        answer = await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)
        assert answer.settings == pb.BackupSettings(backup_schedule="0 2 * * *", time_zone="UTC", backup_retention=7)
        due = answer.health.next_due_time.ToDatetime(UTC)
        assert (due.hour, due.minute) == (2, 0)
        assert due > datetime.now(UTC)

    async def test_only_the_fields_of_the_mask_change(self, service: Service) -> None:
        answer = await update(service, "backup_retention", backup_retention=3, time_zone="Europe/Berlin")
        assert (answer.settings.backup_retention, answer.settings.time_zone) == (3, "UTC")

    async def test_a_changed_schedule_counts_at_once(self, service: Service) -> None:
        answer = await update(
            service, "backup_schedule", "time_zone", backup_schedule="30 4 * * *", time_zone="Asia/Kolkata"
        )
        due = answer.health.next_due_time.ToDatetime(UTC)
        assert (due.hour, due.minute) == (23, 0)

    async def test_settings_outlive_a_restore(self, service: Service) -> None:
        snapshot = (await created(service)).snapshot
        await update(service, "backup_retention", backup_retention=3)
        await service.client.Restore(
            pb.BackupRestoreRequest(request_id="r", snapshot_id=snapshot.snapshot_id), timeout=30
        )
        answer = await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)
        assert answer.settings.backup_retention == 3

    async def test_an_empty_schedule_switches_it_off(self, service: Service) -> None:
        answer = await update(service, "backup_schedule", backup_schedule="")
        assert not answer.health.HasField("next_due_time")

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            ("backup_schedule", {"backup_schedule": "0 0 30 2 *"}),
            ("backup_schedule", {"backup_schedule": "R R * * *"}),
            ("backup_schedule", {"backup_schedule": "* * * * * *"}),
            ("drill_schedule", {"drill_schedule": "often"}),
            ("time_zone", {"time_zone": "Middle/Earth"}),
            ("time_zone", {"time_zone": ""}),
            ("backup_retention", {"backup_retention": 0}),
        ],
    )
    async def test_what_cannot_be_used_is_named(self, service: Service, path: str, fields: dict[str, Any]) -> None:
        details = await refused(update(service, path, **fields))
        assert details.code == grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in details.violations] == [f"settings.{path}"]

    async def test_keep_last_has_one_place(self, service: Service) -> None:
        details = await refused(
            update(service, "retention_policy", retention_policy=pb.RetentionPolicy(keep_last_count=1))
        )
        assert [violation.field for violation in details.violations] == ["settings.retention_policy.keep_last_count"]

    async def test_a_mask_is_required_and_must_name_fields(self, service: Service) -> None:
        assert [one.field for one in (await refused(update(service))).violations] == ["update_mask"]
        assert [one.field for one in (await refused(update(service, "health"))).violations] == ["update_mask"]

    async def test_the_schedule_takes_snapshots_and_prunes(self, service: Service) -> None:
        await update(service, "backup_retention", backup_retention=2)
        for number in range(3):
            await created(service, f"r{number}")
        assert await service.keeper.take_scheduled()
        answer = await service.client.List(pb.BackupListRequest(), timeout=5)
        assert len(answer.snapshots) == 2
        assert answer.snapshots[0].trigger == pb.Snapshot.TRIGGER_CRON


async def test_one_operation_at_a_time(service: Service) -> None:
    answers = await asyncio.gather(*(created(service, f"r{number}") for number in range(4)), return_exceptions=True)
    errors = [details_of(one) for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert {(error.code, error.reason) for error in errors} <= {(grpc.StatusCode.ABORTED, "BACKUP_BUSY")}
    assert len(await listed(service)) == 4 - len(errors) >= 1


async def test_a_restore_drill_restores_the_newest_snapshot_on_trial(service: Service, live: Path) -> None:
    await created(service)
    before = content(live)
    assert await service.keeper.drill()
    health = (await service.client.GetSettings(pb.BackupGetSettingsRequest(), timeout=5)).health
    assert health.HasField("last_drill_time")
    assert content(live) == before


async def test_a_drill_without_a_good_snapshot_fails_visibly(service: Service) -> None:
    assert not await service.keeper.drill()
