"""A look into the database while it is at work: to strike at the right instant. The verdict never comes from here."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

LOCK_SECONDS = 0.05

_CLAIMS = """
SELECT run_id, address FROM deliveries JOIN sender_workers ON worker_id = worker
WHERE state = 'claimed' AND process_id = ?
"""
_WORDS = """
SELECT log_key FROM deliveries JOIN sender_workers ON process_id = ?
JOIN send_logs ON log_key BETWEEN delivery_key || ':' AND delivery_key || ';' AND send_logs.worker = worker_id
WHERE canonical = ?
"""


@dataclass(frozen=True, slots=True)
class Peek:
    """Reads the tables of the sender."""

    database: Path

    def is_writable(self) -> bool:
        """Say whether nobody is in the middle of a transaction, or only for a moment."""
        with closing(sqlite3.connect(self.database, timeout=LOCK_SECONDS)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.rollback()
            return True

    def claims(self, process_id: int) -> dict[str, set[str]]:
        """Return the addresses that a process has claimed and not brought to their dot, by run."""
        claims: dict[str, set[str]] = {}
        for run_id, address in self._read(_CLAIMS, process_id):
            claims.setdefault(run_id, set()).add(address)
        return claims

    def words(self, process_id: int, addresses: Collection[str]) -> set[str]:
        """Return the keys of what a process has put into the log about any of the addresses."""
        return {key for address in addresses for (key,) in self._read(_WORDS, process_id, address)}

    def _read(self, statement: str, *values: object) -> Iterator[tuple[str, ...]]:
        with closing(sqlite3.connect(self.database, timeout=LOCK_SECONDS)) as connection:
            yield from connection.execute(statement, values).fetchall()
