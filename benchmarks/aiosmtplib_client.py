"""`python -m benchmarks.aiosmtplib_client PORT CONNECTIONS MESSAGES WARM_UP`: prebuilt messages through aiosmtplib.

The last line is a JSON object: seconds, cpu_seconds, peak_rss_mb.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator

import uvloop
from aiosmtplib import SMTP

from benchmarks.content import FROM, address_of, prebuilt


async def main(port: int, connections: int, messages: int, warm_up: int) -> None:
    """Send, and print what it took."""
    ready = [(address_of(number), prebuilt(number)) for number in range(warm_up + messages)]
    clients = [SMTP(hostname="127.0.0.1", port=port, start_tls=False, use_tls=False) for _ in range(connections)]
    for client in clients:
        await client.connect()
    waiting = iter(ready[:warm_up])
    await asyncio.gather(*(send(client, waiting) for client in clients))
    waiting = iter(ready[warm_up:])
    before, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(send(client, waiting) for client in clients))
    seconds, used = time.perf_counter() - began, time.process_time() - before
    for client in clients:
        client.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_rss_mb": peak}))


async def send(client: SMTP, waiting: Iterator[tuple[str, bytes]]) -> None:
    """Send what waits over one connection."""
    for address, message in waiting:
        await client.sendmail(FROM, [address], message)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
