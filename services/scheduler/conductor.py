"""One task for each run that is not over: it hands over, tells the sender, and follows, as the run's row says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from mailer.clock import Clock
from mailer.database import Database, DatabaseReplaced, DatabaseUnavailable
from mailer.log import bound, get_logger
from mailer.v1 import sender_pb2_grpc
from services.scheduler import runs
from services.scheduler.campaign_states import RunState
from services.scheduler.dispatch import Dispatcher
from services.scheduler.follow import Follower
from services.scheduler.progress import Progress
from services.scheduler.runs import Run

log = get_logger(__name__)

RETRY_SECONDS = 1.0
# With many runs under way each is asked about less often.
MOST_LOOKS_PER_SECOND = 50
# What was decided is tried more often: while the sender is away, a failed call is all that it costs.
MOST_TELLS_PER_SECOND = 500


@dataclass(slots=True)
class Part:
    """What one run has of the process: its task, and the event by which it hears of decisions."""

    revision: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class Conductor:
    """Keeps the tasks. `refresh` looks which runs there are; call it when something was decided, and now and then."""

    def __init__(
        self,
        database: Database,
        sender: "sender_pb2_grpc.SenderAsyncStub",
        clock: Clock,
        *,
        dispatcher: Dispatcher,
        progress: Progress,
        random: Random,
        on_change: Callable[[str], None],
    ) -> None:
        """Take what runs need; `on_change` hears the campaign of a run whose row may have changed.

        No call of `sender` may be repeated by the channel: by then somebody may have decided otherwise.
        """
        self._database = database
        self._sender = sender
        self._clock = clock
        self._dispatcher = dispatcher
        self._progress = progress
        self._random = random
        self._on_change = on_change
        self._parts: dict[str, Part] = {}

    async def refresh(self) -> None:
        """Begin what has no task yet, and wake what was decided about."""
        for run_id, revision in (await self._database.read(runs.at_work)).items():
            part = self._parts.get(run_id)
            if part is None:
                part = self._parts[run_id] = Part(revision)
                part.task = asyncio.create_task(self._work(run_id, part))
                part.task.add_done_callback(partial(self._ended, run_id, part))
            elif part.revision != revision:
                part.revision = revision
                part.changed.set()

    async def stop(self) -> None:
        """End every task; what they were at is taken up again from the database."""
        tasks = [part.task for part in self._parts.values() if part.task is not None]
        self._parts.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop_all(self) -> None:
        """Let go of all work at once: the database was replaced and it belongs to another life."""
        for part in self._parts.values():
            if part.task is not None:
                part.task.cancel()
        self._parts.clear()

    def _ended(self, run_id: str, part: Part, _: "asyncio.Task[None]") -> None:
        if self._parts.get(run_id) is part:
            del self._parts[run_id]

    async def _work(self, run_id: str, part: Part) -> None:
        follower = Follower(self._database, self._sender, self._clock, self._progress, self._random)
        while True:
            part.changed.clear()
            try:
                run = await self._database.read(runs.find, run_id)
                if run is None or not run.needs_work:
                    return
                part.revision = run.revision
                with bound(run_id=run_id, campaign_id=run.campaign_id):
                    pause = await self._step(run, follower, part.changed)
                self._on_change(run.campaign_id)
            except DatabaseReplaced:
                return
            except DatabaseUnavailable as error:
                log.warning("a run has to wait for the database", run_id=run_id, reason=error.message)
                pause = RETRY_SECONDS
            except Exception:
                log.exception("a run failed with a bug of ours; it is tried again", run_id=run_id)
                pause = RETRY_SECONDS * 5
            if pause:
                await self._clock.wait(part.changed, pause)

    async def _step(self, run: Run, follower: Follower, changed: asyncio.Event) -> float:
        """Do the next thing for a run; returns how many seconds to wait before the one after."""
        if run.told != run.wanted:
            return max(await follower.tell(run), len(self._parts) / MOST_TELLS_PER_SECOND)
        if run.state is RunState.DISPATCHING:
            await self._dispatcher.hand_over(run, changed)
            return 0.0
        return max(await follower.look(run), len(self._parts) / MOST_LOOKS_PER_SECOND)
