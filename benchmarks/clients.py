"""Other clients at the same work: nodemailer with and without a database, aiosmtplib, smtp-source, and a bare one."""

import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.content import FROM, address_of, prebuilt, values_of, write_templates
from benchmarks.product import WARM_UP_MESSAGES, WORKROOM
from benchmarks.programs import ProgramFailed, figures_of, start

NODEMAILER = Path(__file__).with_name("nodemailer_client.cjs")


@dataclass(frozen=True, slots=True)
class Clients:
    """Each sends so many messages over so many connections, after a few that do not count, and tells what it took."""

    messages: int
    connections: int

    async def nodemailer_sqlite(self, port: int, *, rows_per_commit: int) -> Mapping[str, float]:
        """Let nodemailer read its recipients from SQLite, render, build, send, and book every message."""
        file = write_database(WORKROOM / "nodemailer" / "deliveries.db", WARM_UP_MESSAGES + self.messages)
        return await self._nodemailer(port, "sqlite", file, str(rows_per_commit))

    async def nodemailer_raw(self, port: int) -> Mapping[str, float]:
        """Let nodemailer only transport."""
        file = WORKROOM / "nodemailer" / "messages.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        ready = [(address_of(n), prebuilt(n).decode("ascii")) for n in range(WARM_UP_MESSAGES + self.messages)]
        file.write_text(json.dumps({"from": FROM, "messages": ready}), encoding="utf-8")
        return await self._nodemailer(port, "raw", file)

    async def aiosmtplib(self, port: int) -> Mapping[str, float]:
        """Let aiosmtplib only transport."""
        return self._per_message(
            await figures_of(sys.executable, "-m", "benchmarks.aiosmtplib_client", *self._numbers(port))
        )

    async def bare(self, port: int) -> Mapping[str, float]:
        """Find what the wire allows to whoever needs one round trip per message."""
        return self._per_message(await figures_of(sys.executable, "-m", "benchmarks.bare_client", *self._numbers(port)))

    async def smtp_source(self, port: int) -> Mapping[str, float]:
        """Run the usual load generator: the same message again and again, no book."""
        tools = await peers.postfix()
        size = len(prebuilt(0))
        options = f"-d -s {self.connections} -m {self.messages} -l {size} -f {FROM} -t {address_of(0)} 127.0.0.1:{port}"
        began = time.perf_counter()
        process = await start(tools.source.absolute(), *options.split(), environment=tools.environment)
        if await process.wait() != 0:
            raise ProgramFailed(f"smtp-source ended with {process.returncode}")
        return {"rate": self.messages / (time.perf_counter() - began)}

    async def _nodemailer(self, port: int, mode: str, file: Path, *more: str) -> Mapping[str, float]:
        environment = {"NODE_PATH": str(await peers.node_modules())}
        command: list[str | Path] = ["node", NODEMAILER, mode, *self._numbers(port), file, *more]
        found = await figures_of(*command, environment=environment)
        if found["builtin_sqlite"]:
            print("better-sqlite3 could not be loaded: nodemailer books with the SQLite of Node itself")
        shutil.rmtree(file.parent)
        return self._per_message(found)

    def _numbers(self, port: int) -> list[str]:
        return [str(number) for number in (port, self.connections, self.messages, WARM_UP_MESSAGES)]

    def _per_message(self, found: Mapping[str, float]) -> dict[str, float]:
        return {
            "rate": self.messages / found["seconds"],
            "cpu_us": found["cpu_seconds"] / self.messages * 1e6,
            "peak_rss_mb": found["peak_rss_mb"],
        }


def write_database(path: Path, count: int) -> Path:
    """Make the database that nodemailer works from, as an application of its kind would have it."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    templates = path.with_name("content.json")
    write_templates(templates)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("""
            PRAGMA journal_mode = WAL;
            CREATE TABLE content (value TEXT NOT NULL);
            CREATE TABLE deliveries (
                id INTEGER PRIMARY KEY, address TEXT NOT NULL, variables TEXT NOT NULL, state TEXT NOT NULL);
            CREATE INDEX pending ON deliveries (id) WHERE state = 'pending';
            CREATE TABLE send_logs (
                id INTEGER PRIMARY KEY, delivery_id INTEGER NOT NULL, reply TEXT NOT NULL,
                start_time INTEGER NOT NULL, end_time INTEGER NOT NULL);
        """)
        connection.execute("INSERT INTO content VALUES (?)", (templates.read_text(encoding="utf-8"),))
        connection.executemany(
            "INSERT INTO deliveries (address, variables, state) VALUES (?, ?, 'pending')",
            ((address_of(number), json.dumps(values_of(number))) for number in range(count)),
        )
    return path
