"""Open SMTP connections that wait for the next message: kept per account, and closed when they are no good any more."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from mailer.clock import Clock
from services.sender.account import Account
from services.sender.smtp import Conversation

QUIT_SECONDS = 5.0


@dataclass(slots=True)
class Lane:
    """A connection with what decides how long it is kept."""

    account: Account
    conversation: Conversation
    message_count: int = 0
    seconds: float | None = None  # from the last dot to its answer
    idle_since: float = 0.0


class Connections:
    """The connections of one process that are idle at present."""

    def __init__(self, clock: Clock, *, idle_seconds: float, most_messages: int) -> None:
        """Say how long an idle connection is kept, and how many messages go over one."""
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._most_messages = most_messages
        self._idle: defaultdict[str, deque[Lane]] = defaultdict(deque)
        self._closing: set[asyncio.Task[None]] = set()

    def take(self, account: Account) -> Lane | None:
        """Return the connection of an account that was used last and is still good, or None."""
        lanes = self._idle.get(account.account_id)
        while lanes:
            lane = lanes.pop()
            if lane.account.connection_settings == account.connection_settings and lane.conversation.is_usable:
                return lane
            self._close(lane)
        return None

    def places_behind(self, lane: Lane) -> int:
        """Return how many messages more may go over a connection behind the one that is under way."""
        return self._most_messages - lane.message_count - 1

    def give_back(self, lane: Lane) -> None:
        """Keep a connection for the next message, unless it is used up or broken."""
        lane.message_count += 1
        if not lane.conversation.is_usable or lane.message_count >= self._most_messages:
            self._close(lane)
            return
        lane.idle_since = self._clock.monotonic()
        self._idle[lane.account.account_id].append(lane)

    def close_stale(self, account_ids: Iterable[str]) -> None:
        """Close idle connections of accounts whose settings changed."""
        for account_id in account_ids:
            for lane in self._idle.pop(account_id, ()):
                self._close(lane)

    def close_idle(self) -> None:
        """Close connections that nobody has used for long, or that the server has closed."""
        oldest = self._clock.monotonic() - self._idle_seconds
        for account_id, lanes in list(self._idle.items()):
            kept = deque(lane for lane in lanes if lane.idle_since >= oldest and lane.conversation.is_usable)
            for lane in lanes:
                if lane not in kept:
                    self._close(lane)
            if kept:
                self._idle[account_id] = kept
            else:
                del self._idle[account_id]

    def count_of(self, account_id: str) -> int:
        """Return how many connections of an account are idle."""
        return len(self._idle.get(account_id, ()))

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        self.close_stale(list(self._idle))
        if self._closing:
            await asyncio.wait(self._closing, timeout=QUIT_SECONDS)

    def _close(self, lane: Lane) -> None:
        """Say QUIT in the background: its answer changes nothing."""
        task = asyncio.create_task(lane.conversation.quit())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
