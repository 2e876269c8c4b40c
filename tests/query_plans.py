"""What SQLite does for the statements that code really executes: whether it looks at more rows the more there are.

with recorded(monkeypatch) as statements:
    ...  # open a database and work on it
assert unbounded(path, statements, BOOK) == {}
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from mailer.database import engine

_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
# The index is "INTEGER" where rows are found by their number, and "PRIMARY" in a table without numbers. An alias of a
# table ends in a number.
_ACCESS = re.compile(
    r"(?P<kind>SCAN|SEARCH) (?P<table>\w+?)(_\d+)?"
    r"( USING (COVERING )?(INDEX )?(?P<index>\w+)( PRIMARY)?( KEY)?( \((?P<terms>.*)\))?)?$"
)


@dataclass(frozen=True)
class Tables:
    """The tables that grow for ever, and the indexes of them that do not."""

    big: frozenset[str]
    open_work: frozenset[str]
    """Partial indexes that hold only what is under way: they may be read whole, and sorted."""
    of_one: frozenset[str] = frozenset()
    """Indexes through which a statement finds the few rows of one thing: these may be sorted."""
    paged: frozenset[str] = frozenset()
    """Indexes of which one thing has many rows: what they give is read as far as a page goes, and not sorted."""
    listed: frozenset[str] = frozenset()
    """Indexes that a page begins at the first row of."""
    numbered: frozenset[str] = frozenset()
    """What pages ask for that go through all rows by their number: the words behind WHERE."""
    once: frozenset[str] = frozenset()
    """Words of statements that may look at everything: once in the life of a database."""


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *parameters: Any) -> Self:
        self._note(sql, parameters[0] if parameters else ())
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> Self:
        rows = list(rows)
        if rows:
            self._note(sql, rows[0])
        return super().executemany(sql, rows)

    def _note(self, sql: str, parameters: Any) -> None:
        if sql.lstrip().upper().startswith(_VERBS):
            self.connection.statements[sql] = parameters  # type: ignore[attr-defined]


class _Connection(sqlite3.Connection):
    statements: dict[str, Any]

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that remembers."""
        return super().cursor(_Cursor)

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Execute through such a cursor: the connection's own `execute` makes one that does not."""
        return self.cursor().execute(sql, *parameters)

    def executemany(self, sql: str, rows: Iterable[Any]) -> Any:
        """Do the same for many rows."""
        return self.cursor().executemany(sql, rows)


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Collect each statement that a database opened meanwhile executes, with parameters of one execution."""
    statements: dict[str, Any] = {}

    def connect(path: Path, *, busy_timeout: timedelta) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path,
            isolation_level=None,
            timeout=busy_timeout.total_seconds(),
            check_same_thread=False,
            factory=_Connection,
        )
        connection.statements = statements
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(engine, "connect_file", connect)
        yield statements


def unbounded(path: Path, statements: Mapping[str, Any], tables: Tables, *, without: str = "") -> dict[str, list[str]]:
    """Return the statements that look at more rows the more there are, with plans; `without` drops an index first."""
    found = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        conditions = _conditions(connection)
        connection.execute("BEGIN")
        if without:
            connection.execute(f"DROP INDEX {without}")
        for sql, parameters in statements.items():
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            if any(words in sql for words in tables.once):
                continue
            if not (_is_bounded(sql, plan, tables) and _uses_what_it_names(sql, plan, conditions, tables)):
                found[sql] = plan
        connection.execute("ROLLBACK")
    return found


def indexes(path: Path, tables: Tables) -> list[str]:
    """Return the names of the indexes of growing tables, without those that keep something unique."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
        return [name for name, table in rows if table in tables.big]


def pretend_statistics(path: Path, rows: Mapping[str, str]) -> None:
    """Let the planner believe what ANALYZE of a large database says: figures by index (sqlite_stat1)."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ANALYZE")
        connection.execute("DELETE FROM sqlite_stat1")
        tables = dict(connection.execute("SELECT name, tbl_name FROM sqlite_schema").fetchall())
        connection.executemany(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)",
            [(tables[index], index, figures) for index, figures in rows.items()],
        )


def _is_bounded(sql: str, plan: list[str], tables: Tables) -> bool:
    """Say whether every access to a big table is by a key, by open work, or a page of what an index has in order."""
    is_sorted = any("TEMP B-TREE" in step for step in plan)
    is_page = "LIMIT" in sql and not is_sorted
    is_numbered_page = is_page and any(f"WHERE {words}" in " ".join(sql.split()) for words in tables.numbered)
    for access in filter(None, map(_ACCESS.match, plan)):
        index = access["index"]
        if access["table"] not in tables.big or index in tables.open_work:
            continue
        if access["kind"] == "SCAN":
            is_fine = is_page and index in tables.listed
        elif index == "INTEGER" and access["terms"] != "rowid=?":
            is_fine = is_numbered_page
        elif index in tables.paged:
            is_fine = is_page
        else:
            is_fine = not is_sorted or index in tables.of_one
        if not is_fine:
            return False
    return True


def _conditions(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Return the conditions of partial indexes as statements say them, with the indexes that have each."""
    found: dict[str, set[str]] = {}
    for name, table, sql in connection.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index'"):
        _, partial, condition = (sql or "").partition(" WHERE ")
        if partial:
            found.setdefault(f"{table}.{condition}", set()).add(name)
    return found


def _uses_what_it_names(sql: str, plan: list[str], conditions: Mapping[str, set[str]], tables: Tables) -> bool:
    """Say whether a statement that says the condition of a partial index goes by it, or straight to a few rows."""
    used = {access["index"] for access in map(_ACCESS.match, plan) if access is not None}
    is_direct = bool(used & tables.of_one) or any("PRIMARY KEY (rowid=?)" in step for step in plan)
    return all(is_direct or used & names for condition, names in conditions.items() if condition in sql)
