"""A live database, a store beside it, what works on them, and the service on a real channel."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from mailer.client import connect
from mailer.clock import Clock, SystemClock
from mailer.server import GrpcServer
from mailer.v1 import backup_pb2_grpc
from services.backup.__main__ import SERVICE
from services.backup.create import Creator, Wish
from services.backup.job import Job
from services.backup.keeper import Keeper
from services.backup.metrics import BackupMetrics
from services.backup.restore import Restorer
from services.backup.servicer import BackupServicer
from services.backup.snapshot import Snapshot, Trigger
from services.backup.stage import Stages
from services.backup.ticker import Ticker
from services.backup.vault import Vault
from tests.fakes.s3_server import S3Server
from tests.integration.backup.mailing import MIGRATIONS, create_database
from tests.integration.backup.sites import BucketSite, FolderSite, Site

if TYPE_CHECKING:
    from mailer.v1.backup_pb2_grpc import BackupAsyncStub


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a database file with the tables of all services: migrated once, copied for each test."""
    path = tmp_path_factory.mktemp("template") / "mailer.db"
    create_database(path)
    return path.read_bytes()


@pytest.fixture
def live(tmp_path: Path, empty_database: bytes) -> Path:
    """Return a live database with the tables of all services."""
    path = tmp_path / "mailer.db"
    path.write_bytes(empty_database)
    return path


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Return an empty store."""
    opened = Vault(tmp_path / "backups")
    opened.open()
    return opened


@pytest.fixture
def job() -> Job:
    """Return an operation with time enough."""
    return Job(SystemClock(), limit_seconds=60)


@pytest.fixture
def creator(vault: Vault, live: Path) -> Creator:
    """Return what takes snapshots of the live database."""
    return Creator(vault=vault, live=live, clock=SystemClock())


@pytest.fixture
def take(creator: Creator, job: Job) -> Callable[[], Snapshot]:
    """Return a function that takes a snapshot."""
    return lambda: creator.create(Wish(trigger=Trigger.MANUAL), job)


@pytest.fixture(scope="session")
def one_server() -> Iterator[S3Server]:
    """Return a server that lives as long as the tests."""
    server = S3Server()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: S3Server) -> S3Server:
    """Return a server of buckets without any; it may have to be started."""
    one_server.empty()
    return one_server


@pytest.fixture(params=["folder", "bucket"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """Return each kind of place for copies in turn."""
    if request.param == "folder":
        return FolderSite(tmp_path / "mounted")
    return BucketSite(request.getfixturevalue("server"))


@pytest.fixture
def restorer(vault: Vault, live: Path) -> Restorer:
    """Return what restores snapshots into the live database."""
    return make_restorer(vault, live)


def make_restorer(
    vault: Vault,
    live: Path,
    *,
    clock: Clock | None = None,
    lock_limit: float = 30,
    find: Callable[[str, Job], Snapshot] | None = None,
) -> Restorer:
    """Return what restores snapshots of a store into a database."""
    return Restorer(
        vault=vault,
        live=live,
        stages=Stages(vault, MIGRATIONS),
        clock=clock or SystemClock(),
        lock_limit_seconds=lock_limit,
        find=find,
    )


@dataclass
class Service:
    """The service at work: its parts, and a client."""

    keeper: Keeper
    ticker: Ticker
    client: "BackupAsyncStub"
    registry: CollectorRegistry


@pytest.fixture
async def service(vault: Vault, live: Path, creator: Creator, restorer: Restorer) -> AsyncIterator[Service]:
    """Return the service on a real channel. Its schedule is not running: tests that need it start it."""
    clock, registry = SystemClock(), CollectorRegistry()
    keeper = Keeper(
        vault=vault,
        creator=creator,
        restorer=restorer,
        stages=Stages(vault, MIGRATIONS),
        clock=clock,
        metrics=BackupMetrics(registry),
        limit_seconds=60,
    )
    await keeper.open()
    ticker = Ticker(
        "snapshot",
        clock=clock,
        schedule=lambda: keeper.settings.schedule,
        done_until=keeper.done_until,
        action=keeper.take_scheduled,
    )
    keeper.on_settings_change(ticker.wake)
    server = GrpcServer([SERVICE], host="127.0.0.1", port=0, clock=clock, registry=registry, drain_seconds=1)
    BackupServicer(keeper=keeper, ticker=ticker, clock=clock).add_to(server.grpc)
    await server.start()
    channel = connect(f"127.0.0.1:{server.port}")
    yield Service(keeper, ticker, backup_pb2_grpc.BackupStub(channel), registry)
    await channel.close()
    await server.stop()
