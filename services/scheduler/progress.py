"""How runs stand at the sender: asked once for everybody who wants to know at the same time."""

import asyncio

import grpc

from mailer.clock import Clock
from mailer.v1 import sender_pb2, sender_pb2_grpc

FRESH_SECONDS = 0.2
ASK_SECONDS = 2.0
_MOST_KEPT = 1000


class Progress:
    """Remembers for a moment what the sender said about a run."""

    def __init__(self, sender: "sender_pb2_grpc.SenderAsyncStub", clock: Clock) -> None:
        """Take the sender to ask."""
        self._sender = sender
        self._clock = clock
        self._heard: dict[str, tuple[float, sender_pb2.Run]] = {}
        self._asking: dict[str, asyncio.Task[sender_pb2.Run | None]] = {}

    async def counts(self, run_id: str) -> sender_pb2.DeliveryCounts | None:
        """Return how the deliveries of a run stand; None when the sender does not know or does not answer."""
        heard = self._heard.get(run_id)
        if heard is not None and self._clock.monotonic() - heard[0] <= FRESH_SECONDS:
            return heard[1].counts
        asking = self._asking.get(run_id)
        if asking is None:
            asking = self._asking[run_id] = asyncio.create_task(self._ask(run_id))
            asking.add_done_callback(lambda _: self._asking.pop(run_id, None))
        run = await asyncio.shield(asking)
        return None if run is None else run.counts

    def heard(self, run: sender_pb2.Run) -> None:
        """Remember what somebody else was told."""
        if len(self._heard) >= _MOST_KEPT:
            self._heard.clear()
        self._heard[run.run_id] = (self._clock.monotonic(), run)

    def forget(self) -> None:
        """Forget everything: the database was replaced."""
        self._heard.clear()

    async def _ask(self, run_id: str) -> sender_pb2.Run | None:
        try:
            answer = await self._sender.GetRun(sender_pb2.GetRunRequest(run_id=run_id), timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError:
            return None
        self.heard(answer.run)
        return answer.run
