"""Processes that write and read through the layer that the services use, until they are told to end."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

from sqlalchemy import Connection

from chaos.backup.diary import Looked, Pen, Written
from chaos.backup.tables import is_mixed, write
from mailer.clock import SystemClock
from mailer.database import Database, DatabaseUnavailable
from mailer.database.engine import driver
from mailer.log import configure

PAUSE_SECONDS = 0.015
LOOKS_A_LINE = 10

Act = Callable[[Database, str, Pen, asyncio.Event], Awaitable[None]]


def diary_of(directory: Path, name: str) -> Path:
    """Return where a writer or reader keeps its diary."""
    return directory / "diaries" / f"{name}.jsonl"


def writer() -> int:
    """Write until a signal ends the process: what is acknowledged is in the diary already."""
    asyncio.run(_work(_write))
    return 0


def reader() -> int:
    """Read until a signal ends the process."""
    asyncio.run(_work(_read))
    return 0


async def _work(act: Act) -> None:
    name, directory = os.environ["CHAOS_NAME"], Path(os.environ["MAILER_DATA_DIR"])
    configure(service=name, level="error", log_format="json")
    database = await Database.open(f"sqlite:///{directory / 'mailer.db'}", clock=SystemClock())
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await act(database, name, Pen(diary_of(directory, name)), told)
    await database.close()


async def _write(database: Database, name: str, pen: Pen, told: asyncio.Event) -> None:
    number = 0
    while not told.is_set():
        began = monotonic()
        try:
            era = await database.write(_write_one, name, number)
        except DatabaseUnavailable:
            pass  # nothing was done: the same again
        else:
            pen.write(Written(number, era, began, monotonic()))
            number += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def _read(database: Database, _name: str, pen: Pen, told: asyncio.Event) -> None:
    looks = mixed = 0
    while not told.is_set():
        try:
            mixed += await database.read(_look)
            looks += 1
        except DatabaseUnavailable:
            pass
        if looks >= LOOKS_A_LINE or mixed:
            pen.write(Looked(looks, mixed))
            looks = mixed = 0
        await asyncio.sleep(PAUSE_SECONDS)
    pen.write(Looked(looks, mixed))


def _write_one(connection: Connection, name: str, number: int) -> str:
    return write(driver(connection), name, number)


def _look(connection: Connection) -> bool:
    return is_mixed(driver(connection))
