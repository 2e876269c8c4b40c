"""A live database, a store beside it, and what works on them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from services.backup.create import Creator, Wish
from services.backup.job import Job
from services.backup.restore import Restorer
from services.backup.snapshot import Snapshot, Trigger
from services.backup.stage import Stages
from services.backup.vault import Vault
from tests.integration.backup.mailing import MIGRATIONS, create_database


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Return a live database with the tables of all services."""
    path = tmp_path / "mailer.db"
    create_database(path)
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


@pytest.fixture
def restorer(vault: Vault, live: Path) -> Restorer:
    """Return what restores snapshots into the live database."""
    return Restorer(
        vault=vault, live=live, stages=Stages(vault, MIGRATIONS), clock=SystemClock(), lock_limit_seconds=30
    )
