"""How soon a campaign that is due begins, and what waiting costs.

`spread`: 10,000 campaigns with one recipient each are scheduled over a minute. `together`: a hundred more at one
instant. From the instant in the schedule to the MAIL command in the sink, campaign by campaign.

`idle`: time on a core per second of both services with nothing to do over 100,000 old campaigns and 10 million old
deliveries. Each looks into the database about once a second.

The many campaigns are copies, made by SQL, of one that the scheduler stored, and the old ones of one that was sent.
"""

import asyncio
import signal
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from benchmarks.command import Command
from benchmarks.copied_rows import copy_row, spread_id
from benchmarks.goals import Goal
from benchmarks.latencies import distribution
from benchmarks.old_books import make_old
from benchmarks.product import Product, Stuck, running
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from benchmarks.sinks import light_sink
from mailer.clock import SystemClock
from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp

CONNECTIONS = 10
LEAD_SECONDS = 8.0  # from the moment at which everything is stored to the first that is due
PATIENCE_SECONDS = 120.0
SETTLE_SECONDS = 5.0
COLUMNS = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "cpu_ms_scheduler": "scheduler ms/s",
    "cpu_ms_sender": "sender ms/s",
    "rss_mb_scheduler": "MB scheduler",
    "rss_mb_sender": "MB sender",
}
GOALS = (
    Goal("spread.p99_ms", at_most=1000),
    Goal("together.p99_ms", at_most=1000),
    Goal("idle_cpu_ms_per_second.scheduler", at_most=5),
    Goal("idle_cpu_ms_per_second.sender", at_most=5),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows."""

    campaigns: int
    span_seconds: float
    together: int
    old_campaigns: int
    old_deliveries: int
    idle_seconds: float

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        return {
            "spread": lambda: self.due(self.campaigns, self.span_seconds),
            "together": lambda: self.due(self.together, 0),
            "idle": self.idle,
        }

    async def due(self, count: int, span_seconds: float) -> Mapping[str, float]:
        """Measure from due to the first byte of each of so many campaigns."""
        record = Path("data/bench/due.txt")
        record.parent.mkdir(parents=True, exist_ok=True)
        async with light_sink(record) as port, running("due", port, connections=CONNECTIONS) as product:
            due_times = await schedule_many(product, count, span_seconds)
            before = product.usage()
            began = time.monotonic()
            while len(arrived := read_times(record).keys() & due_times.keys()) < count:
                if time.monotonic() - began > LEAD_SECONDS + span_seconds + PATIENCE_SECONDS:
                    raise Stuck(f"{count - len(arrived)} of {count} campaigns have sent nothing")
                await asyncio.sleep(0.5)
            after = product.usage()
            times = read_times(record)
        used = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in after}
        late = [times[address] - due for address, due in due_times.items()]
        return distribution(late) | {f"cpu_us_{name}": value / count * 1e6 for name, value in used.items()}

    async def idle(self) -> Mapping[str, float]:
        """Measure both services with nothing to do."""
        async with light_sink() as port, running("idle", port, warm_up=1) as product:
            await product.finished()
            begun = time.monotonic()
            for name in product.names:
                await product.system.end(name, signal.SIGTERM)
            make_old(product.database, self.old_campaigns, self.old_deliveries)
            print(f"the old database took {time.monotonic() - begun:.0f} s", flush=True)
            for name in product.names:
                await product.system.start(name)
            await asyncio.sleep(SETTLE_SECONDS)
            before, began = product.usage(), time.monotonic()
            await asyncio.sleep(self.idle_seconds)
            after, seconds = product.usage(), time.monotonic() - began
        found = {
            f"cpu_ms_{name}": (after[name].cpu_seconds - before[name].cpu_seconds) / seconds * 1000
            for name in product.names
        }
        return found | {f"rss_mb_{name}": after[name].rss_mb for name in product.names}


async def schedule_many(product: Product, count: int, span_seconds: float) -> dict[str, float]:
    """Schedule campaigns evenly over a span, each with one recipient; return when each is due by its address."""
    clock = SystemClock()
    model = await product.prepare(1)
    far = to_timestamp(clock.now() + timedelta(days=1))
    await product.system.scheduler.ScheduleCampaign(
        scheduler_pb2.ScheduleCampaignRequest(
            request_id=uuid4().hex, campaign_id=model, schedule=scheduler_pb2.Schedule(send_time=far)
        ),
        timeout=10,
    )
    first = clock.now().timestamp() + LEAD_SECONDS
    step = span_seconds / count
    due = f"CAST(({first:.6f} + n * {step:.9f}) * 1000000 AS INTEGER)"
    campaign = spread_id("bbbb")
    address = "'due.' || n || '@post.example'"
    with closing(sqlite3.connect(product.database, timeout=30)) as connection, connection:
        of_model = f"campaign_id = '{model}'"
        copy_row(
            connection,
            "campaigns",
            of_model,
            count,
            replaced={"campaign_id": campaign, "send_time": due, "next_due_time": due},
        )
        copy_row(
            connection,
            "recipients",
            of_model,
            count,
            replaced={"campaign_id": campaign, "address": address, "canonical": address},
        )
    return {f"due.{number}@post.example": first + number * step for number in range(count)}


def read_times(record: Path) -> dict[str, float]:
    """Return when the first message to each address came."""
    times: dict[str, float] = {}
    for line in record.read_text(encoding="latin-1").splitlines():
        when, _, address = line.partition(" ")
        times.setdefault(address, float(when))
    return times


def summarise(series: Mapping[str, Series], bench: Bench) -> dict[str, object]:
    """Return the figures of the last line."""
    found: dict[str, object] = {"campaigns": bench.campaigns, "span_seconds": bench.span_seconds}
    for name in ("spread", "together"):
        if name in series:
            found[name] = {key: series[name][key].median for key in ("p50_ms", "p99_ms", "max_ms")}
    if "idle" in series:
        found |= {
            "old_campaigns": bench.old_campaigns,
            "old_deliveries": bench.old_deliveries,
            "idle_cpu_ms_per_second": {
                name: round(series["idle"][f"cpu_ms_{name}"].median, 2) for name in ("scheduler", "sender")
            },
        }
    return found


def main() -> None:
    """Run from the command line."""
    command = Command("due", __doc__, rounds=1)
    add = command.parser.add_argument
    add("--campaigns", type=int, default=10_000, help="campaigns that are due one after the other")
    add("--span", type=float, default=60.0, help="seconds over which they are due")
    add("--together", type=int, default=100, help="campaigns that are due at one instant")
    add("--old-campaigns", type=int, default=100_000)
    add("--old-deliveries", type=int, default=10_000_000, help="4 GB of disk; fewer are made sooner")
    add("--idle", type=float, default=20.0, help="seconds of idleness that are measured")
    options = command.parse()
    bench = Bench(
        options.campaigns, options.span, options.together, options.old_campaigns, options.old_deliveries, options.idle
    )
    series = command.measure(bench.rows())
    conclude(
        "due",
        title=f"{bench.campaigns:,} campaigns over {bench.span_seconds:.0f} s, and {bench.together} at one instant",
        unit="milliseconds from due to the first byte, 99 of 100",
        key="p99_ms",
        series=series,
        columns=COLUMNS,
        summary=summarise(series, bench),
        goals=GOALS,
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
