"""The contract is complete: no method is forgotten, and the migration makes the tables that the code knows."""

from pathlib import Path

import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from prometheus_client import CollectorRegistry

from mailer.database import migrate_all
from mailer.v1 import scheduler_pb2
from services.scheduler.__main__ import MIGRATIONS
from services.scheduler.config import SchedulerSettings
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.servicer import SchedulerServicer
from services.scheduler.tables import metadata


def test_every_method_of_the_contract_is_there() -> None:
    import inspect

    source = inspect.getsource(SchedulerServicer.__init__)
    for method in scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"].methods:
        assert f"self.{method.name} = " in source


def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    migrate_all(f"sqlite:///{tmp_path}/mailer.db", [MIGRATIONS])
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/mailer.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_setting_is_explained() -> None:
    own = set(SchedulerSettings.model_fields) - set(SchedulerSettings.__mro__[1].model_fields)  # type: ignore[attr-defined]
    assert own
    assert all(SchedulerSettings.model_fields[name].description for name in own)


def test_metrics_say_what_they_are() -> None:
    registry = CollectorRegistry()
    SchedulerMetrics(registry)
    assert all(family.documentation and family.name.startswith("mailer_scheduler_") for family in registry.collect())
