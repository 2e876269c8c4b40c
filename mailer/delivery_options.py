"""How the deliveries of a run are treated: checked alike where a campaign is made and where a batch comes in."""

import re
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import from_duration

LONGEST_EXPIRY = timedelta(days=30)
LONGEST_DELAY = timedelta(days=7)
MOST_DELAYS = 50
MOST_QUICK_ATTEMPTS = 10
MOST_ACCOUNTS = 1000
MOST_RETRY_ON = 100

_RETRY_ON = re.compile(r"[45]\d\d|[45]xx|[45]\.\d{1,3}\.\d{1,3}")


def check_options(message: sender_pb2.DeliveryOptions, violations: Violations, *, field: str = "options") -> None:
    """Note every problem with the options."""
    if message.policy not in sender_pb2.DeliveryPolicy.values():
        violations.add(f"{field}.policy", "use AT_MOST_ONCE, AT_LEAST_ONCE, or leave it out for the default")
    if message.HasField("expire_after"):
        expiry = _span(message.expire_after)
        if expiry is None or not timedelta() < expiry <= LONGEST_EXPIRY:
            violations.add(f"{field}.expire_after", "use more than 0 seconds and at most 30 days (2592000s)")
    if len(message.account_ids) > MOST_ACCOUNTS:
        violations.add(f"{field}.account_ids", f"use at most {MOST_ACCOUNTS}, or none for every account")
    for index, account_id in enumerate(message.account_ids[:MOST_ACCOUNTS]):
        if not account_id:
            violations.add(f"{field}.account_ids[{index}]", "is empty: name an account or remove the entry")
    check_retry_policy(message.retry_policy, violations, field=f"{field}.retry_policy")


def check_retry_policy(message: sender_pb2.RetryPolicy, violations: Violations, *, field: str) -> None:
    """Note every problem with a retry policy."""
    if len(message.delays) > MOST_DELAYS:
        violations.add(f"{field}.delays", f"use at most {MOST_DELAYS}; the last one repeats")
    for index, delay in enumerate(message.delays[:MOST_DELAYS]):
        span = _span(delay)
        if span is None or not timedelta(seconds=1) <= span <= LONGEST_DELAY:
            violations.add(f"{field}.delays[{index}]", "use between 1 second and 7 days (604800s)")
    if message.quick_attempt_count > MOST_QUICK_ATTEMPTS:
        violations.add(f"{field}.quick_attempt_count", f"use 1 to {MOST_QUICK_ATTEMPTS}, or 0 for the default of 3")
    if len(message.retry_on) > MOST_RETRY_ON:
        violations.add(f"{field}.retry_on", f"use at most {MOST_RETRY_ON}; a class such as 5xx stands for many")
    for index, code in enumerate(message.retry_on[:MOST_RETRY_ON]):
        if not _RETRY_ON.fullmatch(code):
            violations.add(
                f"{field}.retry_on[{index}]",
                'use a reply code ("550"), an enhanced code ("5.7.1") or a class ("5xx")',
            )


def _span(duration: Duration) -> timedelta | None:
    try:
        return from_duration(duration)
    except ValueError:
        return None
