"""`python -m benchmarks.delay_proxy PORT TARGET_PORT MILLISECONDS`: a long wire on loopback.

Every byte arrives so many milliseconds later, in each direction, in order; the wire is as wide as anybody likes.
"""

import asyncio
import signal
import sys
from collections import deque
from typing import cast

import uvloop

_EARLY = 0.0005  # timers have steps of a millisecond


class End(asyncio.Protocol):
    """One end of a wire: what it hears comes out at the other end after the delay."""

    def __init__(self, delay: float) -> None:
        """Be connected to nothing yet."""
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._on_their_way: deque[tuple[float, bytes]] = deque()  # when each arrives; an empty one is the end
        self._transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write what came before."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of asyncio's
        self._arrive()

    def data_received(self, data: bytes) -> None:
        """Send it along the wire."""
        assert self.other is not None
        self.other.expect(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the other end closes in any case)
        """Let the other end close when everything has arrived."""
        assert self.other is not None
        self.other.expect(b"")

    def expect(self, data: bytes) -> None:
        """Write it in a while."""
        self._on_their_way.append((self._loop.time() + self._delay, data))
        if len(self._on_their_way) == 1:
            self._loop.call_later(self._delay, self._arrive)

    def _arrive(self) -> None:
        if self._transport is None:
            return
        now = self._loop.time()
        while self._on_their_way and self._on_their_way[0][0] <= now + _EARLY:
            _, data = self._on_their_way.popleft()
            if not data:
                self._transport.close()
            elif not self._transport.is_closing():
                self._transport.write(data)
        if self._on_their_way:
            self._loop.call_later(self._on_their_way[0][0] - now, self._arrive)


async def main(port: int, target: int, delay: float) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    dials: set[asyncio.Task[object]] = set()

    def accept() -> End:
        near, far = End(delay), End(delay)
        near.other, far.other = far, near
        dial = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", target))
        dials.add(dial)
        dial.add_done_callback(dials.discard)
        return near

    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(accept, "127.0.0.1", port, backlog=512)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
