"""What exact books cost: the same campaign with and without intents, waiting and not waiting for the disk.

An intent is on disk before every final dot, and `synchronous=FULL` is what is shipped. Senders of `benchmarks.relaxed`
do without the one or the other. Counted as in `benchmarks.send`, under AT_MOST_ONCE, into the light sink.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.command import Command
from benchmarks.product import AT_MOST_ONCE, running
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from benchmarks.sinks import light_sink

CONNECTIONS = 10
NORMAL = {name: f"benchmarks.relaxed.{name}" for name in ("scheduler", "sender")}
WITHOUT_INTENTS = {"sender": "benchmarks.relaxed.sender_without_intents"}
COLUMNS = {"rate": "messages/s", "cpu_us": "CPU us/message", "cpu_us_scheduler": "scheduler", "cpu_us_sender": "sender"}


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows, each over as many messages."""

    messages: int

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        return {
            "ours": lambda: self.ours({}),
            "without_intents": lambda: self.ours(WITHOUT_INTENTS),
            "normal": lambda: self.ours(NORMAL),
        }

    async def ours(self, modules: Mapping[str, str]) -> Mapping[str, float]:
        """Measure the product, with other modules in the place of some of its own."""
        async with light_sink() as port, running("books", port, connections=CONNECTIONS, modules=modules) as product:
            sent = await product.send(await product.prepare(self.messages, AT_MOST_ONCE), self.messages)
        return sent.figures()


def summarise(series: Mapping[str, Series]) -> dict[str, object]:
    """Return the figures of the last line."""
    rates = {name: round(each["rate"].median, 1) for name, each in series.items()}
    found: dict[str, object] = dict(rates)
    for name, one, other in (
        ("ratio_without_intents", "without_intents", "ours"),
        ("ratio_without_the_disk", "normal", "ours"),
    ):
        if one in rates and other in rates:
            found[name] = round(rates[one] / rates[other], 3)
    return found


def main() -> None:
    """Run from the command line."""
    command = Command("books", __doc__)
    command.parser.add_argument("--messages", type=int, default=10_000, help="messages per row and round")
    options = command.parse()
    series = command.measure(Bench(options.messages).rows())
    conclude(
        "books",
        title=f"{options.messages:,} messages with and without intents, with both settings of synchronous",
        unit="messages per second, end to end",
        key="rate",
        series=series,
        columns=COLUMNS,
        summary=summarise(series),
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
