"""The states of deliveries and runs: pure, and the same words in SQL, logs and (upper-cased) on the wire."""

from enum import StrEnum


class DeliveryState(StrEnum):
    """Where a delivery stands. Every delivery is in exactly one."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DOT_INTENT = "dot_intent"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


OPEN_STATES = frozenset(
    {DeliveryState.PENDING, DeliveryState.CLAIMED, DeliveryState.DOT_INTENT, DeliveryState.DEFERRED}
)
"""States from which a delivery goes on by itself; a run is done when none of its deliveries is in one."""


class RunState(StrEnum):
    """What somebody decided about a run. Stalled and done follow from its deliveries and are not stored."""

    ACTIVE = "active"
    PAUSED = "paused"
    HELD = "held"
    CANCELLED = "cancelled"


class Policy(StrEnum):
    """What is promised after a crash of any process at any instant."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


class LogOutcome(StrEnum):
    """What a row of `send_logs` says an attempt came to."""

    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    REQUEUED = "requeued"
    UNKNOWN = "unknown"
    RESOLVED = "resolved"
