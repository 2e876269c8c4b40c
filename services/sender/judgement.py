"""From what an attempt came to, to what is booked, what the account learns and what the message does next. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from random import Random
from typing import Protocol

from services.sender.attempt import Attempted
from services.sender.entries import Result
from services.sender.jobs import Job
from services.sender.replies import Action, Breaker, History, Scope, Stage, Verdict, judge
from services.sender.retry import RetryPolicy
from services.sender.states import DeliveryState, LogOutcome, Policy

# The circuit decides when an account is tried again; this is only for one that never opens.
UNCOUNTED_DELAY = timedelta(minutes=1)


class Next(Enum):
    """What the message does next."""

    REST = auto()  # it has left this worker: its row in the book says where it stands
    AGAIN = auto()  # the claim is kept, and it waits for an account at once
    LATER = auto()  # the claim is kept, and it waits for `delay` seconds first


class Circumstances(Protocol):
    """What is known about the account of an attempt."""

    account_id: str

    def policy(self) -> RetryPolicy:
        """Return when a message is tried again."""

    def account_history(self) -> Mapping[str, History]:
        """Return what happened to the account before."""

    def is_elsewhere(self) -> bool:
        """Say whether another account may take what this one cannot (non-ASCII addresses)."""


@dataclass(slots=True)
class Judgement:
    """Everything that follows from one attempt."""

    result: Result
    next: Next
    delay: float
    verdict: Verdict


def judge_attempt(
    job: Job,
    attempted: Attempted,
    circumstances: Circumstances,
    *,
    worker: str,
    start_time: datetime,
    now: datetime,
    random: Random,
) -> Judgement:
    """Return what follows. The circumstances are asked only about trouble."""
    incident = attempted.incident
    if incident.stage is Stage.DOT and incident.reply is not None and incident.reply.is_positive:
        result = _result(
            job, attempted, worker=worker, account_id=circumstances.account_id, start_time=start_time, now=now
        )
        return Judgement(result, Next.REST, 0.0, judge(incident))
    policy = circumstances.policy()
    lasting = max(now - (job.streak.since or now), timedelta())
    history = {**circumstances.account_history(), job.streak.rule: History(job.streak.count, lasting)}
    verdict = judge(incident, history=history, retry_on=policy.retry_on)
    state, outcome, follows, delay, next_time = _course(
        job, verdict, policy, now=now, random=random, is_elsewhere=circumstances.is_elsewhere()
    )
    result = _result(job, attempted, worker=worker, account_id=circumstances.account_id, start_time=start_time, now=now)
    result.state = state
    result.outcome = outcome
    result.counted = verdict.is_counted
    result.description = f"{'' if state is DeliveryState.SENT else verdict.reason} {result.description}".strip()
    result.next_attempt_time = next_time
    if verdict.remember is Scope.DELIVERY:
        result.streak = job.streak.after(verdict.rule, now)
    result.possible_duplicate = outcome is LogOutcome.UNKNOWN and state is not DeliveryState.UNKNOWN
    result.suppress = verdict.suppress and state is DeliveryState.FAILED
    if state is DeliveryState.CLAIMED:
        result.step = f"try{job.tries % 1000}"
    return Judgement(result, follows, delay, verdict)


def _result(
    job: Job, attempted: Attempted, *, worker: str, account_id: str, start_time: datetime, now: datetime
) -> Result:
    """Return the entry for an attempt that was accepted: what differs from it is put in by who knows better."""
    reply = attempted.incident.reply
    return Result(
        claimed=job.claimed,
        state=DeliveryState.SENT,
        outcome=LogOutcome.SENT,
        worker=worker,
        account_id=account_id,
        stage=attempted.incident.stage.value,
        start_time=start_time,
        end_time=now,
        reply_code=reply.code if reply else 0,
        enhanced_code=reply.enhanced_text if reply else "",
        reply_text=reply.text if reply else "",
        description=copies_refused(attempted),
        streak=job.streak,
    )


def copies_refused(attempted: Attempted) -> str:
    """Return which copies a server refused although it took the message; nothing when there are none."""
    copies = attempted.refused_copies
    return f"Copies refused: {'; '.join(copies)}." if copies else ""


_Course = tuple[DeliveryState, LogOutcome, Next, float, datetime | None]


def _course(  # noqa: PLR0911 (one return per action is the plainest way to say it)
    job: Job, verdict: Verdict, policy: RetryPolicy, *, now: datetime, random: Random, is_elsewhere: bool
) -> _Course:
    """Return state, outcome for the log, what comes next and after how many seconds, and the next attempt's time."""
    again: _Course = (DeliveryState.CLAIMED, LogOutcome.REQUEUED, Next.AGAIN, 0.0, None)
    match verdict.action:
        case Action.SENT:
            return DeliveryState.SENT, LogOutcome.SENT, Next.REST, 0.0, None
        case Action.FAIL:
            return DeliveryState.FAILED, LogOutcome.FAILED, Next.REST, 0.0, None
        case Action.UNKNOWN if job.policy is Policy.AT_MOST_ONCE:
            return DeliveryState.UNKNOWN, LogOutcome.UNKNOWN, Next.REST, 0.0, None
        case Action.UNKNOWN:
            return _later(job, verdict, policy, LogOutcome.UNKNOWN, now=now, random=random)
        case Action.DEFER:
            return _later(job, verdict, policy, LogOutcome.DEFERRED, now=now, random=random)
        case Action.OTHER_ACCOUNT if not is_elsewhere:
            return DeliveryState.FAILED, LogOutcome.FAILED, Next.REST, 0.0, None
        case Action.REQUEUE if verdict.breaker is Breaker.FAILURE:
            delay = policy.quick_delay(tries=job.quick_tries + 1, random=random)
            if delay is None:
                at = now + UNCOUNTED_DELAY * random.uniform(1, 1.5)
                return DeliveryState.DEFERRED, LogOutcome.REQUEUED, Next.REST, 0.0, at
            return DeliveryState.CLAIMED, LogOutcome.REQUEUED, Next.LATER, delay, None
        case Action.REQUEUE | Action.OTHER_ACCOUNT | Action.AGAIN_NOW | Action.AGAIN_PLAIN | Action.NOTHING:
            return again


def _later(
    job: Job, verdict: Verdict, policy: RetryPolicy, outcome: LogOutcome, *, now: datetime, random: Random
) -> _Course:
    """Return the course of a message that is tried again in minutes or hours, or whose time is over."""
    at = policy.next_attempt(
        attempt_count=job.claimed.attempt_count + 1,
        now=now,
        expire_time=job.claimed.expire_time,
        random=random,
        retry_after=verdict.retry_after,
    )
    if at is None:
        return DeliveryState.EXPIRED, outcome, Next.REST, 0.0, None
    return DeliveryState.DEFERRED, outcome, Next.REST, 0.0, at
