"""Moving rows between a live database and the stage of a restore, whatever columns their tables have.

The stage is `main`, the live database is attached as `live`. A table that either side lacks is passed over;
rows travel by the columns that both sides have.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from services.backup.proof import quoted

_COLUMN_NAME, _COLUMN_TYPE, _COLUMN_KEY = 1, 2, 5


def has(stage: sqlite3.Connection, schema: str, table: str) -> bool:
    """Say whether the database called `schema` has the table."""
    row = stage.execute(f"SELECT 1 FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return row is not None


def both_have(stage: sqlite3.Connection, table: str) -> bool:
    """Say whether stage and live database both have the table."""
    return has(stage, "main", table) and has(stage, "live", table)


def columns(stage: sqlite3.Connection, schema: str, table: str) -> list[str]:
    """Return the columns of a table, none when there is no such table."""
    return [row[_COLUMN_NAME] for row in stage.execute(f"PRAGMA {schema}.table_info({quoted(table)})")]


def shared_columns(stage: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that the table has on both sides."""
    known = set(columns(stage, "live", table))
    return [name for name in columns(stage, "main", table) if name in known]


def row_number(stage: sqlite3.Connection, table: str) -> str | None:
    """Return the column that is the row's number (INTEGER PRIMARY KEY), None when the table has none."""
    keys = [row for row in stage.execute(f"PRAGMA main.table_info({quoted(table)})") if row[_COLUMN_KEY]]
    if len(keys) == 1 and keys[0][_COLUMN_TYPE].upper() == "INTEGER":
        return str(keys[0][_COLUMN_NAME])
    return None


def insert_missing(stage: sqlite3.Connection, table: str, key: Sequence[str]) -> int:
    """Copy the live rows whose key the stage lacks; returns how many.

    A row's number is kept where it is free (somebody may know the row by it), else a new one is given.
    """
    if not both_have(stage, table):
        return 0
    shared, number = shared_columns(stage, table), row_number(stage, table)
    with differing(stage, table, key, "live", "main") as missing:
        chosen = f"{missing} m CROSS JOIN live.{quoted(table)} l ON {_same('m', 'l', key)}"
        if number is None or number in key:
            return copy_rows(stage, table, shared, chosen)
        mark = quoted(number)
        taken = f"EXISTS (SELECT 1 FROM main.{quoted(table)} s WHERE s.{mark} = l.{mark})"
        copied = copy_rows(stage, table, shared, f"{chosen} WHERE NOT {taken}")
        still = f"NOT EXISTS (SELECT 1 FROM main.{quoted(table)} s WHERE {_same('s', 'l', key)})"
        others = [name for name in shared if name != number]
        return copied + copy_rows(stage, table, others, f"{chosen} WHERE {still} ORDER BY l.{mark}")


@contextmanager
def differing(stage: sqlite3.Connection, table: str, names: Sequence[str], one: str, other: str) -> Iterator[str]:
    """Give a temporary table with what these columns hold in one database and not in the other.

    With an index on the columns both sides are read in its order, once: a lookup per row would take twenty
    times as long, and every writer may be waiting.
    """
    columns_of = ", ".join(map(quoted, names))
    stage.execute(
        f"CREATE TEMP TABLE differing AS SELECT {columns_of} FROM {one}.{quoted(table)}"
        f" EXCEPT SELECT {columns_of} FROM {other}.{quoted(table)} ORDER BY {columns_of}"
    )
    try:
        yield "temp.differing"
    finally:
        stage.execute("DROP TABLE temp.differing")


def copy_rows(stage: sqlite3.Connection, table: str, names: Iterable[str], chosen: str, *values: str) -> int:
    """Insert live rows into the stage's table; `chosen` is the rest behind FROM and calls them `l`."""
    wanted = list(names)
    source = ", ".join(f"l.{quoted(name)}" for name in wanted)
    return stage.execute(
        f"INSERT INTO main.{quoted(table)} ({', '.join(map(quoted, wanted))}) SELECT {source} FROM {chosen}",
        values,
    ).rowcount


def set_values(stage: sqlite3.Connection, table: str, values: Mapping[str, str | None], where: str) -> int:
    """Set those of the columns that the table has; returns the number of rows."""
    present = columns(stage, "main", table)
    known = {name: value for name, value in values.items() if name in present}
    changes = ", ".join(f"{quoted(name)} = ?" for name in known)
    return stage.execute(f"UPDATE main.{quoted(table)} SET {changes} WHERE {where}", tuple(known.values())).rowcount


def insert_missing_parents(stage: sqlite3.Connection, tables: Iterable[str]) -> int:
    """Copy the live rows that rows of these tables refer to and the stage lacks, and what those refer to."""
    copied = 0
    waiting = [table for table in tables if has(stage, "main", table)]
    while waiting:
        table = waiting.pop()
        broken = {
            (parent, number)
            for _, _, parent, number in stage.execute(f"PRAGMA main.foreign_key_check({quoted(table)})")
        }
        for parent, number in sorted(broken):
            if both_have(stage, parent) and (added := _insert_parents(stage, table, parent, number)):
                copied += added
                waiting.append(parent)
    return copied


def _insert_parents(stage: sqlite3.Connection, table: str, parent: str, number: int) -> int:
    """Copy what one foreign key of a table misses."""
    pairs = [
        (source, target or row_number(stage, parent) or _first_key(stage, parent))
        for key, _, _, source, target, *_ in stage.execute(f"PRAGMA main.foreign_key_list({quoted(table)})")
        if key == number
    ]
    referred = " AND ".join(f"c.{quoted(source)} = l.{quoted(target)}" for source, target in pairs)
    present = " AND ".join(f"s.{quoted(target)} = l.{quoted(target)}" for _, target in pairs)
    return copy_rows(
        stage,
        parent,
        shared_columns(stage, parent),
        f"live.{quoted(parent)} l WHERE EXISTS (SELECT 1 FROM main.{quoted(table)} c WHERE {referred})"
        f" AND NOT EXISTS (SELECT 1 FROM main.{quoted(parent)} s WHERE {present})",
    )


def _same(one: str, other: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{one}.{quoted(name)} = {other}.{quoted(name)}" for name in key)


def _first_key(stage: sqlite3.Connection, table: str) -> str:
    """Return the column that a foreign key without a column name means."""
    keys = [row for row in stage.execute(f"PRAGMA main.table_info({quoted(table)})") if row[_COLUMN_KEY]]
    return str(keys[0][_COLUMN_NAME]) if keys else "rowid"
