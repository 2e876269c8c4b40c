"""SQLite (or PostgreSQL) behind one writer and a few readers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mailer.database.errors import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
    DatabaseUnavailable,
    DatabaseUnusable,
)
from mailer.database.portability import portable
from mailer.database.transactions import Unfinished
from mailer.database.types import Instant

if TYPE_CHECKING:
    from mailer.database.database import Database
    from mailer.database.file import users_lock_path
    from mailer.database.migrate import Migrations, migrate_all

__all__ = [
    "Database",
    "DatabaseBusy",
    "DatabaseFull",
    "DatabaseGone",
    "DatabaseReplaced",
    "DatabaseUnavailable",
    "DatabaseUnusable",
    "Instant",
    "Migrations",
    "Unfinished",
    "migrate_all",
    "portable",
    "users_lock_path",
]

# Imported when it is asked for: the writer's process has no use for it, and is small without.
_LATER = {"Database": "database", "Migrations": "migrate", "migrate_all": "migrate", "users_lock_path": "file"}


def __getattr__(name: str) -> Any:
    """Import what is only now asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
