"""The attack: lets the sender live and die as planned, over and over, then lets everything come to rest."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import grpc

from chaos.contest import Contest
from chaos.feed import Feed
from chaos.plan import Kind, Life
from chaos.processes import Victim
from chaos.system import System
from chaos.watch import Watch

WINDOW_SECONDS = 5.0
COLD_SECONDS = 20.0
WRITER_SECONDS = 5.0
REST_SECONDS = 60.0
LOOK_SECONDS = 0.2
WRITER_LOOK_SECONDS = 0.01


class Assault:
    """Kills, and keeps the score of it."""

    def __init__(self, system: System, feed: Feed, watch: Watch) -> None:
        """Take what is attacked, and how one looks at it."""
        self.kills: Counter[str] = Counter()
        self.writer_kills: Counter[str] = Counter()  # of processes that write for a sender: no services
        self.deaths: list[float] = []  # of senders
        self.recoveries: dict[str, list[float]] = {"forked": [], "cold": []}
        self.surprises: list[str] = []
        self.contests: Counter[str] = Counter()
        self._system = system
        self._feed = feed
        self._watch = watch
        self._scheduler: Victim | None = None
        self._companion: Victim | None = None
        self._contest: Contest | None = None

    async def prepare(self) -> None:
        """Start everything once, so that there is an account and work under way."""
        self._scheduler = await self._system.start_scheduler()
        sender = await self._system.start_sender()
        await self._feed.add_account()
        await self._feed.start_campaign()
        await sender.end()

    async def attack(self, lives: Iterable[Life]) -> None:
        """Live through them; new campaigns are started meanwhile."""
        feeding = asyncio.create_task(self._feed.run())
        with self._noting_silence():
            for life in lives:
                await self._live(life)
                if feeding.done():
                    break
        feeding.cancel()
        with self._noting_silence(), suppress(asyncio.CancelledError):
            await feeding
        await self._dismiss_companion()

    async def rest(self, *, messages: int) -> None:
        """Kill nobody any more: send up to that many messages, and wait until all is finished or nothing moves."""
        sender = await self._system.start_sender()
        with self._noting_silence():
            while len(self._feed.given) < messages:
                await self._feed.start_campaign()
            await self._until_finished()
        self._note_recovery(sender)
        for victim in (sender, self._scheduler):
            if victim is not None:
                self._expect_alive(victim)
        if sender.has_ended:
            await self._system.start_sender()  # the books want to be read

    async def _until_finished(self) -> None:
        accepted, since = -1, monotonic()
        while not await self._feed.is_finished() and monotonic() - since < REST_SECONDS:
            self._watch.look()
            if len(self._watch.accepted) > accepted:
                accepted, since = len(self._watch.accepted), monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    async def _live(self, life: Life) -> None:
        if life.has_companion and self._companion is None:
            self._companion = await self._system.start_companion()
        if life.freezes_companion and self._companion is not None:
            contest = Contest(self._system, self._feed, self._watch, self._companion)
            self._contest = contest if await contest.freeze() else None
        sender = await self._system.start_sender(life)
        await asyncio.gather(self._until_the_end(life, sender), self._meanwhile(life))
        if life.kills_writer_before:
            await self._kill_writer(sender, "right before its sender")
        if life.kind is Kind.WITH_SCHEDULER:
            await asyncio.gather(self._kill(sender, "with the scheduler"), self._replace_scheduler("with the sender"))
        elif life.window is None:
            await self._kill(sender, "at a random time")
        self.deaths.append(sender.end_time)
        if self._companion is None:
            self._note_recovery(sender)
        if not life.has_companion:
            await self._dismiss_companion()

    async def _until_the_end(self, life: Life, sender: Victim) -> None:
        """Return when it is time to kill the sender, or when it has killed itself."""
        if life.window is not None:
            if not await sender.ended(WINDOW_SECONDS):
                await self._kill(sender, "before its window")
            elif sender.died_at_window:
                self.kills[life.window] += 1
                return
        elif life.kind is Kind.COLD:
            start = sender.start_time
            await self._watch.until(
                lambda: self._watch.first_message_after(start) is not None or sender.has_ended, seconds=COLD_SECONDS
            )
        if life.kills_writer:
            await self._kill_writer(sender, "while its sender lives")
        await sender.ended(life.seconds)
        self._expect_alive(sender)

    async def _meanwhile(self, life: Life) -> None:
        """Do what happens while the sender lives."""
        if life.kills_scheduler_first:
            await asyncio.sleep(life.seconds / 4)
            await self._replace_scheduler("while the sender lives")
        if life.pauses_campaigns:
            await self._feed.pause_and_resume()
        if life.freezes_companion:
            is_decided = self._contest is not None and await self._contest.decide()
            self._contest = None
            self.contests["decided" if is_decided else "did not take place"] += 1

    async def _replace_scheduler(self, how: str) -> None:
        assert self._scheduler is not None
        await self._kill(self._scheduler, f"scheduler {how}")
        self._scheduler = await self._system.start_scheduler()

    async def _kill(self, victim: Victim, how: str) -> None:
        await victim.kill()
        self.kills[how] += 1

    async def _kill_writer(self, sender: Victim, how: str) -> None:
        """Kill the process that writes for the sender as soon as it is at work."""
        end = monotonic() + WRITER_SECONDS
        while not sender.has_ended and monotonic() < end:
            if sender.kill_writer(self._system.database_file):
                self.writer_kills[how] += 1
                return
            await asyncio.sleep(WRITER_LOOK_SECONDS)

    async def _dismiss_companion(self) -> None:
        if self._companion is not None:
            self._expect_alive(self._companion)
            companion, self._companion = self._companion, None
            await companion.end()

    def _note_recovery(self, sender: Victim) -> None:
        first = self._watch.first_message_after(sender.start_time)
        if first is not None:
            self.recoveries["cold" if sender.order.cold else "forked"].append(first - sender.start_time)

    @contextmanager
    def _noting_silence(self) -> Iterator[None]:
        """Go on when nobody answers: the judge is to see how far it came."""
        try:
            yield
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            self.surprises.append(f"a service did not answer any more: {str(error) or 'for a minute'}")

    def _expect_alive(self, victim: Victim) -> None:
        if victim.has_ended and not victim.is_condemned:
            last = victim.last_words().strip().splitlines()
            self.surprises.append(f"a {victim.order.service} ended by itself: {last[-1] if last else 'without a word'}")
