"""Many rows in little time: copies of one that the services wrote themselves, with what must differ replaced."""

import sqlite3
from collections.abc import Mapping


def copy_row(
    connection: sqlite3.Connection, table: str, where: str, count: int, *, replaced: Mapping[str, str], first: int = 0
) -> None:
    """Copy the one row of a table that `where` names so many times.

    `replaced` gives an SQL expression for each column that differs; `n` in it counts from `first`. A column named `id`
    is left to SQLite.
    """
    columns = [
        name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)) if name != "id"
    ]
    values = ", ".join(replaced.get(name, f"one.{name}") for name in columns)
    connection.execute(
        f"""
        WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
        INSERT INTO {table} ({", ".join(columns)})
        SELECT {values} FROM numbers CROSS JOIN (SELECT * FROM {table} WHERE {where}) AS one
        """,
        (first, first + count),
    )


def spread_id(prefix: str) -> str:
    """Return an SQL expression for an id of 32 hexadecimal digits that ends with `n`."""
    return f"'{prefix}' || printf('%0{32 - len(prefix)}x', n)"
