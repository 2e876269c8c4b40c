"""A small database of Mailer whose rows tests can read, with the tables that the services migrate to."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import services.backup
from mailer.database import Migrations, migrate_all

_SERVICES = Path(services.backup.__file__).parent.parent
MIGRATIONS = tuple(Migrations(owner, _SERVICES / owner / "migrations") for owner in ("scheduler", "sender"))


def create_database(path: Path) -> None:
    """Make a live database with the tables of all services and nothing in them."""
    migrate_all(f"sqlite:///{path}", MIGRATIONS)
    with opened(path) as connection:
        connection.execute("INSERT INTO database_identity (id, incarnation, created_time) VALUES (1, 'first', 0)")


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as a service would, each statement committed by itself."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection
    finally:
        connection.close()


def rows(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds."""
    with opened(path) as connection:
        return connection.execute(query, values).fetchall()


def change(path: Path, statement: str, *values: Any) -> int:
    """Execute one statement; returns the number of rows."""
    with opened(path) as connection:
        return connection.execute(statement, values).rowcount


def add_run(path: Path, run_id: str, *, state: str = "sending", sender_state: str = "active") -> None:
    """Add a campaign and its run, as the scheduler and the sender keep it."""
    slot = int(hashlib.sha256(run_id.encode()).hexdigest()[:8], 16)
    _insert(path, "campaigns", campaign_id=f"campaign-{run_id}", name=run_id)
    _insert(path, "runs", run_id=run_id, campaign_id=f"campaign-{run_id}", slot_time=slot, state=state)
    _insert(path, "sender_runs", run_id=run_id, campaign_id=f"campaign-{run_id}", state=sender_state)


def add_campaign(path: Path, campaign_id: str, **columns: Any) -> None:
    """Add a campaign that has no run yet."""
    _insert(path, "campaigns", campaign_id=campaign_id, name=campaign_id, **columns)


def add_firing(path: Path, campaign_id: str, slot: int, *, state: str = "finished", **columns: Any) -> None:
    """Add a run of a campaign that exists, where the scheduler has it: the latest one, and what follows it next."""
    run_id = f"{campaign_id}-{slot}"
    _insert(path, "runs", run_id=run_id, campaign_id=campaign_id, slot_time=slot, state=state, **columns)
    change(path, "UPDATE campaigns SET latest_run_id = ? WHERE campaign_id = ?", run_id, campaign_id)


def add_sender_run(path: Path, run_id: str, *, state: str = "active") -> None:
    """Add a run as the sender keeps it."""
    _insert(path, "sender_runs", run_id=run_id, state=state)


def add_recipient(path: Path, address: str, *, run_id: str) -> None:
    """Add somebody to whom the campaign of a run goes."""
    add_to_campaign(path, f"campaign-{run_id}", address)


def add_to_campaign(path: Path, campaign_id: str, *addresses: str) -> None:
    """Add people to whom a campaign goes, at the next positions, as the scheduler counts them."""
    for address in addresses:
        change(
            path,
            "UPDATE campaigns SET recipient_count = recipient_count + 1, last_position = last_position + 1"
            " WHERE campaign_id = ?",
            campaign_id,
        )
        ((position,),) = rows(path, "SELECT last_position FROM campaigns WHERE campaign_id = ?", campaign_id)
        person = {"position": position, "address": address, "canonical": address}
        _insert(path, "recipients", campaign_id=campaign_id, **person)


def audience(path: Path, campaign_id: str) -> list[tuple[int, str]]:
    """Return to whom a campaign goes, and at which positions."""
    return rows(path, "SELECT position, address FROM recipients WHERE campaign_id = ? ORDER BY 1", campaign_id)


def add_delivery(path: Path, key: str, *, run_id: str, state: str = "pending", **columns: Any) -> None:
    """Add a delivery; its key is a name here, to be readable."""
    _insert(
        path,
        "deliveries",
        delivery_key=key,
        run_id=run_id,
        state=state,
        content_hash="hash",
        **columns,
    )


def add_log(path: Path, key: str, *, outcome: str = "sent") -> None:
    """Add a line of the book of attempts."""
    _insert(path, "send_logs", log_key=key, outcome=outcome)


def states(path: Path) -> dict[str, str]:
    """Return the state of every delivery by its key."""
    return dict(rows(path, "SELECT delivery_key, state FROM deliveries"))


def run_states(path: Path) -> dict[str, str]:
    """Return the state of every run of the scheduler."""
    return dict(rows(path, "SELECT run_id, state FROM runs"))


def sender_run_states(path: Path) -> dict[str, str]:
    """Return the state of every run of the sender."""
    return dict(rows(path, "SELECT run_id, state FROM sender_runs"))


def _insert(path: Path, table: str, **columns: Any) -> None:
    """Insert a row; columns that must have a value and are not named get an empty one of their type."""
    with opened(path) as connection:
        for _, name, kind, required, default, key in connection.execute(f"PRAGMA table_info({table})"):
            if name not in columns and required and default is None and not (key and kind == "INTEGER"):
                columns[name] = b"" if kind == "BLOB" else "" if kind.startswith(("TEXT", "VARCHAR")) else 0
        names = ", ".join(columns)
        marks = ", ".join("?" for _ in columns)
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))
