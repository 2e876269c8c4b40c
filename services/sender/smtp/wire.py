"""The connection as an asyncio protocol: bytes out, replies in, each in its turn.

Speed matters here: every message comes through two or three times. A deadline is kept by one timer per connection
that is moved rarely, instead of one that is made and cancelled for every wait.
"""

import asyncio
from typing import cast

from services.sender.failpoints import Window, reached
from services.sender.replies import Event, Reply, Stage
from services.sender.smtp.arrival import Arrival
from services.sender.smtp.reader import ReplyReader

GO_ON = 354
"""The reply that asks for the message."""

_MOST_TURNS = 4  # through the layers of TLS; more would wait for a server that sends without end


class Ended(Exception):
    """The connection is over, and no reply will come any more."""

    def __init__(self, event: Event) -> None:
        """Take what ended it."""
        super().__init__(str(event))
        self.event = event


class Wire(asyncio.Protocol):
    """One connection. It ends at the first thing that is not as expected, and never starts again.

    It belongs to one conversation, which waits for one thing at a time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start without a transport."""
        self.stage = Stage.IDLE
        """What the next reply is the answer to; kept by whoever writes the commands."""
        self.end: Event | None = None
        """Why the connection is over; None while it is not."""
        self.last_words = ""
        """The line that ended it, when it was one."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._unsent = b""  # a dot, and what belongs to it, that goes out in a moment
        self._stage_before = Stage.IDLE
        self._arrival: Arrival | None = None
        self._reader = ReplyReader()
        self._replies = self._reader.replies
        self._expected_count = 0  # replies that have to come yet
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_time = 0.0

    @property
    def has_reply(self) -> bool:
        """Say whether a reply has come that nobody took."""
        return bool(self._replies)

    @property
    def is_full(self) -> bool:
        """Say whether `drain` would wait."""
        return self._is_paused

    def expect(self, count: int) -> None:
        """Announce that many replies more. Anything beyond what is expected ends the connection."""
        self._expected_count += count

    def write(self, data: bytes | memoryview) -> bool:
        """Write; False, and certainly nothing written, when the connection is over."""
        transport = self._transport
        if self.end is not None or transport is None or transport.is_closing():
            self.abort(Event.CONNECTION_LOST)
            return False
        if data:
            transport.write(data)
        return True

    def write_dot(self, data: bytes) -> bool:
        """Write what ends a message, and what may follow it; False, and certainly nothing written, when it cannot be.

        It goes out when everything else that can be done now has been: what several connections write one right behind
        the other costs the kernel, and a server on the same machine, much less than with something in between.
        """
        if self.end is not None or self._transport is None or self._transport.is_closing():
            self.abort(Event.CONNECTION_LOST)
            return False
        self._unsent, self._stage_before = data, self.stage
        self.stage = Stage.DOT
        self._loop.call_soon(self._send)
        return True

    async def reply(self, timeout: float) -> Reply:
        """Return the next reply; raises Ended when none will come, also because it took too long."""
        if not self._replies:
            deadline = self._loop.time() + timeout
            while not self._replies:
                await self._wait(deadline)
        return self._replies.popleft()

    def take_welcome(self, recipient_count: int) -> bool:
        """Take the answers to MAIL, RCPT and DATA if all of them have come and say yes; otherwise leave them."""
        replies, last = self._replies, recipient_count + 1
        if len(replies) <= last or replies[last].code != GO_ON:
            return False
        for position in range(last):
            if not 200 <= replies[position].code <= 299:
                return False
        for _ in range(last + 1):
            replies.popleft()
        return True

    def take_reply(self) -> Reply | None:
        """Return the next reply if it has come already."""
        return self._replies.popleft() if self._replies else None

    async def drain(self, timeout: float) -> None:
        """Return once there is room for more, or a reply has come early. Raises Ended when neither will be."""
        deadline = self._loop.time() + timeout
        while self._is_paused and not self._replies:
            await self._wait(deadline)

    @property
    def is_quiet(self) -> bool:
        """Say whether nothing has arrived that was not noticed: then `hear` would do nothing."""
        return self.end is not None or self._arrival is None or not self._arrival.has_come()

    async def hear(self) -> None:
        """Let what has arrived already be noticed before the next bytes are written: a line, or the end.

        A late line would otherwise be taken for the answer to the next command, and a dot be written into nothing.
        """
        for _ in range(_MOST_TURNS):
            if self.end is not None or self._arrival is None or not self._arrival.has_come():
                return
            turn = self._loop.create_future()
            self._loop.call_soon(turn.set_result, None)
            await turn

    def abort(self, event: Event) -> None:
        """Close at once, without another byte. Only the first event counts."""
        if self.end is not None:
            return
        self.end = event
        if self._unsent:
            self._unsent, self.stage = b"", self._stage_before
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # No isinstance: the transports of uvloop are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._arrival = Arrival(socket.fileno())

    def data_received(self, data: bytes) -> None:
        """Take replies, as many as are expected and no more."""
        if self.end is not None:
            return
        reader, replies = self._reader, self._replies
        before = len(replies)
        reader.feed(data)
        wanted = before
        while wanted < len(replies) and self._expected_count:
            # 354 asks for the message, and the answer to that is one reply more; it may come before the dot.
            self._expected_count -= replies[wanted].code != GO_ON
            wanted += 1
        if wanted < len(replies):
            while wanted < len(replies):
                self.last_words = str(replies.pop())
            self.abort(Event.UNSOLICITED)
        elif reader.garbage:
            self.last_words = reader.garbage
            self.abort(Event.GARBAGE if self._expected_count else Event.UNSOLICITED)
        elif self._expected_count == 0 and reader.unfinished:
            self.last_words = reader.unfinished
            self.abort(Event.UNSOLICITED)
        elif replies:
            self._wake()

    def eof_received(self) -> None:
        """End: a server that stops talking has nothing to answer."""
        self.abort(Event.CONNECTION_LOST)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.abort(Event.CONNECTION_LOST)

    def pause_writing(self) -> None:
        """Stop writing until there is room."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self._is_paused = False
        self._wake()

    def _send(self) -> None:
        if not self._unsent or self._transport is None:
            return
        if self._transport.is_closing():
            self.abort(Event.CONNECTION_LOST)
            return
        data, self._unsent = self._unsent, b""
        self._transport.write(data)
        reached(Window.BETWEEN_DOT_AND_REPLY)

    async def _wait(self, deadline: float) -> None:
        """Return when something happened; raises Ended when the connection is over."""
        if self.end is None:
            self._deadline = deadline
            if self._timer is None or self._timer_time > deadline:
                self._set_timer(deadline)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.end is not None and not self._replies:
            raise Ended(self.end)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_time = self._loop.call_at(when, self._on_timer), when

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self.abort(Event.TIMEOUT)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
