"""Which life of the database is this? A restore begins a new one, and work of the old one is dropped."""

import uuid
from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
    update,
)

from mailer.database.types import Instant

metadata = MetaData()

identity = Table(
    "database_identity",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="database_identity_one_row"), primary_key=True),
    Column("incarnation", String(32), nullable=False),
    Column("created_time", Instant, nullable=False),
)

READ_INCARNATION = "SELECT incarnation FROM database_identity"


def read_incarnation(connection: Connection) -> str | None:
    """Return the id of the database's present life; None before it has one."""
    return connection.execute(select(identity.c.incarnation)).scalar_one_or_none()


def ensure_identity(connection: Connection, now: datetime) -> str:
    """Return the incarnation, made now for a new database."""
    found = read_incarnation(connection)
    if found is not None:
        return found
    incarnation = uuid.uuid4().hex
    connection.execute(insert(identity).values(id=1, incarnation=incarnation, created_time=now))
    return incarnation


def renew_incarnation(connection: Connection, now: datetime) -> str:
    """Give the database a new life, as a restore must; returns the new incarnation."""
    incarnation = uuid.uuid4().hex
    changed = connection.execute(update(identity).values(incarnation=incarnation, created_time=now))
    if changed.rowcount == 0:
        connection.execute(insert(identity).values(id=1, incarnation=incarnation, created_time=now))
    return incarnation
