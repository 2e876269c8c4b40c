"""Whether a message costs more in a large campaign than in a small one, and whether memory grows with it.

The same work with 10,000 and with 1,000,000 recipients, each over a database of its own, into the light sink over 10
connections; counted as in `benchmarks.send`. The recipients come in by stream, which is timed as well. Memory of both
processes is read once a second while the large campaign is under way.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.command import Command, run
from benchmarks.goals import Goal
from benchmarks.product import Product, running
from benchmarks.report import conclude
from benchmarks.rounds import Series, interleave
from benchmarks.sinks import light_sink

CONNECTIONS = 10
SMALL = 10_000
SMALL_ROUNDS = 3
COLUMNS = {
    "wall_us": "us/message",
    "cpu_us": "CPU us/message",
    "cpu_us_scheduler": "scheduler",
    "cpu_us_sender": "sender",
    "import_seconds": "import s",
    "peak_rss_mb_scheduler": "peak MB scheduler",
    "peak_rss_mb_sender": "peak MB sender",
}
GOALS = (
    Goal("ratio_wall", at_most=1.2),
    Goal("ratio_cpu", at_most=1.2),
    Goal("peak_rss_mb.sender", at_most=200),
    Goal("peak_rss_mb.scheduler", at_most=150),
)


@dataclass(slots=True)
class Bench:
    """The two campaigns; `memory` has the megabytes of both processes, second by second, of the large one."""

    memory: dict[str, list[float]] = field(default_factory=dict)

    async def measure(self, recipients: int, budget_seconds: float) -> tuple[int, dict[str, Series]]:
        """Measure the small one and the large one; return the size of the latter, and the figures of both.

        With a budget the large one is as large as it can be in that time, by the pace of the small one.
        """
        series = await interleave({"small": lambda: self.campaign(SMALL)}, SMALL_ROUNDS)
        if budget_seconds:
            pace = series["small"]["wall_us"].median + series["small"]["import_seconds"].median / SMALL * 1e6
            recipients = min(recipients, max(int(budget_seconds / pace * 1e6) // 10_000 * 10_000, SMALL))
            print(f"{recipients:,} recipients are what fits into {budget_seconds:.0f} s", flush=True)
        series |= await interleave({"large": lambda: self.campaign(recipients, watched=True)}, 1)
        return recipients, series

    async def campaign(self, count: int, *, watched: bool = False) -> Mapping[str, float]:
        """Measure one campaign."""
        async with light_sink() as port, running("growth", port, connections=CONNECTIONS) as product:
            began = time.perf_counter()
            campaign = await product.prepare(count)
            import_seconds = time.perf_counter() - began
            watch = asyncio.create_task(self._watch(product)) if watched else None
            sent = await product.send(campaign, count)
            if watch is not None:
                watch.cancel()
                with suppress(asyncio.CancelledError):
                    await watch
        return {**sent.figures(), "wall_us": 1e6 / sent.rate, "import_seconds": import_seconds}

    async def _watch(self, product: Product) -> None:
        while True:
            for name, usage in product.usage().items():
                self.memory.setdefault(name, []).append(usage.rss_mb)
            await asyncio.sleep(1)


def main() -> None:
    """Run from the command line."""
    command = Command("growth", __doc__, rounds=None)
    add = command.parser.add_argument
    add("--recipients", type=int, default=1_000_000, help="recipients of the large campaign")
    add("--budget", type=float, default=0.0, help="seconds that it may take: it is made smaller to fit; 0 is no limit")
    options = command.parse()
    bench = Bench()
    recipients, series = run(bench.measure(options.recipients, options.budget))
    small, large = series["small"], series["large"]
    conclude(
        "growth",
        title=f"A campaign with {SMALL:,} recipients and one with {recipients:,}",
        unit="microseconds on a core per message",
        key="cpu_us",
        series=series,
        columns=COLUMNS,
        goals=GOALS,
        keep=options.keep,
        summary={
            "recipients": recipients,
            "ratio_wall": round(large["wall_us"].median / small["wall_us"].median, 3),
            "ratio_cpu": round(large["cpu_us"].median / small["cpu_us"].median, 3),
            "import_seconds": round(large["import_seconds"].median, 1),
            "seconds": round(large["wall_us"].median * recipients / 1e6, 1),
            "peak_rss_mb": {name: large[f"peak_rss_mb_{name}"].median for name in bench.memory},
            "rss_mb_by_tenths": {name: tenths(values) for name, values in bench.memory.items()},
        },
    )


def tenths(values: list[float]) -> list[float]:
    """Return eleven values from the first to the last, evenly spaced."""
    return [values[(len(values) - 1) * part // 10] for part in range(11)]


if __name__ == "__main__":
    main()
