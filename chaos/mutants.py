"""Senders with one rule of the book taken out. The harness has to catch them, or it proves nothing.

They exist only in the memory of a process of a test: production code has no switch for them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from services.sender import book
from services.sender.dots import Dot, Dots
from services.sender.entries import Acceptance, Intent, Result
from services.sender.ledger import Ledger
from services.sender.replies import Reply
from services.sender.tables import deliveries


def without_intent() -> None:
    """Let every dot be written although nothing says so: no intent on disk, and no mark."""

    def intend(_ledger: Ledger, _intent: Intent, **_: object) -> asyncio.Future[bool]:
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

        def accepted(self, reply: Reply, time: int) -> None:
            """Note nothing."""

        def refused(self) -> None:
            """Note nothing."""

        def booked(self) -> None:
            """Forget nothing."""

    Dots.write = lambda *_: Unmarked()  # type: ignore[method-assign]


def without_token() -> None:
    """Let every entry pass whatever its token: it names the present one instead of its own."""
    true_group = book.write_group

    # Not portable, so it runs in this process, where the mutant is.
    def write_group(
        connection: Connection,
        acceptances: Sequence[Acceptance],
        results: Sequence[Result],
        intents: Sequence[Intent],
    ) -> tuple[frozenset[int], frozenset[str]]:
        ids = [one.claimed.id for one in results]
        ids += [one.delivery_id for one in acceptances]
        ids += [one.delivery_id for one in intents]
        tokens = _present_tokens(connection, ids)
        return true_group(
            connection,
            [one._replace(token=tokens.get(one.delivery_id, one.token)) for one in acceptances],
            [
                replace(one, claimed=one.claimed._replace(token=tokens.get(one.claimed.id, one.claimed.token)))
                for one in results
            ],
            [one._replace(token=tokens.get(one.delivery_id, one.token)) for one in intents],
        )

    book.write_group = write_group


MUTANTS: dict[str, Callable[[], None]] = {"intent": without_intent, "mark": without_mark, "token": without_token}


def _present_tokens(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    rows = connection.execute(select(deliveries.c.id, deliveries.c.token).where(deliveries.c.id.in_(ids)))
    return {row.id: row.token for row in rows}
