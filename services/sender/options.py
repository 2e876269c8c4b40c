"""How the deliveries of a run are treated: checked where it comes in, and read back wherever it is needed."""

import re
from dataclasses import dataclass, field
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import from_duration
from services.sender.retry import DEFAULT_DELAYS, RetryPolicy
from services.sender.states import Policy

DEFAULT_EXPIRY = timedelta(hours=48)
LONGEST_EXPIRY = timedelta(days=30)
LONGEST_DELAY = timedelta(days=7)
MOST_DELAYS = 50
MOST_QUICK_ATTEMPTS = 10

_RETRY_ON = re.compile(r"[45]\d\d|[45]xx|[45]\.\d{1,3}\.\d{1,3}")
_POLICIES = {
    sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE: Policy.AT_MOST_ONCE,
    sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE: Policy.AT_LEAST_ONCE,
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run with every default filled in, but for what an account may still decide."""

    policy: Policy
    account_ids: frozenset[str] = frozenset()
    expire_after: timedelta = DEFAULT_EXPIRY
    retry: sender_pb2.RetryPolicy = field(default_factory=sender_pb2.RetryPolicy)


def check_options(message: sender_pb2.DeliveryOptions, violations: Violations, *, field: str = "options") -> None:
    """Note every problem with the options."""
    if message.policy not in sender_pb2.DeliveryPolicy.values():
        violations.add(f"{field}.policy", "use AT_MOST_ONCE, AT_LEAST_ONCE, or leave it out for the default")
    if message.HasField("expire_after"):
        expiry = _span(message.expire_after)
        if expiry is None or not timedelta() < expiry <= LONGEST_EXPIRY:
            violations.add(f"{field}.expire_after", "use more than 0 seconds and at most 30 days (2592000s)")
    for index, account_id in enumerate(message.account_ids):
        if not account_id:
            violations.add(f"{field}.account_ids[{index}]", "is empty: name an account or remove the entry")
    check_retry_policy(message.retry_policy, violations, field=f"{field}.retry_policy")


def check_retry_policy(message: sender_pb2.RetryPolicy, violations: Violations, *, field: str) -> None:
    """Note every problem with a retry policy."""
    if len(message.delays) > MOST_DELAYS:
        violations.add(f"{field}.delays", f"use at most {MOST_DELAYS}; the last one repeats")
    for index, delay in enumerate(message.delays):
        span = _span(delay)
        if span is None or not timedelta(seconds=1) <= span <= LONGEST_DELAY:
            violations.add(f"{field}.delays[{index}]", "use between 1 second and 7 days (604800s)")
    if message.quick_attempt_count > MOST_QUICK_ATTEMPTS:
        violations.add(f"{field}.quick_attempt_count", f"use 1 to {MOST_QUICK_ATTEMPTS}, or 0 for the default of 3")
    for index, code in enumerate(message.retry_on):
        if not _RETRY_ON.fullmatch(code):
            violations.add(
                f"{field}.retry_on[{index}]",
                'use a reply code ("550"), an enhanced code ("5.7.1") or a class ("5xx")',
            )


def read_options(message: sender_pb2.DeliveryOptions, *, default: Policy) -> Options:
    """Return checked options with defaults filled in."""
    return Options(
        policy=_POLICIES.get(message.policy, default),
        account_ids=frozenset(message.account_ids),
        expire_after=from_duration(message.expire_after) if message.HasField("expire_after") else DEFAULT_EXPIRY,
        retry=message.retry_policy,
    )


def retry_policy(run: sender_pb2.RetryPolicy, account: sender_pb2.RetryPolicy) -> RetryPolicy:
    """Return the policy in force: what the run sets wins over what the account sets, and that over the defaults."""
    delays = run.delays or account.delays
    return RetryPolicy(
        delays=tuple(from_duration(delay) for delay in delays) or DEFAULT_DELAYS,
        quick_attempt_count=run.quick_attempt_count or account.quick_attempt_count or 3,
        retry_on=tuple(run.retry_on or account.retry_on),
    )


def _span(duration: Duration) -> timedelta | None:
    try:
        return from_duration(duration)
    except ValueError:
        return None
