"""What is kept of runs that are over, and for how long: by default everything, for ever."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from services.sender import removal

log = structlog.get_logger(__name__)

# A message at its final dot waits for the one writer: so a bite is as large as can be taken in a few milliseconds.
LEAST_BITE, FIRST_BITE, MOST_BITE = 5, 25, 400
SHORT_SECONDS, LONG_SECONDS = 0.004, 0.01
BETWEEN_BITES = 0.1
LOOK_INTERVAL = 60.0
MOST_NOTED = 500


class Remover:
    """Notes which runs are over, and removes the deliveries of those that are over for longer than they are kept."""

    def __init__(self, database: Database, clock: Clock, *, kept: timedelta | None) -> None:
        """Take the database; None keeps everything."""
        self._database = database
        self._clock = clock
        self._kept = kept
        self._bite = FIRST_BITE
        self._removed_count = 0

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
        if not await self._database.read(removal.is_due, ended_before=ended_before):
            if self._removed_count:
                log.info("deliveries of runs that are over for long were removed", count=self._removed_count)
                self._removed_count = 0
            return False
        taken, seconds = await self._database.write(self._take, ended_before, now)
        self._removed_count += sum(taken.values())
        self._bite = next_bite(self._bite, seconds)
        return True

    def _take(self, connection: Connection, ended_before: datetime, now: datetime) -> tuple[dict[str, int], float]:
        began = self._clock.monotonic()
        taken = removal.take_bite(connection, ended_before=ended_before, most=self._bite, now=now)
        return taken, self._clock.monotonic() - began


def next_bite(present: int, seconds: float) -> int:
    """Return how many deliveries to take next, after so many took so long."""
    if seconds > LONG_SECONDS:
        return max(present // 2, LEAST_BITE)
    return min(present * 2, MOST_BITE) if seconds < SHORT_SECONDS else present
