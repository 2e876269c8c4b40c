"""What Mailer decides by itself about runs and deliveries, when servers refuse too much."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database, DatabaseReplaced, DatabaseUnavailable
from services.sender import doubt, runs
from services.sender.bulletin import Bulletin
from services.sender.counts import Changes
from services.sender.ledger import Ledger

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 1.0


class Decisions:
    """Takes back what a suspended account refused, and pauses a run whose content nobody takes."""

    def __init__(self, database: Database, clock: Clock, bulletin: Bulletin, ledger: Ledger) -> None:
        """Take the book and who hears of changes."""
        self._database = database
        self._clock = clock
        self._bulletin = bulletin
        self._ledger = ledger

    async def take_back_refused(self, delivery_keys: tuple[str, ...]) -> None:
        """Queue deliveries again that failed because their account was suspended."""
        await self._ledger.settle()

        def job(connection: Connection) -> tuple[int, frozenset[str]]:
            changes = Changes()
            taken = doubt.take_back_refused(connection, delivery_keys, now=self._clock.now(), changes=changes)
            changes.apply(connection)
            return taken, changes.run_ids

        taken, run_ids = await self._decided(job)
        self._bulletin.publish(run_ids)
        log.warning("refusals of a held account were taken back", count=taken)

    async def pause_refused(self, run_id: str, reason: str) -> None:
        """Pause a run whose content one server after the other refuses."""
        said = f"servers refuse the content of this run: {reason}"
        await self._decided(partial(runs.pause, run_id=run_id, reason=said, now=self._clock.now()))
        self._bulletin.publish([run_id])
        log.error("a run was paused because its content is refused", run=run_id, reason=reason)

    async def tell(self, run_id: str, reason: str) -> None:
        """Say on a run what concerns all of its messages, though nothing is decided about it."""

        await self._decided(partial(runs.note, run_id=run_id, reason=reason, now=self._clock.now()))
        self._bulletin.publish([run_id])
        log.warning("something concerns a whole run", run=run_id, reason=reason)

    async def _decided(self, job: Callable[[Connection], T]) -> T:
        """Store a decision, however long the database is away. Raises DatabaseReplaced when there is another one."""
        life = self._database.incarnation
        while True:
            try:
                return await self._database.write_under(life, job)
            except DatabaseReplaced:
                raise
            except DatabaseUnavailable as error:
                log.info("a decision waits for the database", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
