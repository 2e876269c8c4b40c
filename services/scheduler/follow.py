"""A run after and beside its hand-over: the sender is told what was decided, and asked how the deliveries stand."""

from random import Random

import grpc

from mailer.clock import Clock
from mailer.database import Database
from mailer.go_ahead import GO_AHEAD
from mailer.log import get_logger
from mailer.v1 import sender_pb2, sender_pb2_grpc
from services.scheduler import decisions, runs
from services.scheduler.campaign_states import RunState
from services.scheduler.progress import Progress
from services.scheduler.runs import Run
from services.scheduler.trouble import AGAIN_SECONDS, Backoff, Refused, is_away, judge

log = get_logger(__name__)

CALL_SECONDS = 5.0
# Counts go to the database this often at most: those who watch get them from memory.
NOTE_SECONDS = 2.0

_Sender = sender_pb2.Run
_GOES_ON = frozenset({_Sender.STATE_ACTIVE, _Sender.STATE_STALLED, _Sender.STATE_DONE})


class Follower:
    """Follows one run. `tell` and `look` return how many seconds to wait before the next step."""

    def __init__(
        self,
        database: Database,
        sender: "sender_pb2_grpc.SenderAsyncStub",
        clock: Clock,
        progress: Progress,
        random: Random,
    ) -> None:
        """Take what following needs."""
        self._database = database
        self._sender = sender
        self._clock = clock
        self._progress = progress
        self._backoff = Backoff(random)
        self._pace = Pace()
        self._noted_at = float("-inf")
        self._waits_since = ""

    async def tell(self, run: Run) -> float:
        """Tell the sender what was decided about the run, until it knows."""
        incarnation = self._database.incarnation
        try:
            await self._tell(run)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return await self._cancelled_elsewhere(run, incarnation)
            # A run that the sender does not know has nothing to pause or to resume; `look` sees it come.
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                return await self._wait(run, error, incarnation)
        self._backoff.reset()
        self._pace.hurry()
        await self._database.write_under(incarnation, runs.mark_told, run, run.wanted)
        return 0.0

    async def look(self, run: Run) -> float:
        """Ask how the deliveries stand, and draw the conclusion."""
        incarnation = self._database.incarnation
        request = sender_pb2.GetRunRequest(run_id=run.run_id)
        try:
            present = (await self._sender.GetRun(request, timeout=CALL_SECONDS, metadata=_metadata(run))).run
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return await self._unknown_to_the_sender(run, incarnation)
            return await self._wait(run, error, incarnation)
        self._backoff.reset()
        self._progress.heard(present)
        match run.state:
            case RunState.PAUSED:
                return await self._look_at_paused(run, present, incarnation)
            case RunState.CANCELLED:
                return await self._look_at_cancelled(run, present, incarnation)
            case _:
                return await self._look_at_sending(run, present, incarnation)

    async def _tell(self, run: Run) -> None:
        if run.wanted == runs.PAUSED:
            pause = sender_pb2.PauseRunRequest(run_id=run.run_id, reason=run.state_reason[:500])
            await self._sender.PauseRun(pause, timeout=CALL_SECONDS)
        elif run.wanted == runs.CANCELLED:
            cancel = sender_pb2.CancelRunRequest(run_id=run.run_id)
            await self._sender.CancelRun(cancel, timeout=CALL_SECONDS)
        else:
            resume = sender_pb2.ResumeRunRequest(run_id=run.run_id)
            await self._sender.ResumeRun(resume, timeout=CALL_SECONDS)

    async def _look_at_sending(self, run: Run, present: sender_pb2.Run, incarnation: str) -> float:
        match present.state:
            case _Sender.STATE_DONE:
                await self._close(run, RunState.FINISHED, present.counts, incarnation)
                return 0.0
            case _Sender.STATE_PAUSED | _Sender.STATE_HELD:
                state = RunState.HELD if present.state == _Sender.STATE_HELD else RunState.PAUSED
                reason = present.state_reason or "paused at the sender"
                await self._stop(run, state, reason, incarnation)
                return 0.0
            case _Sender.STATE_CANCELLED:
                return await self._cancelled_elsewhere(run, incarnation)
            case _:
                await self._note(run, present.counts, present.state_reason, incarnation)
                return self._pace.after(present.counts)

    async def _look_at_paused(self, run: Run, present: sender_pb2.Run, incarnation: str) -> float:
        await self._note(run, present.counts, None, incarnation)
        if present.state in _GOES_ON and present.counts.total_count:
            # A batch that was on its way when the run was paused has made it known only now.
            await self._database.write_under(incarnation, runs.mark_told, run, "")
            return self._pace.idle()
        if present.state == _Sender.STATE_CANCELLED:
            return await self._cancelled_elsewhere(run, incarnation)
        return self._pace.after(present.counts)

    async def _look_at_cancelled(self, run: Run, present: sender_pb2.Run, incarnation: str) -> float:
        if present.state != _Sender.STATE_CANCELLED:
            await self._database.write_under(incarnation, runs.mark_told, run, "")
            return self._pace.idle()
        if present.counts.in_progress_count:
            return self._pace.after(present.counts)  # at their final dot
        await self._close(run, RunState.CANCELLED, present.counts, incarnation)
        return 0.0

    async def _unknown_to_the_sender(self, run: Run, incarnation: str) -> float:
        if run.state is RunState.PAUSED:
            return self._pace.idle()
        if run.state is RunState.CANCELLED:
            await self._database.write_under(incarnation, runs.mark_told, run, "")
            return self._pace.idle()
        if run.dispatched_count == 0:
            await self._close(run, RunState.FINISHED, sender_pb2.DeliveryCounts(), incarnation)
            return 0.0
        log.warning("the sender does not know the run: it is handed over again")
        await self._database.write_under(incarnation, runs.start_over, run)
        return self._pace.idle()

    async def _cancelled_elsewhere(self, run: Run, incarnation: str) -> float:
        if run.state is RunState.CANCELLED:
            return self._pace.idle()
        await self._stop(run, RunState.CANCELLED, "cancelled at the sender", incarnation)
        return 0.0

    async def _stop(self, run: Run, state: RunState, reason: str, incarnation: str) -> None:
        log.warning("the run stops", state=state, reason=reason)
        await self._database.write_under(
            incarnation, decisions.stop_by_itself, run, state, reason=reason, now=self._clock.now()
        )

    async def _close(self, run: Run, state: RunState, counts: sender_pb2.DeliveryCounts, incarnation: str) -> None:
        ended = await self._database.write_under(
            incarnation,
            decisions.close,
            run,
            state,
            counts=counts.SerializeToString(deterministic=True),
            now=self._clock.now(),
        )
        if ended:
            log.info("the run has ended", state=state, sent=counts.sent_count, total=counts.total_count)

    async def _note(self, run: Run, counts: sender_pb2.DeliveryCounts, reason: str | None, incarnation: str) -> None:
        """Keep what was heard, unless it is kept already."""
        heard = counts.SerializeToString(deterministic=True)
        now = self._clock.monotonic()
        new_reason = reason is not None and reason != run.state_reason
        if new_reason or (heard != run.counts and now - self._noted_at >= NOTE_SECONDS):
            self._noted_at = now
            self._waits_since = ""
            await self._database.write_under(incarnation, runs.note, run, reason=reason, counts=heard)

    async def _wait(self, run: Run, error: grpc.aio.AioRpcError, incarnation: str) -> float:
        trouble = judge(error)
        if not self._waits_since:
            self._waits_since = f"{self._clock.now():%Y-%m-%d %H:%M:%S} UTC"
        reason = f"waiting since {self._waits_since}: {trouble.reason}"
        if run.state is not RunState.PAUSED and reason != run.state_reason:
            log.warning("the sender cannot be asked", reason=trouble.reason)
            await self._database.write_under(incarnation, runs.note, run, reason=reason)
        if is_away(error):
            return AGAIN_SECONDS
        pause = self._backoff.pause()
        if isinstance(trouble, Refused) or trouble.seconds is None:
            return pause
        return max(pause, trouble.seconds)


def _metadata(run: Run) -> tuple[tuple[str, str], ...]:
    # A sender that was started again waits for this word; of a run that should rest it must not hear it.
    return GO_AHEAD if run.wanted == runs.ACTIVE else ()


class Pace:
    """How long to wait before the sender is asked again: shortly while something happens, longer while not."""

    SHORTEST, LONGEST, GROWTH = 0.25, 2.0, 1.5

    def __init__(self) -> None:
        """Begin quickly."""
        self._seconds = self.SHORTEST
        self._heard = sender_pb2.DeliveryCounts()

    def hurry(self) -> None:
        """Ask again soon."""
        self._seconds = self.SHORTEST

    def after(self, counts: sender_pb2.DeliveryCounts) -> float:
        """Return the seconds to wait when these are the present counts."""
        if counts != self._heard:
            self._heard = counts
            self._seconds = self.SHORTEST
            return self._seconds
        return self.idle()

    def idle(self) -> float:
        """Return the seconds to wait when nothing has happened."""
        self._seconds = min(self._seconds * self.GROWTH, self.LONGEST)
        return self._seconds
