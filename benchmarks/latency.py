"""How many messages a second over a long wire: 20 ms for a round trip, 50 connections.

A proxy on loopback delays every byte by 10 ms in each direction; behind it is the light sink. Ours is the whole
product, counted as in `benchmarks.send`; nodemailer only transports prebuilt messages. The limit is a bare client of
ours that needs one round trip per message and does nothing else.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.clients import Clients
from benchmarks.command import Command
from benchmarks.goals import Goal
from benchmarks.product import AT_LEAST_ONCE, AT_MOST_ONCE, Policy, running
from benchmarks.programs import listening
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from benchmarks.sinks import light_sink
from demo.system import free_ports

CONNECTIONS = 50
ONE_WAY_MILLISECONDS = 10
COLUMNS = {"rate": "messages/s", "cpu_us": "CPU us/message", "cpu_us_sender": "sender"}
GOALS = (
    Goal("ratio_at_most_once", at_least=1.8),
    Goal("ratio_at_least_once", at_least=1.8),
    Goal("of_limit_at_most_once", at_least=0.9),
    Goal("of_limit_at_least_once", at_least=0.9),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows, each over as many messages."""

    messages: int

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        clients = Clients(self.messages, CONNECTIONS)
        return {
            "ours_at_most_once": lambda: self.ours(AT_MOST_ONCE),
            "ours_at_least_once": lambda: self.ours(AT_LEAST_ONCE),
            "nodemailer": over_a_long_wire(clients.nodemailer_raw),
            "limit_one_round_trip": over_a_long_wire(clients.bare),
        }

    async def ours(self, policy: Policy) -> Mapping[str, float]:
        """Measure the product."""
        async with long_wire() as port, running("latency", port, connections=CONNECTIONS) as product:
            sent = await product.send(await product.prepare(self.messages, policy), self.messages)
        return sent.figures()


@asynccontextmanager
async def long_wire() -> AsyncIterator[int]:
    """Run a sink far away; gives the port that leads there."""
    (port,) = free_ports(1)
    async with light_sink() as target:
        numbers = [str(port), str(target), str(ONE_WAY_MILLISECONDS)]
        async with listening(sys.executable, "-m", "benchmarks.delay_proxy", *numbers, port=port):
            yield port


def over_a_long_wire(client: Callable[[int], Awaitable[Mapping[str, float]]]) -> Row:
    """Return a row that runs a client against a sink far away."""

    async def row() -> Mapping[str, float]:
        async with long_wire() as port:
            return await client(port)

    return row


def summarise(series: Mapping[str, Series]) -> dict[str, object]:
    """Return the figures of the last line; those of rows that were left out are missing."""
    rates = {name: round(each["rate"].median, 1) for name, each in series.items()}
    found: dict[str, object] = dict(rates)
    for policy in ("at_most_once", "at_least_once"):
        for other, name in (("nodemailer", "ratio"), ("limit_one_round_trip", "of_limit")):
            if f"ours_{policy}" in rates and other in rates:
                found[f"{name}_{policy}"] = round(rates[f"ours_{policy}"] / rates[other], 3)
    return found


def main() -> None:
    """Run from the command line."""
    command = Command("latency", __doc__)
    command.parser.add_argument("--messages", type=int, default=5_000, help="messages per row and round")
    options = command.parse()
    series = command.measure(Bench(options.messages).rows())
    conclude(
        "latency",
        title=f"{2 * ONE_WAY_MILLISECONDS} ms for a round trip, {CONNECTIONS} connections",
        unit="messages per second, end to end",
        key="rate",
        series=series,
        columns=COLUMNS,
        summary=summarise(series),
        goals=GOALS,
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
