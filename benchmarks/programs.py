"""Other people's programs, and small ones of ours, run beside the product: none outlives the benchmark."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

START_SECONDS = 15.0
RUN_SECONDS = 600.0


class ProgramFailed(RuntimeError):
    """A program ended with an error; `str()` has what it said."""


async def start(
    *command: str | Path, environment: Mapping[str, str] | None = None, output: int | None = None
) -> asyncio.subprocess.Process:
    """Start a program that ends with us."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.child",
        str(os.getpid()),
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=inherited | dict(environment or {}),
    )


@asynccontextmanager
async def listening(
    *command: str | Path, port: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server, from when it takes connections on the port until it is ended."""
    process = await start(*command, environment=environment)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _takes_connections(port):
                if process.returncode is not None:
                    raise ProgramFailed(f"{Path(command[0]).name} ended at its start with {process.returncode}")
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def figures_of(*command: str | Path, environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run a program to its end, and return the JSON object of its last line. Raises ProgramFailed."""
    process = await start(*command, environment=environment, output=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(RUN_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.decode(errors="replace").strip().splitlines()
    if process.returncode != 0 or not lines:
        raise ProgramFailed(f"{Path(command[0]).name} ended with {process.returncode}: {' | '.join(lines[-5:])}")
    return cast("dict[str, float]", json.loads(lines[-1]))


async def _takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
