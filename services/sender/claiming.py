"""Does what a look at the runs asks of the database: short transactions, for connections wait in line behind them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mailer.database import Database
from mailer.message.address import Address
from mailer.message.mime import RenderedMessage
from services.sender import runs
from services.sender.dots import Dots
from services.sender.entries import NO_STREAK, Streak
from services.sender.failpoints import Window, reached
from services.sender.jobs import Job
from services.sender.options import Options
from services.sender.outbox import Claimed, Postponed
from services.sender.programs import Programs
from services.sender.shelf import Program
from services.sender.turn import Turn, take_turn

MOST_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class OpenRun:
    """An active run with open deliveries, and what its first content and its options ask of an account."""

    run: runs.Run
    program: Program
    options: Options
    waiting_count: int  # deliveries that nobody has claimed


@dataclass(slots=True)
class Errand:
    """What a look at the runs has found to do. Whatever was done is taken off it."""

    life: str  # of the database at the look
    worker: str
    dots: Dots
    now: datetime
    open_runs: Mapping[str, OpenRun]
    wanted: dict[str, int]  # claims, by run
    stalled: list[str] = field(default_factory=list)
    returned: list[Claimed] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    is_due: bool = False  # there are deferred deliveries whose time has come
    drained: set[str] = field(default_factory=set)  # runs that had less than was wanted

    def __bool__(self) -> bool:
        """Say whether there is anything to do."""
        return bool(self.wanted or self.stalled or self.returned or self.postponed or self.is_due)

    def part(self) -> dict[str, int]:
        """Return as much of what is wanted as is claimed in one go."""
        part: dict[str, int] = {}
        room = MOST_AT_ONCE
        for run_id, most in self.wanted.items():
            if room <= 0:
                break
            part[run_id] = min(most, room)
            room -= part[run_id]
        return part

    def note(self, part: Mapping[str, int], turn: Turn) -> None:
        """Take off what a turn has done."""
        self.stalled, self.returned, self.postponed, self.is_due = [], [], [], False
        came = Counter(one.run_id for one in turn.claimed)
        for run_id, most in part.items():
            self.wanted[run_id] -= most
            if came[run_id] < most:
                self.drained.add(run_id)
            if run_id in self.drained or not self.wanted[run_id]:
                del self.wanted[run_id]


class Claiming:
    """Runs errands."""

    def __init__(
        self,
        database: Database,
        programs: Programs,
        *,
        on_change: Callable[[frozenset[str]], None],
        on_claimed: Callable[[list[Job]], None],
        on_unused: Callable[[Sequence[Claimed]], None],
    ) -> None:
        """Take the database; the callbacks hear which runs changed, what is to be sent, and what cannot be."""
        self._database = database
        self._programs = programs
        self._on_change = on_change
        self._on_claimed = on_claimed
        self._on_unused = on_unused

    async def take_step(self, errand: Errand) -> None:
        """Do the next part of an errand, in one transaction."""
        part = errand.part()
        turn = await self._database.write_under(
            errand.life,
            take_turn,
            part,
            errand.stalled,
            errand.returned,
            errand.postponed,
            is_due=errand.is_due,
            worker=errand.worker,
            now=errand.now,
        )
        if turn.claimed:
            reached(Window.AFTER_CLAIM)
        errand.note(part, turn)
        self._on_change(turn.run_ids)
        if turn.claimed:
            try:
                jobs = await self._jobs(turn, errand)
            except BaseException:
                self._on_unused(turn.claimed)
                raise
            self._on_claimed(jobs)

    async def _jobs(self, turn: Turn, errand: Errand) -> list[Job]:
        contents = {one.content_hash for one in turn.claimed}
        programs = {content_hash: await self._programs.get(content_hash) for content_hash in contents}
        return [
            _job(one, message, errand.open_runs[one.run_id], programs[one.content_hash], errand)
            for one, message in zip(turn.claimed, turn.messages, strict=True)
        ]


def _job(claimed: Claimed, message: RenderedMessage | None, one: OpenRun, program: Program, errand: Errand) -> Job:
    return Job(
        claimed=claimed,
        message=message,
        life=errand.life,
        dots=errand.dots,
        program=program,
        policy=one.run.policy,
        allowed=one.options.account_ids,
        needs_smtputf8=program.message.needs_smtputf8
        or (not claimed.address.isascii() and Address(claimed.address).needs_smtputf8),
        retry=one.options.retry,
        streak=Streak(claimed.rule, claimed.rule_count, claimed.rule_since) if claimed.rule else NO_STREAK,
    )
