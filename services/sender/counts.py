"""How many deliveries of a run are in which state: changed in the transaction that moves them, so never wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from mailer.database.rows import INTEGER, TEXT, RowStatement
from services.sender.states import OPEN_STATES
from services.sender.tables import run_counts

_OPEN = sorted(state.value for state in OPEN_STATES)

_ADD = RowStatement(
    """
    INSERT INTO run_counts (run_id, state, delivery_count)
    SELECT r.run_id, r.state, r.delta FROM :rows AS r WHERE r.run_id IS NOT NULL
    ON CONFLICT (run_id, state) DO UPDATE SET delivery_count = run_counts.delivery_count + excluded.delivery_count
    """,
    {"run_id": TEXT, "state": TEXT, "delta": INTEGER},
)
_HAS_OPEN_SQL = f"""EXISTS (
    SELECT 1 FROM run_counts WHERE run_counts.run_id = sender_runs.run_id AND run_counts.delivery_count > 0
    AND run_counts.state IN ({", ".join(f"'{state}'" for state in _OPEN)})
)"""
# Hardly ever a change: a run begins once and ends once. Whatever it is, its end is not seen yet.
_SET_UNFINISHED = RowStatement(
    f"""
    UPDATE sender_runs SET unfinished = {_HAS_OPEN_SQL}, end_time = NULL FROM :rows AS r
    WHERE sender_runs.run_id = r.run_id AND sender_runs.unfinished <> {_HAS_OPEN_SQL}
    """,
    {"run_id": TEXT},
)


@dataclass(slots=True)
class Changes:
    """Collects how deliveries moved between states; `apply` writes it once per transaction."""

    _moves: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, run_id: str, before: str, after: str, count: int = 1) -> None:
        """Note that `count` deliveries of a run went from one state ('' = did not exist) to another."""
        if count and before != after:
            self._moves[run_id, before, after] += count

    @property
    def run_ids(self) -> frozenset[str]:
        """Runs that anything happened to."""
        return frozenset(run_id for run_id, _, _ in self._moves)

    def apply(self, connection: Connection) -> None:
        """Write the counts, and for each run whether it still has open deliveries."""
        deltas: Counter[tuple[str, str]] = Counter()
        for (run_id, before, after), count in self._moves.items():
            if before:
                deltas[run_id, before] -= count
            deltas[run_id, after] += count
        _ADD.count(connection, [(run_id, state, delta) for (run_id, state), delta in sorted(deltas.items()) if delta])
        _SET_UNFINISHED.count(connection, [(run_id,) for run_id in sorted(self.run_ids)])


def read_counts(connection: Connection, run_id: str) -> dict[str, int]:
    """Return how many deliveries of the run are in each state; states nobody is in may be missing."""
    rows = connection.execute(
        select(run_counts.c.state, run_counts.c.delivery_count).where(run_counts.c.run_id == run_id)
    )
    return {row.state: row.delivery_count for row in rows if row.delivery_count}


def upsert(connection: Connection, table: Any) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the connection's dialect, and counts the rows of a whole list."""
    insert = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    return insert.execution_options(preserve_rowcount=True)
