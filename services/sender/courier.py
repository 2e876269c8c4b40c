"""Takes messages to their servers, one behind the other over the same connection.

While the intent of a message is on its way to the disk, the next one is chosen and rendered; its envelope then travels
right behind the dot. So a message costs one round trip, and a connection is not idle between two.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from mailer.clock import Clock
from mailer.database.types import to_microseconds
from mailer.message.mime import RenderedMessage
from mailer.message.problems import RenderProblem
from services.sender.attempt import Attempted, BrokenOff, attempt, envelope_of
from services.sender.connections import Connections, Lane
from services.sender.credentials import PasswordUnavailable
from services.sender.dialing import Dial
from services.sender.entries import Intent
from services.sender.failpoints import Window, reached
from services.sender.feeder import Feeder
from services.sender.jobs import Job
from services.sender.ledger import Ledger
from services.sender.replies import Incident, Stage
from services.sender.roster import Admission, Roster
from services.sender.settlement import Settlement
from services.sender.smtp import Accepted, ConnectFailed, Envelope, NotAccepted, Outcome

log = structlog.get_logger(__name__)


MOST_AHEAD = 64
AHEAD_SECONDS = 0.05
"""How much work a connection is given ahead. A pause, say, is still seen at the dot of each."""

RENEW_SECONDS = 0.5
"""An intent older than that is asked for again before the dot: somebody may have unsubscribed since."""


@dataclass(slots=True, eq=False)
class Leg:
    """One message on its way, with leave to send it, its connection, and the message that goes next over that."""

    job: Job
    admission: Admission
    message: RenderedMessage
    envelope: Envelope
    lane: Lane | None = None
    behind: "deque[Leg]" = field(default_factory=deque)  # what goes over its connection after it, in this order
    intent: "asyncio.Future[bool] | None" = None  # whether it is on disk; None before it was asked for
    intent_time: float = 0.0
    dot_time: float = 0.0
    answer_time: datetime | None = None  # of a message that was accepted
    is_over: bool = False


class Courier:
    """Sends admitted messages. Whatever happens, every admission is settled once, and every job has a place."""

    def __init__(
        self,
        *,
        clock: Clock,
        roster: Roster,
        feeder: Feeder,
        ledger: Ledger,
        connections: Connections,
        dial: Dial,
        settlement: Settlement,
        is_ahead: bool,
    ) -> None:
        """Take the parts; `dial` opens a connection to an account (raises ConnectFailed or PasswordUnavailable).

        `is_ahead`: the intent of the next message is stored while the present one is under way.
        """
        self._clock = clock
        self._roster = roster
        self._feeder = feeder
        self._ledger = ledger
        self._connections = connections
        self._dial = dial
        self._settlement = settlement
        self._is_ahead = is_ahead
        self._is_stopping = False
        self._under_way: set[Leg] = set()
        self._in_flight_count = 0

    @property
    def under_way(self) -> frozenset[Leg]:
        """Return the messages that are on their way, or next on a connection."""
        return frozenset(self._under_way)

    @property
    def in_flight_count(self) -> int:
        """Return how many messages are on their way: one per connection."""
        return self._in_flight_count

    def stop(self) -> None:
        """Begin no further message; those under way go on."""
        self._is_stopping = True

    async def serve(self, job: Job, admission: Admission) -> None:
        """Send a message, and then whatever may follow it over the same connection."""
        leg = await self._first(job, admission)
        while leg is not None:
            leg = await self._travel(leg)

    async def _first(self, job: Job, admission: Admission) -> Leg | None:
        try:
            if await self._roster.confirm(admission):
                return self._load(job, admission)
            self._settlement.again(job)
        except Exception:
            log.exception("a message was not begun by a bug", delivery=job.claimed.delivery_key, run=job.run_id)
            self._settlement.ended_by_bug(job, admission)
        return None

    def _load(self, job: Job, admission: Admission) -> Leg | None:
        """Render the message; None when that cannot be done, which is booked then."""
        try:
            return self._rendered(job, admission)
        except RenderProblem as problem:
            self._settlement.not_rendered(job, admission, problem)
        except Exception:
            log.exception("a message was not rendered by a bug", delivery=job.claimed.delivery_key, run=job.run_id)
            self._settlement.ended_by_bug(job, admission)
        return None

    def _rendered(self, job: Job, admission: Admission) -> Leg:
        message = job.message or job.program.render(job.claimed)
        job.dot = None
        return Leg(job, admission, message, envelope_of(message, is_plain=job.is_plain))

    async def _travel(self, leg: Leg) -> Leg | None:
        """Make one attempt and book it; return what goes next over its connection."""
        self._under_way.add(leg)
        self._in_flight_count += 1
        try:
            await self._attempt(leg)
        except asyncio.CancelledError:
            self._drop_behind(leg)
            raise
        except Exception:
            log.exception("an attempt ended by a bug", delivery=leg.job.claimed.delivery_key, run=leg.job.run_id)
            self._settlement.ended_by_bug(leg.job, leg.admission)
            if leg.lane is not None:
                leg.lane.conversation.close()
        finally:
            leg.is_over = True
            self._under_way.discard(leg)
            self._in_flight_count -= 1
        return self._next(leg)

    async def _attempt(self, leg: Leg) -> None:
        job, admission = leg.job, leg.admission
        start_time = self._clock.now()
        job.tries += 1
        try:
            if leg.lane is None:
                leg.lane = await self._open_lane(job, admission)
            obstacle = leg.lane.conversation.extensions.obstacle_to(leg.envelope)
            if obstacle is not None:  # known from EHLO: nobody is asked, and no intent is needed
                attempted = Attempted(Incident(Stage.MAIL, event=obstacle))
            else:
                attempted = await attempt(
                    leg.lane.conversation,
                    leg.message,
                    leg.envelope,
                    intent=self._intent(leg),
                    may_finish=lambda: self._may_finish(leg),
                    follow=lambda: self._follow(leg),
                    answered=lambda outcome: self._note_answer(leg, outcome),
                )
        except ConnectFailed as failed:
            attempted = Attempted(failed.incident)
        except PasswordUnavailable as problem:
            self._settlement.no_password(job, admission, problem)
            return
        except BrokenOff as broken:
            self._settlement.settle(job, admission, broken.attempted, start_time)
            raise
        except asyncio.CancelledError:
            self._settlement.cancelled(admission)
            raise
        is_over = self._settlement.settle(
            job, admission, attempted, start_time, now=leg.answer_time, is_succeeded=bool(leg.behind)
        )
        if leg.lane is not None and is_over:
            leg.lane.conversation.close()

    async def _open_lane(self, job: Job, admission: Admission) -> Lane:
        """Return a connection: one that is idle, or a new one; a message in trouble gets a fresh one."""
        account = admission.account
        lane = self._connections.take(account)
        if lane is not None and (job.is_plain or job.streak.rule):
            # In its place, not beside it: the account may have only so many.
            lane.conversation.close()
            self._connections.give_back(lane)
            lane = None
        if lane is None:
            lane = Lane(account, await self._dial(account))
            reached(Window.AFTER_CONNECT)
            self._roster.note_smtputf8(account.account_id, offered=lane.conversation.extensions.has_smtputf8)
        return lane

    def _intent(self, leg: Leg) -> asyncio.Future[bool]:
        """Return the intent of a message whose turn has come; one of some age is asked for once more."""
        if leg.intent is not None and self._clock.monotonic() - leg.intent_time <= RENEW_SECONDS:
            if not leg.intent.done():
                self._ledger.hurry()
            return leg.intent
        if leg.intent is not None:
            leg.intent.cancel()
        return self._intend(leg, to_microseconds(self._clock.now()), is_urgent=True)

    def _intend(self, leg: Leg, time: int, *, is_urgent: bool) -> asyncio.Future[bool]:
        """Send the intent on its way to the disk; `time` is microseconds since 1970."""
        claimed = leg.job.claimed
        intent = Intent(claimed.id, claimed.token, claimed.run_id, leg.admission.account.account_id, time)
        leg.intent = self._ledger.intend(intent, life=leg.job.life, is_urgent=is_urgent)
        leg.intent_time = self._clock.monotonic()
        return leg.intent

    def _may_finish(self, leg: Leg) -> bool:
        """Mark the dot and say that it may be written, unless the run was stopped since the intent."""
        job = leg.job
        if self._feeder.may_go_out(job):
            job.dot = job.dots.write(job.claimed.delivery_key, job.claimed.token)
        leg.dot_time = self._clock.monotonic()
        return job.dot is not None

    def _note_answer(self, leg: Leg, outcome: Outcome) -> None:
        job = leg.job
        if leg.lane is not None:
            leg.lane.seconds = self._clock.monotonic() - leg.dot_time
        if job.dot is not None and isinstance(outcome, Accepted) and outcome.incident.reply is not None:
            leg.answer_time = self._clock.now()
            job.dot.accepted(outcome.incident.reply, to_microseconds(leg.answer_time))
        elif job.dot is not None and isinstance(outcome, NotAccepted):
            job.dot.refused()

    def _follow(self, leg: Leg) -> Envelope | None:
        """Choose and render what goes over the connection behind a message; return the envelope that goes next."""
        lane = leg.lane
        if lane is None or self._is_stopping or self._ledger.is_stuck:
            return leg.behind[0].envelope if leg.behind else None
        most = min(_reach(lane), self._connections.places_behind(lane))
        if len(leg.behind) <= most // 2:
            self._fill(leg, lane, most)
        return leg.behind[0].envelope if leg.behind else None

    def _fill(self, leg: Leg, lane: Lane, most: int) -> None:
        """Let up to so many messages wait behind this one for its connection."""
        now, behind = self._clock.now(), leg.behind
        time = to_microseconds(now)
        is_ahead = self._is_ahead and lane.seconds is not None and lane.seconds <= AHEAD_SECONDS

        def admit(job: Job) -> Admission | None:
            return self._admit_behind(job, leg.admission, lane, now)

        while len(behind) < most:
            taken = self._feeder.take(admit)
            if taken is None:
                return
            following = self._load(*taken)
            if following is not None:
                following.behind = behind
                behind.append(following)
                self._under_way.add(following)
                if is_ahead:
                    self._intend(following, time, is_urgent=False)

    def _admit_behind(self, job: Job, ahead: Admission, lane: Lane, now: datetime) -> Admission | None:
        """Give leave to send a message over the connection of another, unless it had better go another way."""
        if job.is_plain or job.streak.rule or ahead.account.account_id in job.avoid:
            return None
        if job.needs_smtputf8 and not lane.conversation.extensions.has_smtputf8:
            return None
        return self._roster.admit_behind(ahead, from_address=job.program.from_address, allowed=job.allowed, now=now)

    def _next(self, leg: Leg) -> Leg | None:
        """Return what goes next over the connection of a message that has ended."""
        lane = leg.lane
        if lane is None:
            return None
        if leg.behind:
            following = leg.behind[0]
            may_go = self._roster.move_up(following.admission, following.job.program.from_address, self._clock.now())
            if may_go and lane.conversation.is_usable and not self._is_stopping:
                lane.message_count += 1
                following.lane = lane
                return leg.behind.popleft()
            self._drop_behind(leg)
            lane.conversation.close()  # its envelope may be on the way there
        self._connections.give_back(lane)
        return None

    def _drop_behind(self, leg: Leg) -> None:
        """Put back what would have gone behind a message."""
        while leg.behind:
            following = leg.behind.popleft()
            if following.intent is not None:
                following.intent.cancel()
            following.is_over = True
            self._under_way.discard(following)
            self._settlement.not_begun(following.job, following.admission)


def _reach(lane: Lane) -> int:
    """Return how many messages a connection may have ahead: as many as it sends in a moment."""
    if lane.seconds is None:
        return 1
    return max(min(int(AHEAD_SECONDS / max(lane.seconds, 0.001)), MOST_AHEAD), 1)
