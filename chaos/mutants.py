"""Senders with one rule of the book taken out. The harness has to catch them, or it proves nothing.

They exist only in the memory of a process of a test: production code has no switch for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from services.sender import book
from services.sender.counts import Changes
from services.sender.ledger import Ledger
from services.sender.outbox import Claimed
from services.sender.tables import deliveries

E = TypeVar("E", book.Intent, book.Result)


def without_intent() -> None:
    """Let every dot be written without an intent on disk."""

    async def intend(_ledger: Ledger, _intent: book.Intent) -> bool:
        return True

    Ledger.intend = intend  # type: ignore[assignment, method-assign]


def without_token() -> None:
    """Let every entry pass whatever its token: it names the present one instead of its own."""
    true_intents, true_results = book.write_intents, book.write_results

    def write_intents(connection: Connection, intents: Sequence[book.Intent], changes: Changes) -> Any:
        return true_intents(connection, _with_present_tokens(connection, intents), changes)

    def write_results(connection: Connection, results: Sequence[book.Result], changes: Changes) -> Any:
        return true_results(connection, _with_present_tokens(connection, results), changes)

    book.write_intents = write_intents
    book.write_results = write_results


MUTANTS: dict[str, Callable[[], None]] = {"intent": without_intent, "token": without_token}


def _with_present_tokens(connection: Connection, entries: Sequence[E]) -> list[E]:
    ids = [entry.claimed.id for entry in entries]
    rows = connection.execute(select(deliveries.c.id, deliveries.c.token).where(deliveries.c.id.in_(ids)))
    tokens = {row.id: row.token for row in rows}

    def present(claimed: Claimed) -> Claimed:
        return claimed._replace(token=tokens.get(claimed.id, claimed.token))

    return [replace(entry, claimed=present(entry.claimed)) for entry in entries]
