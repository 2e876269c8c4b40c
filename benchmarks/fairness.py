"""How long a small run takes behind a big one: a hundred recipients, started while a large campaign is under way.

Both go through the same account with 10 connections into the light sink; counted from the call that starts the small
campaign to the commit that books its last message. The large one is never finished.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.command import Command, run
from benchmarks.goals import Goal
from benchmarks.product import Stuck, running
from benchmarks.report import conclude
from benchmarks.rounds import Series, Spread
from benchmarks.sinks import light_sink

CONNECTIONS = 10
SMALL = 100
UNDER_WAY = 1_000
COLUMNS = {"seconds": "seconds", "booked_before": "booked of the large one before"}
GOALS = (Goal("worst_seconds", at_most=5),)


@dataclass(frozen=True, slots=True)
class Bench:
    """A large campaign, and small ones behind it, one after the other."""

    recipients: int
    times: int

    async def measure(self) -> dict[str, Series]:
        """Return how long each small one took. Raises Stuck when the large one had ended before the last of them."""
        figures: list[Mapping[str, float]] = []
        async with light_sink() as port, running("fairness", port, connections=CONNECTIONS) as product:
            small = [await product.prepare(SMALL) for _ in range(self.times)]
            large = await product.prepare(self.recipients)
            print(f"a run of {self.recipients:,} is prepared", flush=True)
            await product.start(large)
            await product.booked(large, UNDER_WAY)
            for campaign in small:
                before = product.count_booked(large)
                sent = await product.send(campaign, SMALL)
                figures.append({"seconds": sent.seconds, "booked_before": before})
                print(
                    f"a run of {SMALL} took {sent.seconds:.2f} s, {before:,} of the large one had been sent", flush=True
                )
            if product.count_booked(large) >= self.recipients:
                raise Stuck("the large run ended too early to be in the way: give it more --recipients")
        return {"small": {key: Spread(tuple(one[key] for one in figures)) for key in figures[0]}}


def main() -> None:
    """Run from the command line."""
    command = Command("fairness", __doc__, rounds=None)
    command.parser.add_argument("--recipients", type=int, default=200_000, help="recipients of the large campaign")
    command.parser.add_argument("--times", type=int, default=5, help="small campaigns, one after the other")
    options = command.parse()
    series = run(Bench(options.recipients, options.times).measure())
    seconds = series["small"]["seconds"]
    conclude(
        "fairness",
        title=f"A run of {SMALL} started behind a run of {options.recipients:,}",
        unit="seconds to its last message",
        key="seconds",
        series=series,
        columns=COLUMNS,
        goals=GOALS,
        keep=options.keep,
        summary={
            "recipients": options.recipients,
            "seconds": round(seconds.median, 3),
            "worst_seconds": round(seconds.highest, 3),
        },
    )


if __name__ == "__main__":
    main()
