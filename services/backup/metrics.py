"""What the backup service counts."""

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.backup.shown import Copy, Shown
from services.backup.snapshot import State

_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class BackupMetrics:
    """Figures of operations, and of the state of the store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the figures."""
        self.operations = Counter(
            "mailer_backup_operations",
            "Operations that ended, by outcome (ok, or the reason of the error).",
            ("operation", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "mailer_backup_seconds",
            "Seconds an operation took.",
            ("operation",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.writer_wait = Gauge(
            "mailer_backup_writer_wait_seconds",
            "Longest time a writer waited for the last Create, or for the last Restore.",
            ("operation",),
            registry=registry,
        )
        self.snapshots = Gauge("mailer_backup_snapshots", "Snapshots in the store.", ("state",), registry=registry)
        self.store_bytes = Gauge("mailer_backup_store_bytes", "Bytes that they take up.", registry=registry)
        self.newest = Gauge(
            "mailer_backup_newest_good_timestamp_seconds",
            "When the newest good snapshot was taken; 0 when there is none.",
            registry=registry,
        )
        self.stale = Gauge(
            "mailer_backup_stale", "1 when it is older than the schedule says it should be.", registry=registry
        )
        self.drill = Gauge(
            "mailer_backup_drill_timestamp_seconds",
            "When a restore drill last went well; 0 when none has.",
            registry=registry,
        )
        self.copies = Gauge(
            "mailer_backup_copies",
            "Snapshots by how it is with their copy off the machine.",
            ("copy",),
            registry=registry,
        )
        self.last_copy = Gauge(
            "mailer_backup_last_copy_timestamp_seconds",
            "When a snapshot was last copied off the machine; 0 when none has been.",
            registry=registry,
        )
        self.copies_late = Gauge(
            "mailer_backup_copies_late", "1 when a snapshot waits for its copy for too long.", registry=registry
        )

    def count_snapshots(self, snapshots: Sequence[Shown]) -> None:
        """Show what is in the store."""
        copies = Tally(one.copy for one in snapshots)
        for copy in Copy:
            self.copies.labels(copy.value).set(copies[copy])
        here = [one for one in snapshots if one.copy is not Copy.ONLY_COPY]
        states = Tally(one.state for one in here)
        for state in State:
            self.snapshots.labels(state.value).set(states[state])
        self.store_bytes.set(sum(one.snapshot.packed_size_bytes for one in here))
