"""The services with parts of their exactness taken out, for comparison: the product has no such settings.

`synchronous=NORMAL` waits for no disk; without intents nothing says in the database that a dot may be on the wire.
"""

import asyncio
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, event


def relax() -> None:
    """Let the writer that is made next wait for no disk: what it committed last may be lost with the power."""
    transactions: Any = import_module("mailer.database.transactions")
    make = transactions.write_engine

    def relaxed(*arguments: object, **named: object) -> Engine:
        engine: Engine = make(*arguments, **named)
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))
        return engine

    transactions.write_engine = relaxed


def write_with(module: str) -> None:
    """Let the sender's writer be the process of a module here."""
    process: Any = import_module("mailer.database.writer_process")
    process._MODULE = module


def grant_at_once() -> None:
    """Let every dot be written without an intent."""
    ledger: Any = import_module("services.sender.ledger")

    def intend(_ledger: object, _intent: object, **_: object) -> asyncio.Future[bool]:
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer

    ledger.Ledger.intend = intend


def accept_without_intents() -> None:
    """Let the book take the acceptance of a message that was only claimed."""
    book: Any = import_module("services.sender.book")
    statement = book._SET_ACCEPTED
    statement._after = statement._after.replace("state = 'dot_intent'", "state = 'claimed'")
    statement._after = statement._after.replace("AND deliveries.account_id = r.account", "")
