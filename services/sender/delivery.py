"""The delivery loop: gives each waiting message to an account that takes it now."""

import asyncio

from services.sender.connections import Connections
from services.sender.courier import Courier
from services.sender.feeder import Feeder
from services.sender.jobs import Job
from services.sender.ledger import Ledger
from services.sender.roster import Admission, Roster
from services.sender.settlement import Settlement

ROOM_INTERVAL = 1.0


class Delivery:
    """Sends what the feeder claims, over at most as many connections as the accounts allow."""

    def __init__(
        self,
        *,
        roster: Roster,
        feeder: Feeder,
        ledger: Ledger,
        connections: Connections,
        courier: Courier,
        settlement: Settlement,
    ) -> None:
        """Take the parts."""
        self._roster = roster
        self._feeder = feeder
        self._ledger = ledger
        self._connections = connections
        self._courier = courier
        self._settlement = settlement
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled. Attempts under way go on: see `stop`."""
        try:
            while True:
                self._feeder.filled.clear()
                while self._start_next():
                    pass
                if self._feeder.has_jobs:
                    await self._roster.wait_for_room(ROOM_INTERVAL)
                else:
                    await self._feeder.filled.wait()
        finally:
            self._courier.stop()

    async def stop(self, grace_seconds: float) -> None:
        """Let attempts under way end, at most so long; then break them off before their dot, and book them all."""
        self._courier.stop()
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._settlement.close(grace_seconds)
        await self._connections.close()

    def _start_next(self) -> bool:
        """Start one attempt if an account has room for any waiting message, and the book takes entries."""
        if self._ledger.is_stuck:
            return False
        taken = self._feeder.take(self._admit)
        if taken is None:
            return False
        task = asyncio.create_task(self._courier.serve(*taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _admit(self, job: Job) -> Admission | None:
        from_address = job.program.from_address
        # With nobody to offer it, any account does: the message fails there, and says why.
        needs_smtputf8 = job.needs_smtputf8 and self._roster.may_offer_smtputf8(from_address, job.allowed)
        admission = self._roster.choose(
            from_address=from_address, allowed=job.allowed, needs_smtputf8=needs_smtputf8, exclude=job.avoid
        )
        if admission is None and job.avoid:
            # Better the account that just failed it than none.
            admission = self._roster.choose(
                from_address=from_address, allowed=job.allowed, needs_smtputf8=needs_smtputf8
            )
        return admission
