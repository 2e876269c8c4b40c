"""What has to be done now and then: say that we live, take over from the dead, close idle connections, forget."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Protocol

import structlog

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from mailer.idempotency import forget_before
from mailer.lockfile import LockFile
from services.sender import outbox
from services.sender.connections import Connections
from services.sender.feeder import Feeder
from services.sender.tables import requests
from services.sender.worker import HEARTBEAT, Worker

log = structlog.get_logger(__name__)

RESCUE_INTERVAL = 1.0
FORGET_INTERVAL = 60.0
# Long enough for any caller that repeats a request; deliveries are unique without it, for ever.
REQUESTS_KEPT = timedelta(days=7)


class UnderWay(Protocol):
    """A message that is on its way."""

    @property
    def is_over(self) -> bool:
        """Say whether it has a place in the book or the queue again."""


class Upkeep:
    """Runs beside the delivery loop."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        worker: Worker,
        connections: Connections,
        *,
        feeder: Feeder,
        under_way: Callable[[], Collection[UnderWay]],
    ) -> None:
        """Take what is kept up; `under_way` tells which attempts are, `feeder` hears that there is new work."""
        self._database = database
        self._clock = clock
        self._worker = worker
        self._connections = connections
        self._feeder = feeder
        self._under_way = under_way
        self._retired: list[tuple[LockFile, Collection[UnderWay]]] = []
        self._was_replaced = asyncio.Event()
        self._next_beat = 0.0
        self._next_forget = 0.0
        database.on_replaced(self._note_replaced)

    async def run(self) -> None:
        """Keep up until cancelled."""
        while True:
            try:
                await self.turn()
            except DatabaseUnavailable as error:
                log.info("upkeep waits for the database", error=str(error))
            except Exception:
                log.exception("upkeep failed, and is tried again")
            await self._clock.wait(self._was_replaced, RESCUE_INTERVAL)

    async def turn(self) -> None:
        """Do what is due now."""
        if self._was_replaced.is_set():
            await self._begin_anew()
        self._retire()
        rescued = await self._worker.rescue()
        if rescued.returned or rescued.flagged:
            self._feeder.wake()
        self._connections.close_idle()
        now = self._clock.monotonic()
        if now >= self._next_beat:
            await self._worker.beat()
            self._next_beat = now + HEARTBEAT.total_seconds()
        if now >= self._next_forget:
            await self._database.write(forget_before, requests, self._clock.now() - REQUESTS_KEPT)
            self._next_forget = now + FORGET_INTERVAL

    def _note_replaced(self) -> None:
        self._feeder.drop_all()
        self._was_replaced.set()

    async def _begin_anew(self) -> None:
        """Start over after a restore: the restored rows may carry claims of ours. Who restored has counted them.

        The same where it is not known whether our last claims are in the database.
        """
        self._feeder.drop_all()
        before = self._worker.worker_id
        lock = await self._worker.become_another()
        self._retired.append((lock, self._under_way()))
        await self._database.write(outbox.take_back_all, before, self._clock.now())
        self._was_replaced.clear()
        log.warning("begun anew: what the database has of ours is another's, or not known", dropped="claims")
        self._feeder.wake()

    def _retire(self) -> None:
        """Give up identities of earlier lives once none of their messages is on its way any more."""
        waiting = []
        for lock, messages in self._retired:
            if all(message.is_over for message in messages):
                lock.release()
            else:
                waiting.append((lock, messages))
        self._retired = waiting
