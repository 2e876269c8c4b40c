"""What Prometheus hears about accounts."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.sender.circuit_record import Phase

_LEVEL = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}


class AccountMetrics:
    """Gauges and counters per account, by its name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"mailer_account_{name}", what, ["account"], registry=registry)

        self._circuit = gauge("circuit_state", "Circuit of the account: 0 closed, 1 half-open, 2 open.")
        self._held = gauge("held", "1 while the account waits for a person.")
        self._resting = gauge("resting", "1 while the account rests because its server asked for it.")
        self._connections = gauge("open_connections", "Connections in use by this process.")
        self._transitions = Counter(
            "mailer_account_circuit_transitions",
            "Transitions of the circuit seen by this process.",
            ["account", "to"],
            registry=registry,
        )

    def show(self, name: str, *, phase: Phase, held: bool, resting: bool, in_flight: int) -> None:
        """Set the gauges of an account."""
        self._circuit.labels(name).set(_LEVEL[phase])
        self._held.labels(name).set(held)
        self._resting.labels(name).set(resting)
        self._connections.labels(name).set(in_flight)

    def count_transition(self, name: str, to: str) -> None:
        """Count a transition of the circuit."""
        self._transitions.labels(name, to).inc()

    def forget(self, name: str) -> None:
        """Drop the gauges of an account that is gone or has another name."""
        for gauge in (self._circuit, self._held, self._resting, self._connections):
            if (name,) in gauge._metrics:
                gauge.remove(name)
