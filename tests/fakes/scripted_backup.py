"""A backup service that remembers what it was asked; on a real port."""

from collections.abc import AsyncIterator

from grpc.aio import ServicerContext

from mailer.v1 import backup_pb2, backup_pb2_grpc

Phase = backup_pb2.BackupProgress.Phase


class ScriptedBackup(backup_pb2_grpc.BackupServicer):
    """Keeps snapshots in memory, newest first."""

    def __init__(self) -> None:
        self.snapshots: list[backup_pb2.Snapshot] = []
        self.pruned: list[backup_pb2.BackupPruneRequest] = []
        self.restored: list[str] = []
        self.removed_copy_ids: list[str] = []
        self.health = backup_pb2.BackupHealth()
        self.settings = backup_pb2.BackupSettings(backup_schedule="0 2 * * *", time_zone="UTC", backup_retention=7)

    async def CreateStream(
        self, request: backup_pb2.BackupCreateStreamRequest, context: "ServicerContext[object, object]"
    ) -> AsyncIterator[backup_pb2.BackupCreateStreamResponse]:
        yield backup_pb2.BackupCreateStreamResponse(
            progress=backup_pb2.BackupProgress(phase=Phase.PHASE_COPYING, done_bytes=10, total_bytes=20)
        )
        self.snapshots.insert(0, self.snapshot(note=request.note))
        yield backup_pb2.BackupCreateStreamResponse(result=backup_pb2.BackupCreateResponse(snapshot=self.snapshots[0]))

    async def List(
        self, request: backup_pb2.BackupListRequest, context: "ServicerContext[object, object]"
    ) -> backup_pb2.BackupListResponse:
        found = [one for one in self.snapshots if not request.states or one.state in request.states]
        return backup_pb2.BackupListResponse(snapshots=found, health=self.health)

    async def Verify(
        self, request: backup_pb2.BackupVerifyRequest, context: "ServicerContext[object, object]"
    ) -> backup_pb2.BackupVerifyResponse:
        return backup_pb2.BackupVerifyResponse(
            snapshot=next(one for one in self.snapshots if one.snapshot_id == request.snapshot_id)
        )

    async def Prune(
        self, request: backup_pb2.BackupPruneRequest, context: "ServicerContext[object, object]"
    ) -> backup_pb2.BackupPruneResponse:
        self.pruned.append(request)
        return backup_pb2.BackupPruneResponse(
            removed_snapshot_ids=["old"], freed_bytes=2048, removed_copy_ids=self.removed_copy_ids
        )

    async def Restore(
        self, request: backup_pb2.BackupRestoreRequest, context: "ServicerContext[object, object]"
    ) -> backup_pb2.BackupRestoreResponse:
        raise AssertionError("the command wants to see progress")

    async def RestoreStream(
        self, request: backup_pb2.BackupRestoreStreamRequest, context: "ServicerContext[object, object]"
    ) -> AsyncIterator[backup_pb2.BackupRestoreStreamResponse]:
        yield backup_pb2.BackupRestoreStreamResponse(
            progress=backup_pb2.BackupProgress(phase=Phase.PHASE_FETCHING, done_bytes=10, total_bytes=20)
        )
        if request.validate_only:
            planned = backup_pb2.BackupRestoreResponse(snapshot_id=request.snapshot_id, sent_since_count=12)
            yield backup_pb2.BackupRestoreStreamResponse(result=planned)
            return
        self.restored.append(request.snapshot_id)
        yield backup_pb2.BackupRestoreStreamResponse(
            result=backup_pb2.BackupRestoreResponse(
                snapshot_id=request.snapshot_id,
                pre_restore_snapshot_id="before",
                held_run_ids=["aa"],
                held_campaign_ids=["bb"],
            )
        )

    async def GetSettings(
        self, request: backup_pb2.BackupGetSettingsRequest, context: "ServicerContext[object, object]"
    ) -> backup_pb2.BackupGetSettingsResponse:
        return backup_pb2.BackupGetSettingsResponse(settings=self.settings)

    def snapshot(
        self,
        *,
        state: backup_pb2.Snapshot.State.ValueType = backup_pb2.Snapshot.STATE_OK,
        damage: str = "",
        note: str = "",
        trigger: backup_pb2.Snapshot.Trigger.ValueType = backup_pb2.Snapshot.TRIGGER_MANUAL,
    ) -> backup_pb2.Snapshot:
        number = len(self.snapshots)
        return backup_pb2.Snapshot(
            snapshot_id=f"snapshot-{number}", state=state, damage=damage, note=note, trigger=trigger
        )
