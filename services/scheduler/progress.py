"""How runs stand at the sender: asked once for everybody who wants to know at the same time."""

import asyncio

import grpc

from mailer.clock import Clock
from mailer.v1 import sender_pb2, sender_pb2_grpc

FRESH_SECONDS = 0.2
ASK_SECONDS = 1.0
# A sender that does not answer is left alone for so long: nobody else waits for it meanwhile.
SILENCE_SECONDS = 1.0
_MOST_KEPT = 1000


class Progress:
    """Remembers for a moment what the sender said about a run."""

    def __init__(self, sender: "sender_pb2_grpc.SenderAsyncStub", clock: Clock) -> None:
        """Take the sender to ask."""
        self._sender = sender
        self._clock = clock
        self._heard: dict[str, tuple[float, sender_pb2.Run]] = {}
        self._silent_until = float("-inf")
        self._asking: dict[str, asyncio.Task[sender_pb2.Run | None]] = {}

    def last_heard(self, run_id: str) -> sender_pb2.DeliveryCounts | None:
        """Return what was heard last, however long ago, without asking."""
        heard = self._heard.get(run_id)
        return None if heard is None else heard[1].counts

    async def counts(self, run_id: str) -> sender_pb2.DeliveryCounts | None:
        """Return how the deliveries of a run stand, as last heard when the sender does not answer; None: never."""
        now = self._clock.monotonic()
        heard = self._heard.get(run_id)
        if heard is not None and now - heard[0] <= FRESH_SECONDS:
            return heard[1].counts
        if now < self._silent_until:
            return self.last_heard(run_id)
        asking = self._asking.get(run_id)
        if asking is None:
            asking = self._asking[run_id] = asyncio.create_task(self._ask(run_id))
            asking.add_done_callback(lambda _: self._asking.pop(run_id, None))
        run = await asyncio.shield(asking)
        return self.last_heard(run_id) if run is None else run.counts

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
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                self._silent_until = self._clock.monotonic() + SILENCE_SECONDS
            return None
        self.heard(answer.run)
        return answer.run
