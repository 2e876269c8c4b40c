"""What Mailer decides by itself about runs and deliveries, when servers refuse too much."""

import structlog
from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from services.sender import doubt, runs
from services.sender.bulletin import Bulletin
from services.sender.counts import Changes
from services.sender.ledger import Ledger

log = structlog.get_logger(__name__)


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
        changes = Changes()

        def job(connection: Connection) -> int:
            taken = doubt.take_back_refused(connection, delivery_keys, now=self._clock.now(), changes=changes)
            changes.apply(connection)
            return taken

        taken = await self._database.write(job)
        self._bulletin.publish(changes.run_ids)
        log.warning("refusals of a held account were taken back", count=taken)

    async def pause_refused(self, run_id: str, reason: str) -> None:
        """Pause a run whose content one server after the other refuses."""
        said = f"servers refuse the content of this run: {reason}"
        await self._database.write(runs.pause, run_id, reason=said, now=self._clock.now())
        self._bulletin.publish([run_id])
        log.error("a run was paused because its content is refused", run=run_id, reason=reason)

    async def tell(self, run_id: str, reason: str) -> None:
        """Say on a run what concerns all of its messages, though nothing is decided about it."""

        await self._database.write(runs.note, run_id, reason, now=self._clock.now())
        self._bulletin.publish([run_id])
        log.warning("something concerns a whole run", run=run_id, reason=reason)
