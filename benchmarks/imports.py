"""How long it takes to bring data in: a list of 100,000 by stream, and batches of 500 to the sender.

The list goes through `AddRecipients`, 500 to a message, with three variables each; counted from the first message to
the answer. `SendBatch` is called one at a time against a sender without an account, so that it only stores.
"""

import time
from collections.abc import Mapping
from uuid import uuid4

from benchmarks.command import Command
from benchmarks.content import CONTENT
from benchmarks.goals import Goal
from benchmarks.latencies import distribution
from benchmarks.product import Product, add_recipient, running
from benchmarks.report import conclude
from benchmarks.rounds import Row, Series
from mailer.v1 import sender_pb2

BATCH = 500
BATCHES_PER_RUN = 50
COLUMNS = {
    "seconds": "seconds",
    "recipients_per_second": "recipients/s",
    "cpu_us_scheduler": "scheduler us/recipient",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "cpu_us_sender": "sender us/message",
}
GOALS = (Goal("stream_seconds", at_most=5), Goal("send_batch_p50_ms", at_most=15))


def rows(recipients: int, batches: int) -> dict[str, Row]:
    """Return all rows by name."""

    async def stream() -> Mapping[str, float]:
        async with running("import") as product:
            await product.prepare(BATCH)
            before, began = product.usage(), time.perf_counter()
            await product.prepare(recipients)
            seconds, after = time.perf_counter() - began, product.usage()
        used = after["scheduler"].cpu_seconds - before["scheduler"].cpu_seconds
        return {
            "seconds": seconds,
            "recipients_per_second": recipients / seconds,
            "cpu_us_scheduler": used / recipients * 1e6,
            "peak_rss_mb_scheduler": after["scheduler"].peak_rss_mb,
        }

    async def send_batch() -> Mapping[str, float]:
        async with running("import") as product:
            await store(product, 5)
            before = product.usage()["sender"].cpu_seconds
            taken = await store(product, batches)
            used = product.usage()["sender"].cpu_seconds - before
        return {**distribution(taken), "cpu_us_sender": used / (batches * BATCH) * 1e6}

    return {"AddRecipients": stream, "SendBatch": send_batch}


async def store(product: Product, batches: int) -> list[float]:
    """Call SendBatch so often, and return the seconds of each call."""
    taken = []
    run_id = ""
    for batch in range(batches):
        if batch % BATCHES_PER_RUN == 0:
            run_id = uuid4().hex
        request = sender_pb2.SendBatchRequest(request_id=uuid4().hex, run_id=run_id, content=CONTENT)
        for number in range(batch * BATCH, (batch + 1) * BATCH):
            add_recipient(request.recipients.add(), number)
        began = time.perf_counter()
        answer = await product.system.sender.SendBatch(request, timeout=30)
        taken.append(time.perf_counter() - began)
        assert answer.accepted_count == BATCH
    return taken


def summarise(series: Mapping[str, Series], recipients: int) -> dict[str, object]:
    """Return the figures of the last line."""
    found: dict[str, object] = {"recipients": recipients}
    if "AddRecipients" in series:
        found["stream_seconds"] = round(series["AddRecipients"]["seconds"].median, 2)
        found["peak_rss_mb_scheduler"] = series["AddRecipients"]["peak_rss_mb_scheduler"].highest
    if "SendBatch" in series:
        found |= {
            f"send_batch_{key}": round(series["SendBatch"][key].median, 2) for key in ("p50_ms", "p99_ms", "max_ms")
        }
    return found


def main() -> None:
    """Run from the command line."""
    command = Command("imports", __doc__)
    command.parser.add_argument("--recipients", type=int, default=100_000, help="recipients of the stream")
    command.parser.add_argument("--batches", type=int, default=200, help="calls of SendBatch per round")
    options = command.parse()
    series = command.measure(rows(options.recipients, options.batches))
    conclude(
        "import",
        title=f"{options.recipients:,} recipients by stream",
        unit="seconds",
        key="seconds",
        series=series,
        columns=COLUMNS,
        summary=summarise(series, options.recipients),
        goals=GOALS,
        keep=options.keep,
    )


if __name__ == "__main__":
    main()
