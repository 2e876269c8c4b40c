"""A process that works on the live database like a service does, until its input is closed.

`python -m tests.integration.backup.traffic writer|reader <database> <name>`; it prints one JSON object at the end.

Writers move amounts between two tables, so that their sum never changes, and write log rows that a restore must
carry over. Readers look at both tables, and at two copies of the name of the era, in one transaction: anything but
the one sum and one era is a mix of two states.
"""

import json
import os
import select
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ACCOUNTS = 200
TOTAL = ACCOUNTS * 2 * 100

_TABLES = """
CREATE TABLE credit (number INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE debit (number INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE era_begins (name TEXT NOT NULL);
CREATE TABLE filler (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE era_ends (name TEXT NOT NULL);
"""


def prepare(path: Path, *, era: str, filler_rows: int = 3000) -> None:
    """Add the tables that the traffic goes over."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_TABLES)
        for table in ("credit", "debit"):
            connection.executemany(f"INSERT INTO {table} VALUES (?, 100)", [(number,) for number in range(ACCOUNTS)])
        connection.executemany(
            "INSERT INTO filler VALUES (?, randomblob(700))", [(number,) for number in range(filler_rows)]
        )
        for table in ("era_begins", "era_ends"):
            connection.execute(f"INSERT INTO {table} VALUES (?)", (era,))
        connection.commit()


def begin_era(path: Path, era: str) -> None:
    """Rename the era in both places, in one transaction."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        for table in ("era_begins", "era_ends"):
            connection.execute(f"UPDATE {table} SET name = ?", (era,))
        connection.commit()


def look(connection: sqlite3.Connection) -> tuple[int, str, str]:
    """Return sum and era as one transaction sees them."""
    connection.execute("BEGIN")
    try:
        (begins,) = connection.execute("SELECT name FROM era_begins").fetchone()
        (credit,) = connection.execute("SELECT sum(amount) FROM credit").fetchone()
        (debit,) = connection.execute("SELECT sum(amount) FROM debit").fetchone()
        (ends,) = connection.execute("SELECT name FROM era_ends").fetchone()
    finally:
        connection.execute("COMMIT")
    return credit + debit, begins, ends


def write(connection: sqlite3.Connection, name: str, number: int) -> str:
    """Move an amount and log it; returns the key of the log row, which is acknowledged once this returns."""
    key = f"{name}-{number}"
    account, change = number * 7919 % ACCOUNTS, number % 13 - 6
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("UPDATE credit SET amount = amount + ? WHERE number = ?", (change, account))
        connection.execute("UPDATE debit SET amount = amount - ? WHERE number = ?", (change, account))
        connection.execute(
            "INSERT INTO send_logs (log_key, run_id, account_id, worker, stage, outcome, reply_code, enhanced_code,"
            " reply_text, description, retry_count, start_time, end_time)"
            " VALUES (?, '', '', '', '', 'sent', 250, '', '', '', 0, 0, 0)",
            (key,),
        )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return key


def _run(path: str, act: Callable[[sqlite3.Connection, int], None]) -> None:
    # Blocking on `select` in each round would slow the traffic down; a glance is enough.
    _say("ready")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            act(connection, number)
            number += 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _main(role: str, path: str, name: str) -> None:
    acknowledged: list[str] = []
    mixed: list[tuple[int, str, str]] = []
    eras: dict[str, int] = {}

    def writing(connection: sqlite3.Connection, number: int) -> None:
        acknowledged.append(write(connection, name, number))

    def reading(connection: sqlite3.Connection, number: int) -> None:
        total, begins, ends = look(connection)
        eras[begins] = eras.get(begins, 0) + 1
        if total != TOTAL or begins != ends:
            mixed.append((total, begins, ends))

    _run(path, writing if role == "writer" else reading)
    _say(json.dumps({"acknowledged": acknowledged, "mixed": mixed, "eras": eras}))
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:4])
