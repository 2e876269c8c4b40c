"""What follows from an attempt: an entry in the book, a word to the account, and a place for the message."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from random import Random

from mailer.clock import Clock
from mailer.database.types import to_microseconds
from mailer.message.problems import RenderProblem
from mailer.v1 import sender_pb2
from services.sender.attempt import Attempted
from services.sender.credentials import PasswordUnavailable
from services.sender.entries import REPLY_TEXT_LIMIT, Acceptance, Result
from services.sender.feeder import Feeder
from services.sender.jobs import Job
from services.sender.judgement import Judgement, Next, copies_refused, judge_attempt
from services.sender.ledger import Ledger
from services.sender.options import retry_policy
from services.sender.replies import Action, Breaker, History, Hold, Scope, Stage
from services.sender.retry import RetryPolicy
from services.sender.roster import Admission, Refusal, Roster
from services.sender.states import DeliveryState, LogOutcome

BUG_DELAY = timedelta(minutes=5)
REFUSED_CONTENTS_IN_A_ROW = 10
_OWN_OUTCOMES = {
    DeliveryState.PENDING: LogOutcome.REQUEUED,
    DeliveryState.DEFERRED: LogOutcome.DEFERRED,
    DeliveryState.FAILED: LogOutcome.FAILED,
    DeliveryState.UNKNOWN: LogOutcome.UNKNOWN,
}


class _Circumstances:
    """What the table of replies may ask about the account of an attempt."""

    __slots__ = ("_admission", "_job", "_roster", "account_id")

    def __init__(self, job: Job, admission: Admission, roster: Roster) -> None:
        self.account_id = admission.account.account_id
        self._job = job
        self._admission = admission
        self._roster = roster

    def policy(self) -> RetryPolicy:
        """Return when the message is tried again."""
        stored = self._admission.account.retry_policy
        return retry_policy(self._job.retry, sender_pb2.RetryPolicy.FromString(stored))

    def account_history(self) -> Mapping[str, History]:
        """Return what happened to the account before the attempt began."""
        return self._roster.history(self._admission)

    def is_elsewhere(self) -> bool:
        """Say whether an account that may be used offers what this one may lack."""
        return self._roster.may_offer_smtputf8(self._job.program.from_address, self._job.allowed)


class Settlement:
    """Settles attempts, however they ended."""

    def __init__(
        self,
        *,
        clock: Clock,
        random: Random,
        roster: Roster,
        feeder: Feeder,
        ledger: Ledger,
        worker_id: Callable[[], str],
        on_guard: Callable[[tuple[str, ...]], Awaitable[None]],
        on_refused_content: Callable[[str, str], Awaitable[None]],
        on_told: Callable[[str, str], Awaitable[None]],
        on_attempt: Callable[[str, str, float], None],
    ) -> None:
        """Take the parts.

        `on_guard` gets the delivery keys that a suspended account refused, `on_refused_content` a run whose content
        servers refuse time after time, with the reason, `on_told` a run and what concerns all of its messages;
        `on_attempt` gets the account's name, the outcome and the seconds of every attempt, for the figures.
        """
        self._clock = clock
        self._random = random
        self._roster = roster
        self._feeder = feeder
        self._ledger = ledger
        self._worker_id = worker_id
        self._on_guard = on_guard
        self._on_refused_content = on_refused_content
        self._on_told = on_told
        self._on_attempt = on_attempt
        self._told: set[str] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self._words: set[asyncio.Future[None]] = set()
        self._refused_contents: Counter[str] = Counter()

    def settle(
        self,
        job: Job,
        admission: Admission,
        attempted: Attempted,
        start_time: datetime,
        *,
        now: datetime | None = None,
        is_succeeded: bool = False,
    ) -> bool:
        """Book an attempt, tell the account, and send the job where it belongs; say whether its connection is over.

        `now`: when it ended, where that is known. `is_succeeded`: another message waits behind it for its connection.
        """
        now = now or self._clock.now()
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
                ),
                job.dot,
            )
            return True
        if _is_usual(job, attempted):
            self._accept(job, admission, attempted, start_time, now, is_succeeded=is_succeeded)
            return False
        judgement = judge_attempt(
            job,
            attempted,
            _Circumstances(job, admission, self._roster),
            worker=self._worker_id(),
            start_time=start_time,
            now=now,
            random=self._random,
        )
        self._ledger.record(judgement.result, job.dot)
        self._tell_account(job, admission, attempted, judgement, is_succeeded=is_succeeded)
        self._on_attempt(account.name, judgement.result.outcome.value, (now - start_time).total_seconds())
        self._place(job, admission, judgement)
        self._watch_content(job, judgement)
        if judgement.verdict.tell_run and job.run_id not in self._told:
            self._told.add(job.run_id)
            self._in_background(self._on_told(job.run_id, judgement.verdict.reason))
        return judgement.verdict.close_connection

    def _accept(
        self,
        job: Job,
        admission: Admission,
        attempted: Attempted,
        start_time: datetime,
        now: datetime,
        *,
        is_succeeded: bool,
    ) -> None:
        """Settle what happens nearly always: what `judge_attempt` and all that follows would come to, in short."""
        claimed, reply, account = job.claimed, attempted.incident.reply, admission.account
        assert reply is not None
        acceptance = Acceptance(
            claimed.id,
            claimed.token,
            claimed.delivery_key,
            claimed.run_id,
            account.account_id,
            self._worker_id(),
            claimed.attempt_count,
            to_microseconds(start_time),
            to_microseconds(now),
            reply.code,
            reply.enhanced_text,
            reply.text[:REPLY_TEXT_LIMIT],
            copies_refused(attempted)[:REPLY_TEXT_LIMIT] if attempted.refused_copies else "",
        )
        self._ledger.accept(acceptance, job.dot)
        self._roster.settle(
            admission,
            Breaker.SUCCESS,
            reason="accepted",
            counted=True,
            accepted=True,
            is_succeeded=is_succeeded,
            now=now,
        )
        self._on_attempt(account.name, LogOutcome.SENT.value, (now - start_time).total_seconds())
        if self._refused_contents:
            self._refused_contents.pop(job.run_id, None)

    def again(self, job: Job) -> None:
        """Let a job wait for an account again, in front of its run."""
        self._feeder.put_back(job)
        self._roster.wake()

    def not_rendered(self, job: Job, admission: Admission, problem: RenderProblem) -> None:
        """Book a message that cannot be made for its recipient."""
        self._roster.settle(admission, Breaker.NONE, reason="not sent", counted=False)
        reason = f"the message cannot be rendered for this recipient: {problem}"
        self._ledger.record(self._own_result(job, admission, DeliveryState.FAILED, stage="RENDER", reason=reason))

    def no_password(self, job: Job, admission: Admission, problem: PasswordUnavailable) -> None:
        """Hold an account whose password is not to be had; the message waits."""
        self._roster.settle(admission, Breaker.NONE, reason=str(problem), counted=False, hold_reason=str(problem))
        self.again(job)

    def not_begun(self, job: Job, admission: Admission) -> None:
        """Put a message back whose turn on its connection did not come; its intent may be on disk, or on the way."""
        self._roster.settle(admission, Breaker.NONE, reason="not begun", counted=False)
        self._feeder.give_back([job.claimed])

    def cancelled(self, admission: Admission) -> None:
        """Free an account from an attempt that was cancelled before it began."""
        self._roster.settle(admission, Breaker.NONE, reason="cancelled", counted=False)

    def ended_by_bug(self, job: Job, admission: Admission) -> None:
        """Book an attempt that failed by our own fault: that is never the recipient's."""
        self._roster.settle(admission, Breaker.NONE, reason="a bug of ours", counted=False)
        # Before the dot it is tried again until the message expires.
        state = DeliveryState.UNKNOWN if job.dot else DeliveryState.DEFERRED
        reason = "a bug of ours, see the log"
        self._ledger.record(self._own_result(job, admission, state, stage="INTERNAL", reason=reason), job.dot)

    async def close(self, grace_seconds: float) -> None:
        """Let pauses end now, and words that are on their way arrive, at most so long."""
        for pause in set(self._pauses):
            pause.cancel()
        if self._words:
            _, late = await asyncio.wait(set(self._words), timeout=grace_seconds)
            for word in late:
                word.cancel()

    def _tell_account(
        self, job: Job, admission: Admission, attempted: Attempted, judgement: Judgement, *, is_succeeded: bool
    ) -> None:
        verdict = judgement.verdict
        if verdict.action is Action.SENT:
            self._roster.settle(
                admission, verdict.breaker, reason="accepted", counted=True, accepted=True, is_succeeded=is_succeeded
            )
            return
        refusal = None
        if verdict.feeds_guard and verdict.action is Action.FAIL:
            refusal = Refusal(job.claimed.delivery_key, job.claimed.canonical.rpartition("@")[2])
        trip = self._roster.settle(
            admission,
            verdict.breaker,
            reason=verdict.reason,
            counted=attempted.was_intended,
            rest_until=judgement.result.end_time + verdict.rest if verdict.rest else None,
            hold_reason=verdict.reason if verdict.hold is not Hold.NONE else None,
            hold_for=job.program.from_address if verdict.hold is Hold.SENDER else None,
            remember=verdict.rule if verdict.remember is Scope.ACCOUNT else None,
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
                self.again(job)
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
            self.again(job)

    def _watch_content(self, job: Job, judgement: Judgement) -> None:
        """Notice a run whose content is refused by every server, before the whole list has failed."""
        if judgement.verdict.action is Action.SENT:
            self._refused_contents.pop(job.run_id, None)
        elif judgement.verdict.counts_against_run:
            self._refused_contents[job.run_id] += 1
            if self._refused_contents[job.run_id] == REFUSED_CONTENTS_IN_A_ROW:
                del self._refused_contents[job.run_id]
                self._in_background(self._refuse_content(job.run_id, judgement.verdict.reason))

    def _refuse_content(self, run_id: str, reason: str) -> Awaitable[None]:
        """Close a run at once, and keep it closed until the word about it is stored."""
        self._feeder.shut(run_id)

        async def decide() -> None:
            try:
                await self._on_refused_content(run_id, reason)
            finally:
                self._feeder.unshut(run_id)

        return decide()

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
        self._words.add(task)
        task.add_done_callback(self._words.discard)


def _is_usual(job: Job, attempted: Attempted) -> bool:
    """Say whether a server took a message that was in no trouble before."""
    incident = attempted.incident
    return (
        incident.stage is Stage.DOT
        and incident.reply is not None
        and incident.reply.is_positive
        and not job.streak.rule
    )
