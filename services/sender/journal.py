"""Changes of accounts on their way to the database: in their order, and kept until they are there."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database, DatabaseReplaced, DatabaseUnavailable
from mailer.errors import NotFound
from mailer.log import get_logger
from services.sender.account import Account

log = get_logger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: how it is stored, and who hears of the account as it is then (None: it is gone)."""

    account_id: str
    store: Callable[[Connection], Account]
    stored: Callable[[Account | None], None]


class Journal:
    """Stores changes one after the other as soon as they come, and again while the database is away."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Start empty; `run` does the work."""
        self._database = database
        self._clock = clock
        self._entries: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, entry: Entry) -> None:
        """Queue a change."""
        self._entries.append(entry)
        self._empty.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Return once everything added so far is on disk."""
        await self._empty.wait()

    async def run(self) -> None:
        """Store what comes, until cancelled."""
        pause = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._entries:
                pause = 0.0 if await self._store(self._entries[0]) else max(_FIRST_PAUSE, pause * 2)
                if pause:
                    await self._clock.sleep(min(pause, _LONGEST_PAUSE))
                else:
                    self._entries.popleft()
            self._empty.set()

    async def _store(self, entry: Entry) -> bool:
        account = None
        try:
            account = await self._database.write(entry.store)
        except (DatabaseReplaced, NotFound):
            pass  # what the change was about is no longer there
        except DatabaseUnavailable as error:
            log.warning("a change of an account waits for the database", account_id=entry.account_id, error=str(error))
            return False
        except Exception:
            log.exception("a change of an account cannot be stored", account_id=entry.account_id)
        entry.stored(account)
        return True
