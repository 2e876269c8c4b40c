"""Figures about deliveries, for /metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class DeliveryMetrics:
    """Counts attempts by account and outcome, and shows what is waiting in this process."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        in_flight: Callable[[], int],
        claimed: Callable[[], int],
        unwritten: Callable[[], int],
    ) -> None:
        """Register the figures; the callbacks return the present numbers."""
        self._attempts = Counter(
            "mailer_attempts", "Attempts that ended, by what they came to.", ("account", "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "mailer_attempt_seconds",
            "Seconds an attempt took, from the first command to the answer.",
            ("account",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._known: dict[tuple[str, str], tuple[Counter, Histogram]] = {}  # finding them takes longer than counting
        for name, what, read in (
            ("mailer_attempts_in_flight", "Attempts under way in this process.", in_flight),
            ("mailer_claims_waiting", "Messages claimed by this process that wait for a connection.", claimed),
            ("mailer_results_unwritten", "Results that are not on disk yet.", unwritten),
        ):
            Gauge(name, what, registry=registry).set_function(read)

    def attempt_ended(self, account: str, outcome: str, seconds: float) -> None:
        """Count an attempt."""
        known = self._known.get((account, outcome))
        if known is None:
            known = self._attempts.labels(account, outcome), self._seconds.labels(account)
            self._known[account, outcome] = known
        attempts, durations = known
        attempts.inc()
        durations.observe(seconds)
