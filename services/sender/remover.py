"""What is kept of runs that are over, and for how long: by default everything, for ever."""

from datetime import timedelta

import structlog

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from services.sender import removal

log = structlog.get_logger(__name__)

# Small enough that a message at its final dot hardly waits for the one writer, and with room for others between.
BITE = 100
BETWEEN_BITES = 0.1
LOOK_INTERVAL = 60.0
MOST_NOTED = 1000


class Remover:
    """Notes which runs are over, and removes the deliveries of those that are over for longer than they are kept."""

    def __init__(self, database: Database, clock: Clock, *, kept: timedelta | None) -> None:
        """Take the database; None keeps everything."""
        self._database = database
        self._clock = clock
        self._kept = kept
        self._emptying = ""

    async def run(self) -> None:
        """Keep to it until cancelled."""
        while True:
            has_more = False
            try:
                has_more = await self.turn()
            except DatabaseUnavailable as error:
                log.info("old deliveries wait for the database", error=str(error))
            except Exception:
                log.exception("old deliveries cannot be removed, and it is tried again")
            await self._clock.sleep(BETWEEN_BITES if has_more else LOOK_INTERVAL)

    async def turn(self) -> bool:
        """Do a little of what is due; return whether more is."""
        now = self._clock.now()
        if await self._database.read(removal.has_ended):
            await self._database.write(removal.note_ended, most=MOST_NOTED, now=now)
            return True
        if self._kept is None:
            return False
        ended_before = now - self._kept
        run_id = await self._database.read(removal.next_to_empty, ended_before=ended_before)
        if run_id is None:
            self._emptying = ""
            return False
        if run_id != self._emptying:
            self._emptying = run_id
            log.info("the deliveries of a run are removed: it is over for longer than they are kept", run=run_id)
        await self._database.write(removal.take_bite, run_id, ended_before=ended_before, most=BITE, now=now)
        return True
