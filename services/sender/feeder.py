"""Keeps the queues in memory short but never empty: claims what may go out, gives back what cannot for a while."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from mailer.v1 import sender_pb2
from services.sender import outbox, runs
from services.sender.bulletin import Bulletin
from services.sender.claiming import Claiming, Errand, OpenRun
from services.sender.go_ahead import GoAhead
from services.sender.jobs import Job, Queues
from services.sender.ledger import Ledger
from services.sender.options import Options, read_options
from services.sender.outbox import Claimed, Postponed
from services.sender.programs import Programs
from services.sender.roster import Roster
from services.sender.states import Policy
from services.sender.turn import give_back
from services.sender.worker import Worker

log = structlog.get_logger(__name__)

A = TypeVar("A")

# Claim little: what is claimed is out of everybody else's reach. Enough for some tenths of a second at full speed.
MOST_CLAIMED = 1000
MOST_CLAIMED_PER_RUN = 500
LOOK_AGAIN = timedelta(seconds=1)
MOST_OPTIONS = 256


class Feeder:
    """Claims deliveries for the runs whose messages some account can take."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        worker: Worker,
        roster: Roster,
        programs: Programs,
        ledger: Ledger,
        bulletin: Bulletin,
        queues: Queues,
        go_ahead: GoAhead,
    ) -> None:
        """Take what it needs; `queues` is what it fills."""
        self._database = database
        self._clock = clock
        self._worker = worker
        self._roster = roster
        self._programs = programs
        self._claiming = Claiming(
            database, programs, on_change=bulletin.publish, on_claimed=self._queue, on_unused=self.give_back
        )
        self._ledger = ledger
        self._bulletin = bulletin
        self._queues = queues
        self._go_ahead = go_ahead
        self._returned: list[Claimed] = []
        self._wake = asyncio.Event()
        self._shut: set[str] = set()
        self._options: dict[tuple[bytes, Policy], Options] = {}
        self._open_run_ids: frozenset[str] = frozenset()
        self._share = MOST_CLAIMED_PER_RUN  # of each open run, in claimed messages
        self._drained: frozenset[str] = frozenset()  # runs that had no more to claim at the last look
        self.filled = asyncio.Event()

    def wake(self) -> None:
        """Look for work now: something was stored, resumed or taken from the queues."""
        self._wake.set()

    @property
    def has_jobs(self) -> bool:
        """Say whether anything is claimed and not begun."""
        return len(self._queues) > 0

    def take(self, admit: Callable[[Job], A | None]) -> tuple[Job, A] | None:
        """Return the next job that `admit` lets in, with what it answered; see `Queues.take`."""
        taken = self._queues.take(admit)
        if taken is not None:
            run_id = taken[0].run_id
            if run_id not in self._drained and self._is_low(run_id):
                self._wake.set()
        return taken

    def put_back(self, job: Job) -> None:
        """Let a job wait for an account again, in front of its run."""
        self._queues.put_back(job)
        self.filled.set()

    def go_ahead(self, run_id: str) -> None:
        """Let a run go on that is older than this process: somebody who may say so spoke of it."""
        if self._go_ahead.hear(run_id):
            self._wake.set()

    def is_open(self, run_id: str) -> bool:
        """Say whether messages of a run may still go out, as far as was seen at the last look."""
        return run_id in self._open_run_ids

    def may_go_out(self, job: Job) -> bool:
        """Say whether the dot of a message may be written: its run is open, and its claim of this life."""
        return job.run_id in self._open_run_ids and job.life == self._database.incarnation

    def close(self, run_id: str) -> None:
        """Let no further dot of a run be written: somebody paused or cancelled it just now."""
        self._open_run_ids -= {run_id}
        self.give_back(job.claimed for job in self._queues.remove_run(run_id))

    def shut(self, run_id: str) -> None:
        """Close a run, whatever the database says of it, until `unshut`: a decision about it is on its way there."""
        self._shut.add(run_id)
        self.close(run_id)

    def unshut(self, run_id: str) -> None:
        """Go by what the database says of a run again."""
        self._shut.discard(run_id)
        self._wake.set()

    def give_back(self, claims: Iterable[Claimed]) -> None:
        """Put claims back that nobody will use; those that are void already stay as they are."""
        self._returned.extend(claims)
        if self._returned:
            self._wake.set()

    async def return_claims(self) -> None:
        """Put back at once what was given back, as long as the database takes it."""
        returned, self._returned = self._returned, []
        await self._database.write(give_back, returned, self._clock.now())

    def drop_all(self) -> None:
        """Let no further dot be written: the database was replaced, and what is claimed belongs to the one before."""
        self._open_run_ids = frozenset()
        self._queues.clear()
        self._returned.clear()

    async def run(self) -> None:
        """Feed until cancelled."""
        self._go_ahead.begin()
        while True:
            try:
                await self._feed()
            except DatabaseUnavailable as error:
                log.warning("claiming waits for the database", error=str(error))
                await self._clock.sleep(LOOK_AGAIN.total_seconds())
                continue
            except Exception:
                log.exception("claiming failed by a bug, and is tried again")
                await self._clock.sleep(LOOK_AGAIN.total_seconds())
                continue
            await self._clock.wait(self._wake, LOOK_AGAIN.total_seconds())
            self._wake.clear()

    async def _feed(self) -> None:
        if self._ledger.is_stuck:
            return
        errand = await self._look()
        if not errand:
            return
        try:
            if errand.returned or errand.postponed:
                # It may have a result on its way to the book, which has to be there first.
                await self._ledger.settle()
            await self._claiming.take_step(errand)
            while errand.wanted and not self._ledger.is_stuck:
                await self._claiming.take_step(errand)
        except BaseException:
            self._returned += [*errand.returned, *(one.claimed for one in errand.postponed)]
            raise
        self._drained = frozenset(errand.drained)

    async def _look(self) -> Errand:
        """Look at the runs, and return what there is to do."""
        now = self._clock.now()
        life, dots = self._database.incarnation, self._worker.dots
        work, first_due = await self._database.read(_read_work)
        open_runs = await self._open_all(work)
        self._share = min(max(MOST_CLAIMED // max(len(open_runs), 1), 10), MOST_CLAIMED_PER_RUN)
        wanted: dict[str, int] = {}
        stalled: list[str] = []
        for one in open_runs:
            outlook = self._roster.outlook(one.program.from_address, one.options.account_ids, now)
            if not outlook.room:
                stalled.append(one.run.run_id)
            elif one.waiting_count and self._is_low(one.run.run_id):
                wanted[one.run.run_id] = self._share - self._queues.count_of(one.run.run_id)
        postponed = [claim for one in open_runs for claim in self._without_smtputf8(one, now)]
        self._open_run_ids = frozenset(one.run.run_id for one in open_runs) - self._shut
        ended = [run_id for run_id in self._queues.run_ids() if not self.is_open(run_id)]
        self.give_back(job.claimed for run_id in (*stalled, *ended) for job in self._queues.remove_run(run_id))
        returned, self._returned = self._returned, []
        return Errand(
            life=life,
            worker=self._worker.worker_id,
            dots=dots,
            now=now,
            open_runs={one.run.run_id: one for one in open_runs},
            wanted=wanted,
            stalled=stalled,
            returned=returned,
            postponed=postponed,
            is_due=first_due is not None and first_due <= now,
        )

    def _queue(self, jobs: list[Job]) -> None:
        self._queues.add(jobs)
        self.filled.set()

    def _is_low(self, run_id: str) -> bool:
        return self._queues.count_of(run_id) <= self._share // 2

    def _without_smtputf8(self, one: OpenRun, now: datetime) -> list[Postponed]:
        """Take out what no account can send for a while, so that it does not keep others from being claimed."""
        if not self._queues.has_smtputf8(one.run.run_id):
            return []
        outlook = self._roster.outlook_smtputf8(one.program.from_address, one.options.account_ids, now)
        if outlook.room:
            return []
        until = max(outlook.until or now, now + LOOK_AGAIN)
        reason = f"waits for an account that offers SMTPUTF8: {outlook.reason}"
        return [Postponed(job.claimed, until, reason) for job in self._queues.remove_smtputf8(one.run.run_id)]

    async def _open_all(self, work: list[tuple[runs.Run, int]]) -> list[OpenRun]:
        """Return the runs that can be sent; one whose stored content cannot be used any more is paused and says so."""
        opened = []
        for run, waiting_count in work:
            if run.run_id in self._shut or not self._go_ahead.has(run):
                continue
            try:
                opened.append(await self._open(run, waiting_count))
            except LookupError as error:
                log.error("a run is paused: its content cannot be sent", run=run.run_id, error=str(error))
                reason = f"its content cannot be sent: {error}; create the campaign anew"
                await self._database.write(runs.pause, run.run_id, reason=reason, now=self._clock.now())
                self._bulletin.publish([run.run_id])
        return opened

    async def _open(self, run: runs.Run, waiting_count: int) -> OpenRun:
        known = self._options.get((run.options, run.policy))
        if known is None:
            if len(self._options) >= MOST_OPTIONS:
                self._options.clear()
            known = read_options(sender_pb2.DeliveryOptions.FromString(run.options), default=run.policy)
            self._options[run.options, run.policy] = known
        return OpenRun(run, await self._programs.get(run.content_hash), known, waiting_count)


def _read_work(connection: Connection) -> tuple[list[tuple[runs.Run, int]], datetime | None]:
    """Return the runs with work, and when the first deferred delivery is due."""
    return runs.with_work(connection), outbox.first_due(connection)
