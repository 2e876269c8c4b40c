"""Senders with one rule of the book taken out. The harness has to catch them, or it proves nothing.

They exist only in the memory of a process of a test: production code has no switch for them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from services.sender import book
from services.sender.counts import Changes
from services.sender.dots import Dot, Dots
from services.sender.ledger import Ledger
from services.sender.outbox import Claimed
from services.sender.replies import Reply
from services.sender.tables import deliveries

E = TypeVar("E", book.Intent, book.Result)


def without_intent() -> None:
    """Let every dot be written although nothing says so: no intent on disk, and no mark."""

    def intend(_ledger: Ledger, _intent: book.Intent, *, is_urgent: bool) -> asyncio.Future[bool]:  # noqa: ARG001
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer

    Ledger.intend = intend  # type: ignore[assignment, method-assign]
    without_mark()


def without_mark() -> None:
    """Let every dot be written without a mark: an intent on disk is all there is."""

    class Unmarked(Dot):
        def __init__(self) -> None:
            pass

        def accepted(self, reply: Reply, now: datetime) -> None:
            """Note nothing."""

        def refused(self) -> None:
            """Note nothing."""

        def booked(self) -> None:
            """Forget nothing."""

    Dots.write = lambda *_: Unmarked()  # type: ignore[method-assign]


def without_token() -> None:
    """Let every entry pass whatever its token: it names the present one instead of its own."""
    true_intents, true_results = book.write_intents, book.write_results

    def write_intents(connection: Connection, intents: Sequence[book.Intent], changes: Changes) -> Any:
        return true_intents(connection, _with_present_tokens(connection, intents), changes)

    def write_results(connection: Connection, results: Sequence[book.Result], changes: Changes) -> Any:
        return true_results(connection, _with_present_tokens(connection, results), changes)

    book.write_intents = write_intents
    book.write_results = write_results


MUTANTS: dict[str, Callable[[], None]] = {"intent": without_intent, "mark": without_mark, "token": without_token}


def _with_present_tokens(connection: Connection, entries: Sequence[E]) -> list[E]:
    ids = [entry.claimed.id for entry in entries]
    rows = connection.execute(select(deliveries.c.id, deliveries.c.token).where(deliveries.c.id.in_(ids)))
    tokens = {row.id: row.token for row in rows}

    def present(claimed: Claimed) -> Claimed:
        return claimed._replace(token=tokens.get(claimed.id, claimed.token))

    return [replace(entry, claimed=present(entry.claimed)) for entry in entries]
