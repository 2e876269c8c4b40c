"""What is written and read while the backup service is killed, and how much of it a database has.

Every write goes into tables of our own, which a restore takes back, and into tables of Mailer, which it must carry
over: a line of the send log and a suppression. It is numbered by its writer, and names the incarnation it was written
under. What holds in every state of the database: the tally at either end counts the ledger, amounts that are moved
between two tables keep their sum, and every log line has its suppression.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

ACCOUNTS = 100
TOTAL = ACCOUNTS * 2 * 100
FILLER_ROWS = 3000  # so that copying it takes a while, and the two ends lie apart

_TABLES = """
CREATE TABLE chaos_tally_begins (count INTEGER NOT NULL);
CREATE TABLE chaos_credit (number INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE chaos_filler (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE chaos_debit (number INTEGER PRIMARY KEY, amount INTEGER NOT NULL);
CREATE TABLE chaos_ledger (
    writer TEXT NOT NULL, number INTEGER NOT NULL, era TEXT NOT NULL, PRIMARY KEY (writer, number)
) WITHOUT ROWID;
CREATE TABLE chaos_tally_ends (count INTEGER NOT NULL);
INSERT INTO chaos_tally_begins VALUES (0);
INSERT INTO chaos_tally_ends VALUES (0);
"""
_LOOK = f"""
SELECT (SELECT count FROM chaos_tally_begins), (SELECT count FROM chaos_tally_ends),
    (SELECT count(*) FROM chaos_ledger),
    (SELECT sum(amount) FROM chaos_credit) + (SELECT sum(amount) FROM chaos_debit) - {TOTAL},
    (SELECT count(*) FROM send_logs WHERE log_key BETWEEN 'chaos-' AND 'chaos.'),
    (SELECT count(*) FROM suppressions WHERE address BETWEEN 'chaos-' AND 'chaos.')
"""
_LEDGER = "SELECT era, writer, min(number), max(number), count(*) FROM chaos_ledger GROUP BY era, writer"
_FACTS = """
SELECT writer, max(number), count(*) FROM
    (SELECT worker AS writer, start_time AS number FROM send_logs WHERE log_key BETWEEN 'chaos-' AND 'chaos.')
GROUP BY writer
"""
_ERA = "SELECT incarnation FROM database_identity"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of some rows: all from the first to the last, unless there are fewer."""

    first: int
    last: int
    count: int

    @property
    def holes(self) -> int:
        """Return how many numbers in between have no row."""
        return self.last - self.first + 1 - self.count

    def lacks(self, wanted: "Numbers") -> int:
        """Return how many of the wanted rows are missing here, at least."""
        if self.count == 0:
            return wanted.count
        return self.holes + max(0, self.first - wanted.first) + max(0, wanted.last - self.last)


Ledger = Mapping[tuple[str, str], Numbers]  # by era and writer


@dataclass(frozen=True, slots=True)
class Content:
    """How much of what was written a database has."""

    era: str = ""
    ledger: Ledger = field(default_factory=dict)
    facts: Mapping[str, Numbers] = field(default_factory=dict)  # by writer
    is_mixed: bool = False


def prepare(path: Path) -> None:
    """Add our tables to a database of Mailer."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.executescript(_TABLES)
        for table in ("chaos_credit", "chaos_debit"):
            connection.executemany(f"INSERT INTO {table} VALUES (?, 100)", [(number,) for number in range(ACCOUNTS)])
        connection.executemany(
            "INSERT INTO chaos_filler VALUES (?, randomblob(700))", [(number,) for number in range(FILLER_ROWS)]
        )
        connection.commit()


def write(connection: sqlite3.Connection, writer: str, number: int) -> str:
    """Write one numbered change inside a transaction; returns the era it belongs to."""
    (era,) = connection.execute(_ERA).fetchone()
    account, amount, key = number * 7919 % ACCOUNTS, number % 13 - 6, f"chaos-{writer}-{number}"
    connection.execute("UPDATE chaos_tally_begins SET count = count + 1")
    connection.execute("UPDATE chaos_credit SET amount = amount + ? WHERE number = ?", (amount, account))
    connection.execute("UPDATE chaos_debit SET amount = amount - ? WHERE number = ?", (amount, account))
    connection.execute("INSERT INTO chaos_ledger VALUES (?, ?, ?)", (writer, number, era))
    connection.execute(
        "INSERT INTO send_logs (log_key, run_id, account_id, worker, stage, outcome, reply_code, enhanced_code,"
        " reply_text, description, retry_count, start_time, end_time)"
        " VALUES (?, '', '', ?, '', 'sent', 250, '', '', '', 0, ?, 0)",
        (key, writer, number),
    )
    connection.execute("INSERT INTO suppressions VALUES (?, '', 0)", (f"{key}@chaos.example",))
    connection.execute("UPDATE chaos_tally_ends SET count = count + 1")
    return str(era)


def is_mixed(connection: sqlite3.Connection) -> bool:
    """Say whether one transaction sees parts of two states."""
    begins, ends, ledger, imbalance, logs, suppressions = connection.execute(_LOOK).fetchone()
    return not (begins == ends == ledger and imbalance == 0 and logs == suppressions)


def read(path: Path) -> Content:
    """Return what a database has at one instant. Raises sqlite3.Error for one that cannot be read."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout=20000")
        connection.execute("BEGIN")
        (era,) = connection.execute(_ERA).fetchone()
        return Content(
            era=str(era),
            ledger={(row[0], row[1]): Numbers(*row[2:]) for row in connection.execute(_LEDGER)},
            facts={writer: Numbers(0, last, count) for writer, last, count in connection.execute(_FACTS)},
            is_mixed=is_mixed(connection),
        )


def era_of(path: Path) -> str:
    """Return the incarnation of a database."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
        return str(connection.execute(_ERA).fetchone()[0])
