"""Prometheus figures: one registry per process, passed in, served on an address of its own."""

from dataclasses import dataclass, field
from http.server import HTTPServer
from threading import Thread

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    start_http_server,
)
from prometheus_client import ProcessCollector as _ProcessCollector

from mailer.errors import CannotStart

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def new_registry() -> CollectorRegistry:
    """Return a registry that knows the process (memory, CPU, files, garbage) and nothing else yet."""
    registry = CollectorRegistry(auto_describe=True)
    _ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class RpcMetrics:
    """What every server counts about its calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the figures."""
        self.handled = Counter("mailer_rpc_handled", "Calls that ended.", ("method", "code"), registry=registry)
        self.seconds = Histogram(
            "mailer_rpc_seconds",
            "Seconds a call that is no stream took.",
            ("method",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge("mailer_rpc_running", "Calls at work now.", ("kind",), registry=registry)


@dataclass(slots=True)
class MetricsEndpoint:
    """Serves /metrics over HTTP until it is closed; port 0 in the settings means off."""

    registry: CollectorRegistry
    host: str
    port: int
    port_setting: str
    """The name that sets the port."""
    _server: HTTPServer | None = field(default=None, init=False)
    _thread: Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Listen; raises CannotStart when the port is taken."""
        if self.port == 0:
            return
        try:
            self._server, self._thread = start_http_server(self.port, self.host, self.registry)
        except OSError as error:
            raise CannotStart(
                f"metrics cannot listen on {self.host}:{self.port}: {error.strerror or error}; "
                f"set {self.port_setting} to another port, or to 0 for none (mailer up --no-metrics)"
            ) from None

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None
