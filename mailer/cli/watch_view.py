"""How a campaign under way looks: redrawn in place on a terminal, a line now and then in a pipe."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mailer.cli.account_view import IN_SERVICE, account_reason, account_state
from mailer.cli.campaign_view import COUNTS, campaign_state, run_fields, zone_of
from mailer.cli.output import Output, state
from mailer.cli.words import clock_time, instant, printable, span_words, style_of
from mailer.clock import Clock
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.wire import from_timestamp

_FINAL = ("sent_count", "failed_count", "unknown_count", "expired_count", "suppressed_count", "cancelled_count")
# Always shown, also when zero: what people look for first.
_ALWAYS = {"sent", "deferred", "failed", "unknown"}
_LINE_EVERY = 2.0


@dataclass(slots=True)
class Progress:
    """What is known about the campaign; the newest of each."""

    last: scheduler_pb2.WatchCampaignResponse | None = None
    accounts: tuple[sender_pb2.Account, ...] = ()
    trouble: str = ""
    """Why `last` may be old."""
    accounts_trouble: str = ""


class View(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal in order."""
        ...

    def show(self, progress: Progress) -> None:
        """Show it, now or with the next."""
        ...


class LiveView:
    """Redraws in place on stderr."""

    def __init__(self, out: Output) -> None:
        """Draw on the terminal of stderr."""
        self._live = Live(console=out.stderr, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wipe the drawing; what stays is printed afterwards."""
        self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw it anew."""
        self._live.update(_picture(progress))


class LinesView:
    """Prints a line to stderr when something changed, every two seconds at most."""

    def __init__(self, out: Output, clock: Clock) -> None:
        """Print as time passes."""
        self._out = out
        self._clock = clock
        self._next = float("-inf")
        self._said = ""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to put in order."""

    def show(self, progress: Progress) -> None:
        """Print it, unless it is too soon; a new state is never too soon."""
        if progress.last is None:
            return
        state_line = progress.trouble or campaign_state(progress.last.campaign)
        line = line_of(progress)
        is_new = state_line != self._said
        if is_new or self._clock.monotonic() >= self._next:
            self._out.note(line)
            self._said, self._next = state_line, self._clock.monotonic() + _LINE_EVERY


def line_of(progress: Progress) -> str:
    """Return the progress as one line."""
    assert progress.last is not None
    last, run = progress.last, progress.last.campaign.latest_run
    circuits = [f"{one.name} {account_state(one)}" for one in progress.accounts if account_state(one) != IN_SERVICE]
    parts = [
        campaign_state(last.campaign),
        last.campaign.state_reason,
        f"{_final(run.counts):,} of {run.recipient_count or last.campaign.recipient_count:,}",
        *(f"{getattr(run.counts, name):,} {word}" for name, word in _counts(run.counts)),
        f"{last.sent_per_second:.1f}/s" if last.sent_per_second else "",
        _expected(last),
        ", ".join(circuits),
        progress.trouble,
    ]
    return "  ".join(part for part in parts if part)


def summary(out: Output, last: scheduler_pb2.WatchCampaignResponse) -> RenderableType:
    """Return how it ended."""
    campaign = last.campaign
    run = campaign.latest_run
    took = ""
    if run.HasField("start_time") and run.HasField("end_time"):
        took = span_words(from_timestamp(run.end_time) - from_timestamp(run.start_time))
    hints = [("look at", f"mailer deliveries --run {run.run_id} --state {word}") for word in _worth_a_look(run.counts)]
    return out.fields(
        [
            ("campaign", campaign.name),
            ("state", state(campaign_state(campaign))),
            *run_fields(run),
            ("took", took),
            *hints,
        ]
    )


def _worth_a_look(counts: sender_pb2.DeliveryCounts) -> list[str]:
    return [word for word in ("failed", "unknown", "expired") if getattr(counts, f"{word}_count")]


def _picture(progress: Progress) -> RenderableType:
    if progress.last is None:
        return Text("Connecting ...", style="dim")
    last, campaign = progress.last, progress.last.campaign
    run = campaign.latest_run
    total = run.recipient_count or campaign.recipient_count
    head = Text.assemble((printable(campaign.name), "bold"), "  ", state(campaign_state(campaign)))
    if campaign.state_reason:
        head.append(f"  {printable(campaign.state_reason)}", style="yellow")
    lines: list[RenderableType] = [head]
    if campaign.HasField("next_due_time") and not run.run_id:
        lines.append(Text(f"due {instant(campaign.next_due_time, zone_of(campaign))}"))
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(total, 1), completed=_final(run.counts), width=40),
        Text(f"{_final(run.counts):,} of {total:,}"),
        Text(f"{last.sent_per_second:.1f}/s" if last.sent_per_second else "", style="cyan"),
        Text(_expected(last)),
    )
    lines.append(bar)
    lines.append(
        Text("  ").join(
            Text(f"{getattr(run.counts, name):,} {word}", style=style_of(word) if getattr(run.counts, name) else "dim")
            for name, word in _counts(run.counts)
        )
    )
    lines.append(_accounts(progress))
    if progress.trouble:
        lines.append(Text(progress.trouble, style="yellow"))
    lines.append(Text("Ctrl-C ends the watching; the campaign goes on.", style="dim"))
    return Group(*lines)


def _accounts(progress: Progress) -> RenderableType:
    if progress.accounts_trouble:
        return Text(printable(progress.accounts_trouble), style="yellow")
    grid = Table.grid(padding=(0, 2))
    for one in progress.accounts:
        grid.add_row(
            Text(printable(one.name)),
            state(account_state(one)),
            Text(f"{one.open_connection_count} connections", style="dim"),
            Text(printable(account_reason(one)), style="dim"),
        )
    return grid


def _expected(last: scheduler_pb2.WatchCampaignResponse) -> str:
    return f"expected finish {clock_time(last.expected_finish_time)}" if last.HasField("expected_finish_time") else ""


def _final(counts: sender_pb2.DeliveryCounts) -> int:
    return sum(getattr(counts, name) for name in _FINAL)


def _counts(counts: sender_pb2.DeliveryCounts) -> list[tuple[str, str]]:
    return [(name, word) for name, word in COUNTS if word in _ALWAYS or getattr(counts, name)]
