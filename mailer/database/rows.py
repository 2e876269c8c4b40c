"""Statements that take a list of rows: one step of the engine for many rows, in the same words for both engines.

That is what makes the commit of a handful of rows cheap, and it keeps the writer's thread from asking for the
interpreter once a row while the event loop wants it, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from mailer.database.engine import driver

INTEGER = "BIGINT"
TEXT = "TEXT"
BOOLEAN = "BOOLEAN"

MOST_ROWS = 64
"""Longer lists take several steps. Lengths are powers of two, so that an engine meets few different statements."""

Row = Sequence[Any]


class RowStatement:
    """A statement that names its list of rows `:rows`, as if it were a table."""

    def __init__(self, sql: str, columns: Mapping[str, str]) -> None:
        """Take the SQL and the columns of the rows: their names and types."""
        self._before, _, self._after = sql.partition(":rows")
        self._columns = columns
        self._sqlite: dict[int, str] = {}
        self._postgres: dict[int, str] = {}

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> list[Any]:
        """Run it for these rows, each with its values in the order of the columns; return the rows it returns."""
        returned: list[Any] = []
        for part in _parts(rows):
            values = [value for row in part for value in row]
            if connection.dialect.name == "sqlite":
                returned += driver(connection).execute(self._for_sqlite(len(part)), values).fetchall()
            else:
                result = connection.exec_driver_sql(self._for_postgres(len(part)), tuple(values))
                returned += result.fetchall() if result.returns_rows else ()
        return returned

    def _for_sqlite(self, count: int) -> str:
        known = self._sqlite.get(count)
        if known is None:
            known = self._sqlite[count] = self._before + self._rows(count, "?") + self._after
        return known

    def _for_postgres(self, count: int) -> str:
        known = self._postgres.get(count)
        if known is None:
            before, after = self._before.replace("%", "%%"), self._after.replace("%", "%%")
            known = self._postgres[count] = before + self._rows(count, "%s") + after
        return known

    def _rows(self, count: int, place: str) -> str:
        # The first row says the types, for PostgreSQL; the others follow it.
        first = ", ".join(f"CAST({place} AS {kind})" for kind in self._columns.values())
        others = ", ".join([place] * len(self._columns))
        lists = ", ".join(f"({one})" for one in [first, *[others] * (count - 1)])
        names = ", ".join(f"column{position} AS {name}" for position, name in enumerate(self._columns, start=1))
        return f"(SELECT {names} FROM (VALUES {lists}) AS listed)"


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = 0
    while start < len(rows):
        length = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        yield rows[start : start + length]
        start += length
