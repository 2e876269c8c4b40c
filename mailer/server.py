"""A gRPC server that tells the truth about itself and stops without breaking anybody's call."""

import asyncio
import signal
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from mailer.clock import Clock
from mailer.errors import CannotStart
from mailer.interceptor import Calls, Outermost
from mailer.log import get_logger
from mailer.metrics import RpcMetrics
from mailer.tls import ServerTls

log = get_logger(__name__)

MAX_RECEIVE_BYTES = 4 * 1024 * 1024
"""What one message may weigh, also after decompression."""

_OPTIONS = (
    # On by default in grpc: a second server on the same port would share it in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Our clients ping every 20 s; without this the server answers such pings with GOAWAY.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 5),
)
_UNCOUNTED_FACTOR = 4
# How long streams may take to end by themselves once `stopping` is set.
_STREAM_SECONDS = 0.2


class GrpcServer:
    """One server: add servicers to `grpc`, `start` it, `run_until_signal` and it stops in good order."""

    def __init__(
        self,
        services: Sequence[ServiceDescriptor],
        *,
        host: str,
        port: int,
        clock: Clock,
        registry: CollectorRegistry,
        tls: ServerTls | None = None,
        with_reflection: bool = False,
        drain_seconds: float = 20.0,
        max_concurrent_calls: int = 512,
        interceptors: Iterable[grpc.aio.ServerInterceptor] = (),
        port_setting: str = "the port",
    ) -> None:
        """Take the services that will be added; `port_setting` is what to set when the port is taken."""
        self._host = host
        self._wanted_port = port
        self._clock = clock
        self._tls = tls
        self._drain_seconds = drain_seconds
        self._port_setting = port_setting
        self._calls = Calls(most=max_concurrent_calls)
        self._names = [service.full_name for service in services]
        self._conditions: dict[str, bool] = {}
        self._stop_wanted = asyncio.Event()
        self._stopped = False
        self.port = 0
        """The port it listens on; known after `start`."""
        self.grpc = grpc.aio.server(
            interceptors=(Outermost(self._calls, RpcMetrics(registry)), *interceptors),
            options=_OPTIONS,
            # Answers without a word of why, and to health checks, too: only for what the interceptor never gets to see.
            maximum_concurrent_rpcs=_UNCOUNTED_FACTOR * max_concurrent_calls,
        )
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        if with_reflection:
            names = (*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self.grpc)

    @property
    def stopping(self) -> asyncio.Event:
        """Return the event that is set when a stop begins: streams and loops end by themselves then."""
        return self._calls.stopping

    @property
    def serving(self) -> bool:
        """Say what the health service says."""
        return self.port != 0 and not self.stopping.is_set() and all(self._conditions.values())

    async def start(self) -> None:
        """Listen; raises CannotStart with one line when the address cannot be had."""
        address = f"{self._host}:{self._wanted_port}"
        try:
            _try_address(self._host, self._wanted_port)
        except OSError as error:
            raise CannotStart(
                f"cannot listen on {address}: {error.strerror or error}; "
                f"stop the other process or set {self._port_setting}"
            ) from None
        try:
            if self._tls is None:
                self.port = self.grpc.add_insecure_port(address)
            else:
                self.port = self.grpc.add_secure_port(address, self._tls.credentials())
        except RuntimeError:
            raise CannotStart(f"cannot listen on {address}: set {self._port_setting}") from None
        await self._tell_health()
        await self.grpc.start()
        log.info("listening", address=f"{self._host}:{self.port}", tls=self._tls is not None)

    async def set_serving(self, serving: bool, *, condition: str = "service") -> None:
        """Report one condition (say, "database"); health is SERVING while all of them are good."""
        before = self._conditions.get(condition, True)
        self._conditions[condition] = serving
        if before != serving and self.port != 0:
            await self._tell_health()

    async def report(self, name: str, *, serving: bool) -> None:
        """Report under a name of its own what must not decide about the service as a whole."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(name, status)

    def request_stop(self) -> None:
        """Let `run_until_signal` go on to stop, as a signal would."""
        self._stop_wanted.set()

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM, SIGINT or `request_stop`, then stop in good order; a second signal hurries."""
        loop = asyncio.get_running_loop()
        hurry = asyncio.Event()

        def on_signal() -> None:
            (hurry if self._stop_wanted.is_set() else self._stop_wanted).set()

        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, on_signal)
        try:
            await self._stop_wanted.wait()
            await self.stop(hurry=hurry)
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """NOT_SERVING at once; running calls get until the drain time to answer; streams are told to end."""
        if self._stopped:
            return
        self._stopped = True
        self._calls.stopping.set()
        log.info("stopping", calls=self._calls.answering)
        await self._health.enter_graceful_shutdown()
        streams = asyncio.create_task(self._end_streams())
        done = asyncio.Event()
        drained = asyncio.create_task(self._drained(done, hurry))
        try:
            if not await self._clock.wait(done, self._drain_seconds):
                log.warning("calls were cut off by the stop", calls=self._calls.answering)
        finally:
            for task in (streams, drained):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._calls.end_streams()
            # Open health watches would make a longer grace last to its end.
            await self.grpc.stop(0.2)

    async def _drained(self, done: asyncio.Event, hurry: asyncio.Event | None) -> None:
        waits = [asyncio.ensure_future(self._calls.idle())]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))  # type: ignore[arg-type]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            done.set()
        finally:
            for wait in waits:
                wait.cancel()

    async def _end_streams(self) -> None:
        await self._clock.sleep(_STREAM_SECONDS)
        self._calls.end_streams()

    async def _tell_health(self) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if self.serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)


def _try_address(host: str, port: int) -> None:
    """Raise OSError when the address cannot be bound: grpc itself would not tell why."""
    for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
