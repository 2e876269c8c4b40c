"""The servers that everybody sends to: Postfix's smtp-sink, or our light one."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.peers import Postfix
from benchmarks.programs import listening
from demo.system import free_ports


@asynccontextmanager
async def smtp_sink(postfix: Postfix) -> AsyncIterator[int]:
    """Run smtp-sink; gives its port."""
    (port,) = free_ports(1)
    # It refuses to stay root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command: list[str | Path] = [postfix.sink.absolute(), *user, f"127.0.0.1:{port}", "1024"]
    async with listening(*command, port=port, environment=postfix.environment):
        yield port


@asynccontextmanager
async def light_sink(record: Path | None = None) -> AsyncIterator[int]:
    """Run our own sink; gives its port. With a file it writes down when each message came."""
    (port,) = free_ports(1)
    file = [str(record)] if record else []
    async with listening(sys.executable, "-m", "benchmarks.light_sink", str(port), *file, port=port):
        yield port


async def count_at(port: int) -> int:
    """Return how many messages our own sink has taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b"XCOUNT\r\n")
    answer = await reader.readline()
    writer.close()
    return int(answer.split()[1])
