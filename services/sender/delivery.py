"""The delivery loop: gives each waiting message to an account that takes it now, and books what becomes of it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random

import structlog

from mailer.clock import Clock
from mailer.message.address import Address
from mailer.message.mime import RenderedMessage
from mailer.message.problems import RenderProblem
from mailer.recipients import read_variables
from mailer.v1 import sender_pb2
from services.sender.attempt import Attempted, BrokenOff, attempt
from services.sender.book import Intent, Result
from services.sender.connections import Connections, Lane
from services.sender.credentials import PasswordUnavailable
from services.sender.dialing import Dial
from services.sender.failpoints import Window, reached
from services.sender.feeder import Feeder
from services.sender.jobs import Job, Queues
from services.sender.judgement import Judgement, Next, judge_attempt
from services.sender.ledger import Ledger
from services.sender.options import retry_policy
from services.sender.replies import Action, Breaker, Hold, Scope
from services.sender.roster import Admission, Refusal, Roster
from services.sender.smtp import ConnectFailed
from services.sender.states import DeliveryState, LogOutcome

log = structlog.get_logger(__name__)

ROOM_INTERVAL = 1.0
BUG_DELAY = timedelta(minutes=5)
REFUSED_CONTENTS_IN_A_ROW = 10
_OWN_OUTCOMES = {
    DeliveryState.PENDING: LogOutcome.REQUEUED,
    DeliveryState.DEFERRED: LogOutcome.DEFERRED,
    DeliveryState.FAILED: LogOutcome.FAILED,
    DeliveryState.UNKNOWN: LogOutcome.UNKNOWN,
}


class Delivery:
    """Sends what the feeder claims, over at most as many connections as the accounts allow."""

    def __init__(
        self,
        *,
        clock: Clock,
        random: Random,
        roster: Roster,
        queues: Queues,
        feeder: Feeder,
        ledger: Ledger,
        connections: Connections,
        dial: Dial,
        worker_id: Callable[[], str],
        on_guard: Callable[[tuple[str, ...]], Awaitable[None]],
        on_refused_content: Callable[[str, str], Awaitable[None]],
        on_told: Callable[[str, str], Awaitable[None]],
        on_attempt: Callable[[str, str, float], None],
    ) -> None:
        """Take the parts.

        `dial` opens a connection to an account (raises ConnectFailed). `on_guard` gets the delivery keys that a
        suspended account refused, `on_refused_content` a run whose content servers refuse time after time, with the
        reason, `on_told` a run and what concerns all of its messages; `on_attempt` gets the account's name, the outcome
        and the seconds of every attempt, for the figures.
        """
        self._clock = clock
        self._random = random
        self._roster = roster
        self._queues = queues
        self._feeder = feeder
        self._ledger = ledger
        self._connections = connections
        self._dial = dial
        self._worker_id = worker_id
        self._on_guard = on_guard
        self._on_refused_content = on_refused_content
        self._on_told = on_told
        self._told: set[str] = set()
        self._on_attempt = on_attempt
        self._attempts: set[asyncio.Task[None]] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self._refused_contents: Counter[str] = Counter()

    def under_way(self) -> frozenset[asyncio.Task[None]]:
        """Return the attempts that are under way."""
        return frozenset(self._attempts)

    @property
    def in_flight_count(self) -> int:
        """Return how many attempts are under way."""
        return len(self._attempts)

    async def run(self) -> None:
        """Send until cancelled. Attempts under way go on: see `stop`."""
        while True:
            self._feeder.filled.clear()
            while self._start_next():
                pass
            if len(self._queues):
                await self._roster.wait_for_room(ROOM_INTERVAL)
            else:
                await self._feeder.filled.wait()

    async def stop(self, grace_seconds: float) -> None:
        """Let attempts under way end, at most so long; then break them off before their dot, and book them all."""
        for pause in set(self._pauses):
            pause.cancel()
        attempts = set(self._attempts)
        if attempts:
            _, late = await asyncio.wait(attempts, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._connections.close()

    def _start_next(self) -> bool:
        """Start one attempt if an account has room for any waiting message, and the book takes entries."""
        if self._ledger.is_stuck:
            return False
        taken = self._queues.take(self._admit)
        if taken is None:
            return False
        job, admission = taken
        if len(self._queues) < self._feeder.low_water:
            self._feeder.wake()
        task = asyncio.create_task(self._serve(job, admission))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)
        return True

    def _admit(self, job: Job) -> Admission | None:
        from_address = job.program.from_address
        # With nobody to offer it, any account does: the message fails there, and says why.
        needs_smtputf8 = job.needs_smtputf8 and self._roster.may_offer_smtputf8(from_address, job.allowed)
        admission = self._roster.choose(
            from_address=from_address, allowed=job.allowed, needs_smtputf8=needs_smtputf8, exclude=job.avoid
        )
        if admission is None and job.avoid:
            # Better the account that just failed it than none.
            admission = self._roster.choose(
                from_address=from_address, allowed=job.allowed, needs_smtputf8=needs_smtputf8
            )
        return admission

    async def _serve(self, job: Job, admission: Admission) -> None:
        """Make one attempt and book it. Whatever happens, the admission is settled and the job has a place."""
        try:
            if not await self._roster.confirm(admission):
                self._again(job)
                return
            await self._attempt(job, admission)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("an attempt ended by a bug", delivery=job.claimed.delivery_key, run=job.run_id)
            self._roster.settle(admission, Breaker.NONE, reason="a bug of ours", counted=False)
            # Our trouble is never the recipient's: before the dot it is tried again until the message expires.
            state = DeliveryState.UNKNOWN if job.is_at_dot else DeliveryState.DEFERRED
            reason = "a bug of ours, see the log"
            self._ledger.record(self._own_result(job, admission, state, stage="INTERNAL", reason=reason))

    async def _attempt(self, job: Job, admission: Admission) -> None:
        start_time = self._clock.now()
        message = self._render(job, admission)
        if message is None:
            return
        job.tries += 1
        job.is_at_dot = False
        lane = self._lane(job, admission)
        try:
            if lane is None:
                lane = Lane(admission.account, await self._dial(admission.account))
                reached(Window.AFTER_CONNECT)
                self._roster.note_smtputf8(
                    admission.account.account_id, offered=lane.conversation.extensions.has_smtputf8
                )
            intent = Intent(job.claimed, job.life, admission.account.account_id, start_time)
            attempted = await attempt(
                lane.conversation,
                message,
                is_plain=job.is_plain,
                intend=lambda: self._ledger.intend(intent),
                may_finish=lambda: self._may_finish(job),
            )
        except ConnectFailed as failed:
            attempted = Attempted(failed.incident)
        except PasswordUnavailable as problem:
            self._roster.settle(admission, Breaker.NONE, reason=str(problem), counted=False, hold_reason=str(problem))
            self._again(job)
            return
        except BrokenOff as broken:
            self._settle(job, admission, broken.attempted, start_time)
            raise
        except asyncio.CancelledError:
            self._roster.settle(admission, Breaker.NONE, reason="cancelled", counted=False)
            raise
        is_over = self._settle(job, admission, attempted, start_time)
        if lane is not None:
            if is_over:
                lane.conversation.close()
            self._connections.give_back(lane)

    def _lane(self, job: Job, admission: Admission) -> Lane | None:
        """Return an open connection, or None where a new one is wanted: a message in trouble gets a fresh one."""
        lane = self._connections.take(admission.account)
        if lane is None or not (job.is_plain or job.streak.rule):
            return lane
        # In its place, not beside it: the account may have only so many.
        lane.conversation.close()
        self._connections.give_back(lane)
        return None

    def _may_finish(self, job: Job) -> bool:
        """Say whether the dot may be written: the run may have been stopped since the intent."""
        job.is_at_dot = self._feeder.is_open(job.run_id)
        return job.is_at_dot

    def _render(self, job: Job, admission: Admission) -> RenderedMessage | None:
        claimed = job.claimed
        recipient = Address(claimed.address, claimed.display_name)
        try:
            return job.program.message.render(
                recipient,
                read_variables(claimed.variables, recipient),
                message_id=job.program.message_id(claimed.delivery_key),
                date=claimed.create_time,
            )
        except RenderProblem as problem:
            self._roster.settle(admission, Breaker.NONE, reason="not sent", counted=False)
            reason = f"the message cannot be rendered for this recipient: {problem}"
            self._ledger.record(self._own_result(job, admission, DeliveryState.FAILED, stage="RENDER", reason=reason))
            return None

    def _settle(self, job: Job, admission: Admission, attempted: Attempted, start_time: datetime) -> bool:
        """Book an attempt, tell the account, and send the job where it belongs; say whether its connection is over."""
        now = self._clock.now()
        account = admission.account
        if attempted.lost_claim:
            # Lost, or the disk did not take the intent: then the claim is still there and has to go back.
            self._roster.settle(admission, Breaker.NONE, reason="the claim was lost", counted=False)
            self._feeder.give_back([job.claimed])
            return True
        if attempted.was_stopped:
            self._roster.settle(admission, Breaker.NONE, reason="the run was stopped", counted=True)
            reason = "the run was stopped before the final dot"
            self._ledger.record(
                self._own_result(
                    job,
                    admission,
                    DeliveryState.PENDING,
                    stage=attempted.incident.stage.value,
                    reason=reason,
                    start_time=start_time,
                )
            )
            return True
        judgement = judge_attempt(
            job,
            attempted,
            account_id=account.account_id,
            policy=retry_policy(job.retry, sender_pb2.RetryPolicy.FromString(account.retry_policy)),
            worker=self._worker_id(),
            start_time=start_time,
            now=now,
            random=self._random,
            account_history=self._roster.history(admission),
            is_elsewhere=self._roster.may_offer_smtputf8(job.program.from_address, job.allowed),
        )
        self._ledger.record(judgement.result)
        self._tell_account(job, admission, attempted, judgement)
        self._on_attempt(account.name, judgement.result.outcome.value, (now - start_time).total_seconds())
        self._place(job, admission, judgement)
        self._watch_content(job, judgement)
        if judgement.verdict.tell_run and job.run_id not in self._told:
            self._told.add(job.run_id)
            self._in_background(self._on_told(job.run_id, judgement.verdict.reason))
        return judgement.verdict.close_connection

    def _tell_account(self, job: Job, admission: Admission, attempted: Attempted, judgement: Judgement) -> None:
        verdict = judgement.verdict
        refusal = None
        if verdict.feeds_guard and verdict.action is Action.FAIL:
            refusal = Refusal(job.claimed.delivery_key, job.claimed.canonical.rpartition("@")[2])
        trip = self._roster.settle(
            admission,
            verdict.breaker,
            reason=verdict.reason or "accepted",
            counted=attempted.was_intended,
            rest_until=judgement.result.end_time + verdict.rest if verdict.rest else None,
            hold_reason=verdict.reason if verdict.hold is not Hold.NONE else None,
            hold_for=job.program.from_address if verdict.hold is Hold.SENDER else None,
            remember=verdict.rule if verdict.remember is Scope.ACCOUNT else None,
            accepted=verdict.action is Action.SENT,
            refusal=refusal,
        )
        if trip is not None:
            self._in_background(self._on_guard(trip.refused_keys))

    def _place(self, job: Job, admission: Admission, judgement: Judgement) -> None:
        job.streak = judgement.result.streak
        match judgement.next:
            case Next.REST:
                return
            case Next.AGAIN:
                if judgement.verdict.action is Action.AGAIN_PLAIN:
                    job.is_plain = True
                elif judgement.verdict.action not in {Action.AGAIN_NOW, Action.NOTHING}:
                    job.avoid = frozenset({admission.account.account_id})
                self._again(job)
            case Next.LATER:
                job.quick_tries += 1
                job.avoid = frozenset({admission.account.account_id})
                pause = asyncio.create_task(self._later(job, judgement.delay))
                self._pauses.add(pause)
                pause.add_done_callback(self._pauses.discard)

    async def _later(self, job: Job, delay: float) -> None:
        try:
            await self._clock.sleep(delay)
        finally:
            self._again(job)

    def _again(self, job: Job) -> None:
        """Let a job wait for an account again, in front of its run."""
        self._queues.put_back(job)
        self._feeder.filled.set()
        self._roster.wake()

    def _watch_content(self, job: Job, judgement: Judgement) -> None:
        """Notice a run whose content is refused by every server, before the whole list has failed."""
        if judgement.verdict.action is Action.SENT:
            self._refused_contents.pop(job.run_id, None)
        elif judgement.verdict.counts_against_run:
            self._refused_contents[job.run_id] += 1
            if self._refused_contents[job.run_id] == REFUSED_CONTENTS_IN_A_ROW:
                del self._refused_contents[job.run_id]
                self._in_background(self._on_refused_content(job.run_id, judgement.verdict.reason))

    def _own_result(
        self,
        job: Job,
        admission: Admission,
        state: DeliveryState,
        *,
        stage: str,
        reason: str,
        start_time: datetime | None = None,
    ) -> Result:
        """Return the entry for a message that ended on our side of the connection."""
        now = self._clock.now()
        return Result(
            claimed=job.claimed,
            state=state,
            outcome=_OWN_OUTCOMES[state],
            worker=self._worker_id(),
            account_id=admission.account.account_id,
            stage=stage,
            start_time=start_time or now,
            end_time=now,
            counted=state is not DeliveryState.PENDING,
            description=reason,
            next_attempt_time=now + BUG_DELAY if state is DeliveryState.DEFERRED else None,
            streak=job.streak,
        )

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)
