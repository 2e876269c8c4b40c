"""How many messages a second, end to end, beside what others do.

10,000 distinct messages of about 2 KB over 10 connections into Postfix's smtp-sink. Ours is the whole product: from the
call that starts the campaign (stored before, as are its recipients) over the scheduler, gRPC, storing, claiming,
rendering, the SMTP conversation, to the commit that books the last message as sent; SQLite with `synchronous=FULL`.
The two-sender rows go into a light sink of our own, since smtp-sink would be the limit.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.clients import Clients
from benchmarks.command import Command
from benchmarks.content import prebuilt
from benchmarks.goals import Goal
from benchmarks.product import AT_LEAST_ONCE, AT_MOST_ONCE, WARM_UP_MESSAGES, Policy, running
from benchmarks.profile import profiled
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from benchmarks.sinks import count_at, light_sink, smtp_sink

CONNECTIONS = 10
ROWS_PER_COMMIT = 100
ONE_A_COMMIT = "nodemailer_sqlite_one_a_commit"
COLUMNS = {
    "rate": "messages/s",
    "cpu_us": "CPU us/message",
    "cpu_us_scheduler": "scheduler",
    "cpu_us_sender": "sender",
    "peak_rss_mb_scheduler": "MB scheduler",
    "peak_rss_mb_sender": "MB sender",
    "peak_rss_mb": "MB",
}
GOALS = (
    Goal("ratio_at_most_once", at_least=4),
    Goal("ratio_at_least_once", at_least=4.5),
    Goal("ratio_two_senders", at_least=1.2),
    Goal("ratio_two_senders_cpu", at_most=1.15),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows, each over as many messages."""

    messages: int
    with_profile: bool = False

    def rows(self) -> dict[str, Row]:
        """Return all rows by name."""
        clients = Clients(self.messages, CONNECTIONS)
        return {
            "ours_at_most_once": lambda: self.ours(AT_MOST_ONCE),
            "ours_at_least_once": lambda: self.ours(AT_LEAST_ONCE),
            "one_sender_light_sink": lambda: self.light(1),
            "two_senders": lambda: self.light(2),
            "nodemailer_sqlite": into_smtp_sink(
                lambda port: clients.nodemailer_sqlite(port, rows_per_commit=ROWS_PER_COMMIT)
            ),
            ONE_A_COMMIT: into_smtp_sink(lambda port: clients.nodemailer_sqlite(port, rows_per_commit=1)),
            "nodemailer_raw": into_smtp_sink(clients.nodemailer_raw),
            "aiosmtplib": into_smtp_sink(clients.aiosmtplib),
            "smtp_source": into_smtp_sink(clients.smtp_source),
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


def into_smtp_sink(client: Callable[[int], Awaitable[Mapping[str, float]]]) -> Row:
    """Return a row that runs a client against a fresh smtp-sink."""

    async def row() -> Mapping[str, float]:
        async with smtp_sink(await peers.postfix()) as port:
            return await client(port)

    return row


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
    command = Command("send", __doc__)
    command.parser.add_argument("--messages", type=int, default=10_000, help="messages per row and round")
    command.parser.add_argument("--profile", action="store_true", help="show where the sender spends its time (py-spy)")
    options = command.parse()
    series = command.measure(Bench(options.messages, options.profile).rows(), extra=[ONE_A_COMMIT])
    conclude(
        "send",
        title=f"{options.messages:,} messages of {len(prebuilt(0)) / 1000:.1f} KB over {CONNECTIONS} connections",
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
