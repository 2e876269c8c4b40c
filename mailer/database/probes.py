"""The least that a transaction can do, to see whether the database works."""

from sqlalchemy import Connection, update

from mailer.database.identity import identity
from mailer.database.portability import portable


@portable
def look(connection: Connection) -> None:
    """Do nothing: taking the write lock is enough to see a database that is locked, gone or replaced."""


@portable
def touch(connection: Connection) -> None:
    """Write a row: the only way to learn that a full disk has room again."""
    connection.execute(update(identity).values(created_time=identity.c.created_time))
