"""What the scheduler counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_BATCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class SchedulerMetrics:
    """One set per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the figures."""
        self.runs_started = Counter(
            "mailer_scheduler_runs_started", "Runs begun, by what became of their slot.", ("state",), registry=registry
        )
        self.due_to_dispatch = Histogram(
            "mailer_scheduler_due_to_dispatch_seconds",
            "Seconds from a run's start to its first batch: the scheduler's share of being late.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.recipients_dispatched = Counter(
            "mailer_scheduler_recipients_dispatched", "Recipients that the sender took over.", registry=registry
        )
        self.recipients_rejected = Counter(
            "mailer_scheduler_recipients_rejected", "Recipients that the sender did not take.", registry=registry
        )
        self.batch_seconds = Histogram(
            "mailer_scheduler_batch_seconds",
            "Seconds the sender took to answer a batch.",
            ("code",),
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self.campaigns = Gauge(
            "mailer_scheduler_campaigns", "Campaigns that are not over, by state.", ("state",), registry=registry
        )
        self.leading = Gauge(
            "mailer_scheduler_leading", "1 while this process hands over runs, 0 while it stands by.", registry=registry
        )
