"""How many messages a second, end to end, beside what others do.

10,000 distinct messages of about 2 KB over 10 connections into Postfix's smtp-sink. Ours is the whole product: from the
call that starts the campaign (stored before, as are its recipients) over the scheduler, gRPC, storing, claiming,
rendering, the SMTP conversation, to the commit that books the last message as sent; SQLite with `synchronous=FULL`.
The two-sender rows go into a light sink of our own, since smtp-sink would be the limit.
"""

import argparse
import asyncio
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
from benchmarks.product import AT_LEAST_ONCE, AT_MOST_ONCE, WARM_UP_MESSAGES, WORKROOM, Policy, running
from benchmarks.profile import profiled
from benchmarks.programs import ProgramFailed, figures_of, start
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series, interleave
from benchmarks.sinks import count_at, light_sink, smtp_sink

CLIENT = Path(__file__).with_name("nodemailer_client.cjs")
CONNECTIONS = 10
ROWS_PER_COMMIT = 100
COLUMNS = {
    "rate": "messages/s",
    "cpu_us": "CPU us/message",
    "cpu_us_scheduler": "scheduler",
    "cpu_us_sender": "sender",
    "peak_rss_mb_scheduler": "MB scheduler",
    "peak_rss_mb_sender": "MB sender",
    "peak_rss_mb": "MB",
}


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows, each over as many messages."""

    messages: int
    with_profile: bool = False

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        return {
            "ours_at_most_once": lambda: self.ours(AT_MOST_ONCE),
            "ours_at_least_once": lambda: self.ours(AT_LEAST_ONCE),
            "one_sender_light_sink": lambda: self.light(1),
            "two_senders": lambda: self.light(2),
            "nodemailer_sqlite": lambda: self.nodemailer_sqlite(ROWS_PER_COMMIT),
            "nodemailer_sqlite_one_a_commit": lambda: self.nodemailer_sqlite(1),
            "nodemailer_raw": self.nodemailer_raw,
            "aiosmtplib": self.aiosmtplib,
            "smtp_source": self.smtp_source,
        }

    async def ours(self, policy: Policy) -> Mapping[str, float]:
        """Measure the product."""
        async with smtp_sink(await peers.postfix()) as port, running("send", port, connections=CONNECTIONS) as product:
            campaign = await product.prepare(self.messages, policy)
            async with profiled(product.system.process_id("sender"), enabled=self.with_profile):
                sent = await product.send(campaign, self.messages)
        return sent.figures()

    async def light(self, senders: int) -> Mapping[str, float]:
        """Measure the product with one or more sender processes; each has its own connections."""
        async with light_sink() as port, running("send", port, connections=CONNECTIONS, senders=senders) as product:
            campaign = await product.prepare(self.messages)
            sent = await product.send(campaign, self.messages)
            taken = await count_at(port)
        assert taken == self.messages + WARM_UP_MESSAGES, taken
        return sent.figures()

    async def nodemailer_sqlite(self, rows_per_commit: int) -> Mapping[str, float]:
        """Measure nodemailer that reads its recipients from SQLite, renders, builds, and books every message."""
        file = write_database(WORKROOM / "nodemailer" / "deliveries.db", WARM_UP_MESSAGES + self.messages)
        return await self._nodemailer("sqlite", file, str(rows_per_commit))

    async def nodemailer_raw(self) -> Mapping[str, float]:
        """Measure nodemailer that only transports."""
        file = WORKROOM / "nodemailer" / "messages.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        ready = [(address_of(n), prebuilt(n).decode("ascii")) for n in range(WARM_UP_MESSAGES + self.messages)]
        file.write_text(json.dumps({"from": FROM, "messages": ready}), encoding="utf-8")
        return await self._nodemailer("raw", file)

    async def aiosmtplib(self) -> Mapping[str, float]:
        """Measure aiosmtplib that only transports."""
        async with smtp_sink(await peers.postfix()) as port:
            command = [sys.executable, "-m", "benchmarks.aiosmtplib_client"]
            numbers = [port, CONNECTIONS, self.messages, WARM_UP_MESSAGES]
            return self._per_message(await figures_of(*command, *map(str, numbers)))

    async def smtp_source(self) -> Mapping[str, float]:
        """Measure the usual load generator: the same message again and again, no book."""
        tools = await peers.postfix()
        async with smtp_sink(tools) as port:
            size = len(prebuilt(0))
            options = f"-d -s {CONNECTIONS} -m {self.messages} -l {size} -f {FROM} -t {address_of(0)} 127.0.0.1:{port}"
            began = time.perf_counter()
            process = await start(tools.source.absolute(), *options.split(), environment=tools.environment)
            if await process.wait() != 0:
                raise ProgramFailed(f"smtp-source ended with {process.returncode}")
            return {"rate": self.messages / (time.perf_counter() - began)}

    async def _nodemailer(self, mode: str, file: Path, *more: str) -> Mapping[str, float]:
        modules = await peers.node_modules()
        async with smtp_sink(await peers.postfix()) as port:
            numbers = [str(number) for number in (port, CONNECTIONS, self.messages, WARM_UP_MESSAGES)]
            environment = {"NODE_PATH": str(modules)}
            found = await figures_of("node", CLIENT, mode, *numbers, file, *more, environment=environment)
        shutil.rmtree(file.parent)
        return self._per_message(found)

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


def summarise(series: Mapping[str, Series]) -> dict[str, object]:
    """Return the figures of the last line; those of rows that were left out are missing."""
    rates = {name: round(each["rate"].median, 1) for name, each in series.items()}
    found: dict[str, object] = dict(rates)
    for ratio, ours, other in (
        ("ratio_at_most_once", "ours_at_most_once", "nodemailer_sqlite"),
        ("ratio_at_least_once", "ours_at_least_once", "nodemailer_sqlite"),
        ("ratio_two_senders", "two_senders", "one_sender_light_sink"),
        ("ratio_to_smtp_source", "ours_at_most_once", "smtp_source"),
    ):
        if ours in rates and other in rates:
            found[ratio] = round(rates[ours] / rates[other], 3)
    if {"two_senders", "one_sender_light_sink"} <= series.keys():
        one, two = series["one_sender_light_sink"]["cpu_us"], series["two_senders"]["cpu_us"]
        found["ratio_two_senders_cpu"] = round(two.median / one.median, 3)
    found["cpu_us"] = {name: round(each["cpu_us"].median, 1) for name, each in series.items() if "cpu_us" in each}
    if "ours_at_most_once" in series:
        ours_series = series["ours_at_most_once"]
        found["peak_rss_mb"] = {name: ours_series[f"peak_rss_mb_{name}"].highest for name in ("scheduler", "sender")}
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.send", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--messages", type=int, default=10_000, help="messages per row and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows, separated by commas; nothing is kept then")
    parser.add_argument("--profile", action="store_true", help="show where the sender spends its time (needs py-spy)")
    options = parser.parse_args()
    rows = Bench(options.messages, options.profile).rows()
    only = [name for name in options.only.split(",") if name]
    if unknown := set(only) - rows.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    try:
        series = asyncio.run(interleave({name: rows[name] for name in only or rows}, options.rounds))
    except peers.PeerMissing as missing:
        sys.exit(f"The benchmark did not finish: {missing}.")
    conclude(
        "send",
        title=f"{options.messages:,} messages of {len(prebuilt(0)) / 1000:.1f} KB over {CONNECTIONS} connections",
        unit="messages per second, end to end",
        key="rate",
        series=series,
        columns=COLUMNS,
        summary=summarise(series),
        is_whole=not only and not options.profile,
    )


if __name__ == "__main__":
    main()
