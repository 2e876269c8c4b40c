"""From what an attempt came to, to what is booked, what the account learns and what the message does next. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from random import Random

from services.sender.attempt import Attempted
from services.sender.book import Result
from services.sender.jobs import Job
from services.sender.replies import Action, Breaker, History, Scope, Verdict, judge
from services.sender.retry import RetryPolicy
from services.sender.states import DeliveryState, LogOutcome, Policy

# The circuit decides when an account is tried again; this is only for one that never opens.
UNCOUNTED_DELAY = timedelta(minutes=1)


class Next(Enum):
    """What the message does next."""

    REST = auto()  # it has left this worker: its row in the book says where it stands
    AGAIN = auto()  # the claim is kept, and it waits for an account at once
    LATER = auto()  # the claim is kept, and it waits for `delay` seconds first


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that follows from one attempt."""

    result: Result
    next: Next
    delay: float
    verdict: Verdict


def judge_attempt(
    job: Job,
    attempted: Attempted,
    *,
    account_id: str,
    policy: RetryPolicy,
    worker: str,
    start_time: datetime,
    now: datetime,
    random: Random,
    account_history: Mapping[str, History],
    is_elsewhere: bool,
) -> Judgement:
    """Return what follows. `is_elsewhere`: another account may take what this one cannot (non-ASCII addresses)."""
    incident = attempted.incident
    lasting = max(now - (job.streak.since or now), timedelta())
    history = {**account_history, job.streak.rule: History(job.streak.count, lasting)}
    verdict = judge(incident, history=history, retry_on=policy.retry_on)
    streak = job.streak.after(verdict.rule, now) if verdict.remember is Scope.DELIVERY else job.streak
    state, outcome, follows, delay, next_time = _course(
        job, verdict, policy, now=now, random=random, is_elsewhere=is_elsewhere
    )
    copies = f" Copies refused: {'; '.join(attempted.refused_copies)}." if attempted.refused_copies else ""
    reason = "" if state is DeliveryState.SENT else verdict.reason
    reply = incident.reply
    result = Result(
        claimed=job.claimed,
        state=state,
        outcome=outcome,
        worker=worker,
        account_id=account_id,
        stage=incident.stage.value,
        start_time=start_time,
        end_time=now,
        counted=verdict.is_counted,
        reply_code=reply.code if reply else 0,
        enhanced_code=str(reply.enhanced or "") if reply else "",
        reply_text=reply.text if reply else "",
        description=f"{reason}{copies}".strip(),
        next_attempt_time=next_time,
        streak=streak,
        possible_duplicate=outcome is LogOutcome.UNKNOWN and state is not DeliveryState.UNKNOWN,
        suppress=verdict.suppress and state is DeliveryState.FAILED,
        step="end" if state is not DeliveryState.CLAIMED else f"try{job.tries % 1000}",
        dot=job.dot,
    )
    return Judgement(
        result=result,
        next=follows,
        delay=delay,
        verdict=verdict,
    )


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
