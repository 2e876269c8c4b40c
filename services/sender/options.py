"""How the deliveries of a run are treated, read back wherever it is needed; mailer.delivery_options checks it."""

from dataclasses import dataclass, field
from datetime import timedelta

from mailer.v1 import sender_pb2
from mailer.wire import from_duration
from services.sender.retry import DEFAULT_DELAYS, RetryPolicy
from services.sender.states import Policy

DEFAULT_EXPIRY = timedelta(hours=48)

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
