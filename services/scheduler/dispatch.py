"""The hand-over of a run: batch after batch to the sender, the cursor behind each answer.

A crash between the answer and the cursor repeats the batch under the same request_id, which has no second effect.
"""

import asyncio
from dataclasses import replace
from random import Random

import grpc

from mailer.clock import Clock
from mailer.database import Database
from mailer.log import get_logger
from mailer.v1 import sender_pb2, sender_pb2_grpc
from services.scheduler import batches, decisions, recipients, runs
from services.scheduler.campaign_states import RunState
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.runs import Run
from services.scheduler.trouble import AGAIN_SECONDS, Backoff, Patience, Refused, is_away

log = get_logger(__name__)

_NAMED_REJECTIONS = 20


class Dispatcher:
    """Hands runs over. All runs share a few slots in turn, so that a small one is not kept behind a large one."""

    def __init__(
        self,
        database: Database,
        sender: "sender_pb2_grpc.SenderAsyncStub",
        clock: Clock,
        metrics: SchedulerMetrics,
        random: Random,
        *,
        concurrent_batches: int,
        batch_seconds: float,
    ) -> None:
        """Take what the hand-over needs; `batch_seconds` is how long the sender may take to answer a batch."""
        self._database = database
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._slots = asyncio.Semaphore(concurrent_batches)
        self._batch_seconds = batch_seconds

    async def hand_over(self, run: Run, changed: asyncio.Event) -> None:
        """Hand over until the sender has everybody, somebody decides otherwise, or the run has to stop.

        Raises DatabaseUnavailable; then, too, the run can be taken up again from the database.
        """
        incarnation = self._database.incarnation
        serialized = await self._database.read(runs.content_of, run.run_id)
        content = sender_pb2.MessageContent.FromString(serialized)
        while not changed.is_set():
            found = await self._database.read(recipients.read_after, run.campaign_id, run.cursor, run.batch_count_limit)
            if not found:
                await self._end(run, incarnation)
                return
            batch = batches.cut(found, byte_limit=run.batch_byte_limit)
            answer = await self._send(run, batches.request_for(run, content, batch), changed, incarnation)
            if answer is None:
                return
            self._count(run, answer)
            cursor, dispatched = batch[-1].position, run.dispatched_count + len(batch)
            is_all = dispatched >= run.recipient_count
            last = is_all and len(batch) == len(found) < run.batch_count_limit
            moved = await self._database.write_under(
                incarnation,
                runs.advance,
                run,
                cursor=cursor,
                dispatched=len(batch),
                rejected=len(answer.rejected),
                last=last,
            )
            if last or not moved:
                return
            run = replace(run, cursor=cursor, dispatched_count=dispatched, state_reason="")

    async def _end(self, run: Run, incarnation: str) -> None:
        missing = run.recipient_count - run.dispatched_count
        if missing > 0:
            log.error("recipients of a run are missing", missing=missing, recipients=run.recipient_count)
        await self._database.write_under(incarnation, decisions.end_hand_over, run, self._clock.now())

    async def _send(
        self, run: Run, request: sender_pb2.SendBatchRequest, changed: asyncio.Event, incarnation: str
    ) -> sender_pb2.SendBatchResponse | None:
        """Return the sender's answer, however long it takes; None when somebody decided or it was refused."""
        backoff = Backoff(self._random)
        patience = Patience()
        said = run.state_reason
        since = self._clock.now()
        while True:
            call = asyncio.create_task(self._call(run, request))
            if not await _done_before(call, changed):
                return None
            error = call.exception()
            if error is None:
                return call.result()
            if not isinstance(error, grpc.aio.AioRpcError):
                raise error
            trouble = patience.judge(error)
            if isinstance(trouble, Refused):
                log.error("the sender refused a batch", cursor=run.cursor, reason=trouble.reason)
                await self._database.write_under(
                    incarnation,
                    decisions.stop_by_itself,
                    run,
                    RunState.PAUSED,
                    reason=f"the sender refused a batch: {trouble.reason}",
                    now=self._clock.now(),
                )
                return None
            reason = f"waiting since {since:%Y-%m-%d %H:%M:%S} UTC: {trouble.reason}"
            if reason != said:
                # A sender that has enough says so every second of a large run: that is no trouble.
                say = log.warning if trouble.seconds is None else log.debug
                say("a batch has to wait", cursor=run.cursor, reason=trouble.reason)
                await self._database.write_under(incarnation, runs.note, run, reason=reason)
                said = reason
            # Promptly, too: a sender that was started again sends nothing of the run before it hears of it.
            pause = AGAIN_SECONDS if is_away(error) else trouble.seconds or backoff.pause()
            if await self._clock.wait(changed, pause):
                return None

    async def _call(self, run: Run, request: sender_pb2.SendBatchRequest) -> sender_pb2.SendBatchResponse:
        async with self._slots:
            if run.cursor == 0 and run.start_time is not None:
                late = self._clock.now() - run.start_time
                self._metrics.due_to_dispatch.observe(max(0.0, late.total_seconds()))
            started = self._clock.monotonic()
            code = grpc.StatusCode.OK
            try:
                return await self._sender.SendBatch(request, timeout=self._batch_seconds)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                raise
            finally:
                self._metrics.batch_seconds.labels(code.name).observe(self._clock.monotonic() - started)

    def _count(self, run: Run, answer: sender_pb2.SendBatchResponse) -> None:
        rejected = len(answer.rejected)
        self._metrics.recipients_dispatched.inc(answer.accepted_count + answer.duplicate_count)
        if rejected:
            self._metrics.recipients_rejected.inc(rejected)
            named = [f"{one.address}: {one.description}" for one in answer.rejected[:_NAMED_REJECTIONS]]
            log.warning("the sender did not take everybody", cursor=run.cursor, rejected=rejected, first=named)


async def _done_before(call: "asyncio.Task[sender_pb2.SendBatchResponse]", changed: asyncio.Event) -> bool:
    """Wait for the call; False when the event came first, and then the call is over, too."""
    watch = asyncio.create_task(changed.wait())
    try:
        await asyncio.wait({call, watch}, return_when=asyncio.FIRST_COMPLETED)
        return call.done()
    finally:
        watch.cancel()
        if not call.done():
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
