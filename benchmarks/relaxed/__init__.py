"""The services with `synchronous=NORMAL`, for comparison: the product has no such setting, and keeps FULL."""

from importlib import import_module
from typing import Any

from sqlalchemy import Engine, event


def relax() -> None:
    """Let the writer that is made next wait for no disk: what it committed last may be lost with the power."""
    database: Any = import_module("mailer.database.database")
    make = database.write_engine

    def relaxed(*arguments: object, **named: object) -> Engine:
        engine: Engine = make(*arguments, **named)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
        return engine

    database.write_engine = relaxed
