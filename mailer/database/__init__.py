"""SQLite (or PostgreSQL) behind one writer and a few readers."""

from mailer.database.database import Database
from mailer.database.errors import (
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
    DatabaseUnavailable,
    DatabaseUnusable,
)
from mailer.database.file import users_lock_path
from mailer.database.migrate import Migrations, migrate, migrate_all
from mailer.database.transactions import Unfinished
from mailer.database.types import Instant
from mailer.database.writer_process import portable

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
    "migrate",
    "migrate_all",
    "portable",
    "users_lock_path",
]
