"""The life of a service's process: settings, logs, database, server, work, and back in the opposite order."""

import asyncio
import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry

from mailer import __version__
from mailer.clock import Clock, SystemClock
from mailer.config import CommonSettings, load
from mailer.database import Database, DatabaseUnavailable, Migrations
from mailer.database.engine import locate
from mailer.errors import CannotStart
from mailer.garbage import rarely_collect_garbage
from mailer.log import configure, get_logger
from mailer.metrics import MetricsEndpoint, new_registry
from mailer.server import GrpcServer
from mailer.tls import ServerTls

log = get_logger(__name__)

S = TypeVar("S", bound=CommonSettings)

_PROBE_SECONDS = 1.0
# What says something about the place where files are kept, and nothing about this program.
_OF_THE_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR}
)


@dataclass(frozen=True, slots=True)
class ServiceProcess(Generic[S]):
    """What a service is given to build itself from."""

    settings: S
    clock: Clock
    server: GrpcServer
    registry: CollectorRegistry
    opened: Database | None

    @property
    def database(self) -> Database:
        """Return the database; asking for it is a bug in a service that was started without one."""
        if self.opened is None:
            raise RuntimeError("this service opens no database")
        return self.opened

    @property
    def stopping(self) -> asyncio.Event:
        """Return the event that is set when the process begins to stop."""
        return self.server.stopping


Build = Callable[[ServiceProcess[S]], AbstractAsyncContextManager[None]]


def run_service(
    name: str,
    settings_class: type[S],
    *,
    service: ServiceDescriptor,
    migrations: Sequence[Migrations] | None,
    build: Build[S],
    portable_modules: Sequence[str] = (),
) -> int:
    """Run a service until it is told to stop; returns the exit code.

    With `migrations` None it opens no database: it works on the file itself, also on one that cannot be opened.
    `portable_modules` have functions that a process of their own runs, see `Database.open`.
    `build` is an async context manager: it adds its servicer to `process.server.grpc` and starts its tasks
    before the yield, and ends them after it, when no call is running any more. What cannot start says so in
    one line per problem on stderr and exits with 2 (settings) or 1.
    """
    try:
        settings = load(settings_class)
        configure(service=name, level=settings.log_level, log_format=settings.log_format)
        with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
            runner.run(_run(name, settings, service, migrations, build, portable_modules))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        problem = _cannot_start(error)
        if problem is None:
            log.exception("the service ended by a bug")
            return 1
        for line in problem.problems:
            print(f"mailer {name}: {line}", file=sys.stderr)  # noqa: T201 (logs may not be set up yet)
        return problem.exit_code
    return 0


async def _run(  # noqa: PLR0917 (handed on as they came)
    name: str,
    settings: S,
    service: ServiceDescriptor,
    migrations: Sequence[Migrations] | None,
    build: Build[S],
    portable_modules: Sequence[str],
) -> None:
    clock = SystemClock()
    registry = new_registry()
    if settings.insecure and not settings.on_loopback and settings.tls_certificate_file is None:
        log.warning("MAILER_INSECURE: listening without TLS beyond this machine", host=settings.host)
    _make_data_dir(settings)
    async with AsyncExitStack() as stack:
        metrics = MetricsEndpoint(
            registry, settings.metrics_host, settings.metrics_port, settings.name_of("metrics_port")
        )
        metrics.start()
        stack.callback(metrics.close)
        database = None
        if migrations is not None:
            database = await Database.open(
                settings.database_url,
                clock=clock,
                migrations=migrations,
                busy_timeout=settings.database_busy_timeout,
                portable_modules=portable_modules,
            )
            stack.push_async_callback(database.close)
        server = GrpcServer(
            [service],
            host=settings.host,
            port=settings.port,
            clock=clock,
            registry=registry,
            tls=_tls(settings),
            with_reflection=settings.with_reflection,
            drain_seconds=settings.drain.total_seconds(),
            max_concurrent_calls=settings.max_concurrent_calls,
            port_setting=settings.name_of("port"),
        )
        stack.push_async_callback(server.stop)  # does nothing after the good order below
        process = ServiceProcess(settings, clock, server, registry, database)
        async with build(process):
            watch = None
            if database is not None:
                watch = asyncio.create_task(watch_database(database, server, clock))
                stack.callback(watch.cancel)
            await server.start()
            log.info("started", version=__version__, database=str(locate(settings.database_url)))
            rarely_collect_garbage()
            await server.run_until_signal()
            if watch is not None:
                watch.cancel()
    log.info("stopped", service=name)


def _make_data_dir(settings: CommonSettings) -> None:
    """Make the folder where files are kept, for the owner only: whoever uses it first finds it."""
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = f"{folder} is a file" if folder.is_file() else f"the folder {folder} cannot be made: {error.strerror}"
        raise CannotStart(f"{settings.name_of('data_dir')}: {why}; name a folder that can be written") from None


class Probed(Protocol):
    """What health asks of a database."""

    @property
    def healthy(self) -> bool:
        """Say whether it worked when it was last used."""

    async def probe(self) -> bool:
        """Use it; returns `healthy`."""

    def on_health_change(self, callback: Callable[[bool], None]) -> None:
        """Call back whenever `healthy` changes."""


async def watch_database(database: Probed, server: GrpcServer, clock: Clock) -> None:
    """Keep health as true as the database is: asked every second, at once when a write fails."""
    changed = asyncio.Event()
    database.on_health_change(lambda _: changed.set())
    # A probe waits its turn behind other writes: what those find out must not wait for it.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_probe(database, server, clock))
        while not server.stopping.is_set():
            changed.clear()
            await server.set_serving(database.healthy, condition="database")
            await clock.wait(changed, _PROBE_SECONDS)


async def _probe(database: Probed, server: GrpcServer, clock: Clock) -> None:
    while not server.stopping.is_set():
        await database.probe()
        await clock.wait(server.stopping, _PROBE_SECONDS)


def _cannot_start(error: Exception) -> CannotStart | None:
    """Return the reason for not starting, also out of the group that a service's own TaskGroup made of it."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return _cannot_start(error.exceptions[0])
    if isinstance(error, OSError) and error.filename and error.errno in _OF_THE_PLACE:
        return CannotStart(f"cannot use {error.filename}: {error.strerror}; check its folder, or set MAILER_DATA_DIR")
    if isinstance(error, DatabaseUnavailable):
        return CannotStart(f"the database cannot be used: {error.message} Then start again.")
    return error if isinstance(error, CannotStart) else None


def _tls(settings: CommonSettings) -> ServerTls | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return ServerTls(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)


def _loop_factory(settings: CommonSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.event_loop == "asyncio":
        return None
    try:
        import uvloop  # noqa: PLC0415 (optional)
    except ImportError:
        if settings.event_loop == "uvloop":
            raise CannotStart(
                f"{settings.name_of('event_loop')}: not installed: pip install 'campaign-mailer[fast]'"
            ) from None
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
