"""Statements that take a list of rows: one step of the engine for many rows, in the same words for both engines.

That is what makes the commit of a handful of rows cheap, and it keeps the writer's thread from asking for the
interpreter once a row while the event loop wants it, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from mailer.database.engine import driver
from mailer.database.savepoint import begin_savepoint

INTEGER = "BIGINT"
TEXT = "TEXT"
BOOLEAN = "BOOLEAN"
BYTES = "BYTEA"

MOST_ROWS = 128
"""Longer lists take several steps."""

_STEP = 16
"""Lists are filled up to a multiple of this, short ones to a power of two, so that an engine meets few statements."""

Row = Sequence[Any]


class RowStatement:
    """A statement that names its list of rows `:rows`, as if it were a table.

    Rows of nothing but NULL may stand in it, to fill it up: a statement must not match them.
    SQLite's driver lets go of the interpreter for each row that it returns. So a statement that changes rows is best
    run by `count`, and asked for what it returns only when the count does not say enough: see `changed`.
    """

    def __init__(self, sql: str, columns: Mapping[str, str], *, returning: str = "") -> None:
        """Take the SQL, the columns of the rows (names and types), and what is returned of each row changed."""
        self._before, _, self._after = sql.partition(":rows")
        self._returning = f" RETURNING {returning}" if returning else ""
        self._columns = columns
        self._sqlite: dict[tuple[int, bool], str] = {}
        self._postgres: dict[tuple[int, bool], str] = {}

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> list[Any]:
        """Run it for these rows, each with its values in the order of the columns; return the rows it returns."""
        returned: list[Any] = []
        for part, length in _parts(rows):
            returned += self._execute(connection, part, length, returns=True).fetchall()
        return returned

    def count(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Run it for these rows and return how many it changed."""
        return sum(self._execute(connection, part, length, returns=False).rowcount for part, length in _parts(rows))

    def changed(self, connection: Connection, rows: Sequence[Row]) -> set[Any]:
        """Run it and return which rows it changed, by what it returns: the first column of `rows`, each there once."""
        if not rows:
            return set()
        savepoint = begin_savepoint(connection)
        if self.count(connection, rows) == len(rows):
            savepoint.commit()
            return {row[0] for row in rows}
        savepoint.rollback()
        return {row[0] for row in self(connection, rows)}

    def _execute(self, connection: Connection, rows: Sequence[Row], length: int, *, returns: bool) -> Any:
        values = [value for row in rows for value in row]
        values += [None] * (len(self._columns) * (length - len(rows)))
        if connection.dialect.name == "sqlite":
            return driver(connection).execute(self._for_sqlite(length, returns=returns), values)
        return connection.exec_driver_sql(self._for_postgres(length, returns=returns), tuple(values))

    def _for_sqlite(self, count: int, *, returns: bool) -> str:
        known = self._sqlite.get((count, returns))
        if known is None:
            after = self._after + (self._returning if returns else "")
            known = self._sqlite[count, returns] = self._before + self._rows(count, "?") + after
        return known

    def _for_postgres(self, count: int, *, returns: bool) -> str:
        known = self._postgres.get((count, returns))
        if known is None:
            before = self._before.replace("%", "%%")
            after = (self._after + (self._returning if returns else "")).replace("%", "%%")
            known = self._postgres[count, returns] = before + self._rows(count, "%s") + after
        return known

    def _rows(self, count: int, place: str) -> str:
        # PostgreSQL wants to know the types: the first row says them, the others follow it.
        first = ", ".join(place if place == "?" else f"CAST({place} AS {kind})" for kind in self._columns.values())
        others = ", ".join([place] * len(self._columns))
        lists = ", ".join(f"({one})" for one in [first, *[others] * (count - 1)])
        names = ", ".join(f"column{position} AS {name}" for position, name in enumerate(self._columns, start=1))
        return f"(SELECT {names} FROM (VALUES {lists}) AS listed)"


def _parts(rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], int]]:
    """Give the rows in pieces, each with the length of the list that it is filled up to."""
    for start in range(0, len(rows), MOST_ROWS):
        part = rows[start : start + MOST_ROWS]
        count = len(part)
        yield part, 1 << (count - 1).bit_length() if count <= _STEP else -(-count // _STEP) * _STEP
