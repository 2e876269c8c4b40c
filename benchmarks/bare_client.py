"""`python -m benchmarks.bare_client PORT CONNECTIONS MESSAGES WARM_UP`: what the wire and the sink allow, and no more.

Prebuilt messages in one round trip each: the body of one goes out together with MAIL, RCPT and DATA of the next. No
reply is judged and nothing is booked. The last line is a JSON object: seconds, cpu_seconds, peak_rss_mb.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator

import uvloop

from benchmarks.content import FROM, address_of, prebuilt

_END = b"\r\n.\r\n"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the streams."""
        self._reader = reader
        self._writer = writer

    async def greet(self) -> None:
        """Hear the greeting, and say EHLO."""
        await self._reader.readuntil(b"\r\n")
        self._writer.write(b"EHLO bare.example\r\n")
        while (await self._reader.readuntil(b"\r\n"))[3:4] == b"-":
            pass

    async def send(self, waiting: Iterator[tuple[bytes, bytes]]) -> None:
        """Send what waits."""
        one = next(waiting, None)
        if one is None:
            return
        self._writer.write(one[0])
        await self._until(b"354")
        while one is not None:
            _, body = one
            one = next(waiting, None)
            self._writer.write(body + one[0] if one else body)
            await self._until(b"354" if one else b"250")

    async def _until(self, code: bytes) -> None:
        line = b""
        while not line.startswith(code):
            line = await self._reader.readuntil(b"\r\n")
            if line[:1] not in b"23":
                raise RuntimeError(line)


async def main(port: int, connections: int, messages: int, warm_up: int) -> None:
    """Send, and print what it took."""
    ready = [
        (f"MAIL FROM:<{FROM}>\r\nRCPT TO:<{address_of(number)}>\r\nDATA\r\n".encode(), prebuilt(number) + _END)
        for number in range(warm_up + messages)
    ]
    clients = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(connections)]
    await asyncio.gather(*(client.greet() for client in clients))
    waiting = iter(ready[:warm_up])
    await asyncio.gather(*(client.send(waiting) for client in clients))
    waiting = iter(ready[warm_up:])
    before, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client.send(waiting) for client in clients))
    seconds, used = time.perf_counter() - began, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_rss_mb": peak}))


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
