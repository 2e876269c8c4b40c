"""One thing asked of the backup service: repeated under the same id, life after life, until it is answered."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc

from chaos.backup.moments import Operation
from chaos.backup.tables import Ledger
from chaos.processes import Victim
from mailer.v1 import backup_pb2 as pb

if TYPE_CHECKING:
    from mailer.v1.backup_pb2_grpc import BackupAsyncStub

CALL_SECONDS = 60.0
DEATH_SECONDS = 0.5
KEPT_COUNT = 6


@dataclass(slots=True)
class Call:
    """What is asked for, and what had been acknowledged when it was asked for first."""

    operation: Operation
    request_id: str = ""
    snapshot_id: str = ""
    is_streamed: bool = False
    known: Ledger = field(default_factory=dict)
    lives: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)  # in which it was under way

    async def ask(self, client: "BackupAsyncStub", victim: Victim) -> Any:
        """Return the answer, None when the service died instead. Raises AioRpcError when it refuses."""
        self.lives += 1
        began = monotonic()
        try:
            while not victim.has_ended:
                try:
                    return await self._ask(client)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE or monotonic() - began > CALL_SECONDS:
                        raise
                await victim.ended(DEATH_SECONDS)  # else the connection was not there yet
            return None
        except asyncio.CancelledError:
            if not await victim.ended(DEATH_SECONDS):
                raise
            return None
        finally:
            self.spans.append((began, monotonic()))

    async def _ask(self, client: "BackupAsyncStub") -> Any:
        match self.operation:
            case Operation.CREATE if self.is_streamed:
                create = pb.BackupCreateStreamRequest(request_id=self.request_id, note=self.request_id)
                return [event async for event in client.CreateStream(create, timeout=CALL_SECONDS)][-1].result
            case Operation.CREATE:
                request = pb.BackupCreateRequest(request_id=self.request_id, note=self.request_id)
                return await client.Create(request, timeout=CALL_SECONDS)
            case Operation.RESTORE if self.is_streamed:
                restore = pb.BackupRestoreStreamRequest(request_id=self.request_id, snapshot_id=self.snapshot_id)
                return [event async for event in client.RestoreStream(restore, timeout=CALL_SECONDS)][-1].result
            case Operation.RESTORE:
                again = pb.BackupRestoreRequest(request_id=self.request_id, snapshot_id=self.snapshot_id)
                return await client.Restore(again, timeout=CALL_SECONDS)
            case Operation.PRUNE:
                policy = pb.RetentionPolicy(keep_last_count=KEPT_COUNT)
                return await client.Prune(pb.BackupPruneRequest(policy=policy), timeout=CALL_SECONDS)
            case Operation.VERIFY:
                return await client.Verify(pb.BackupVerifyRequest(snapshot_id=self.snapshot_id), timeout=CALL_SECONDS)
            case Operation.START:
                raise ValueError("a start is not asked for")
