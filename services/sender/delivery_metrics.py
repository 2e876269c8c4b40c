"""Figures about deliveries, for /metrics."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BOUNDS = (*map(str, _SECONDS), "+Inf")


class DeliveryMetrics(Collector):
    """Counts attempts by account and outcome, and shows what is waiting in this process.

    The counting is ours, and plain: it is done for every message. The library's takes locks that nobody needs here.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        in_flight: Callable[[], int],
        claimed: Callable[[], int],
        unwritten: Callable[[], int],
    ) -> None:
        """Register the figures; the callbacks return the present numbers."""
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, _Durations] = {}
        registry.register(self)
        for name, what, read in (
            ("mailer_attempts_in_flight", "Attempts under way in this process.", in_flight),
            ("mailer_claims_waiting", "Messages claimed by this process that wait for a connection.", claimed),
            ("mailer_results_unwritten", "Results that are not on disk yet.", unwritten),
        ):
            Gauge(name, what, registry=registry).set_function(read)

    def attempt_ended(self, account: str, outcome: str, seconds: float) -> None:
        """Count an attempt."""
        self._attempts[account, outcome] += 1
        durations = self._durations.get(account)
        if durations is None:
            durations = self._durations[account] = _Durations()
        durations.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Return the figures; called by whoever reads them, on a thread of its own."""
        attempts = CounterMetricFamily(
            "mailer_attempts", "Attempts that ended, by what they came to.", labels=("account", "outcome")
        )
        for labels, count in list(self._attempts.items()):
            attempts.add_metric(labels, count)
        seconds = HistogramMetricFamily(
            "mailer_attempt_seconds",
            "Seconds an attempt took, from the first command to the answer.",
            labels=("account",),
        )
        for account, durations in list(self._durations.items()):
            seconds.add_metric([account], durations.buckets(), durations.total)
        yield attempts
        yield seconds


class _Durations:
    """How long the attempts through one account took."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many took at most so long, for each bound."""
        return list(zip(_BOUNDS, accumulate(self._counts), strict=True))
