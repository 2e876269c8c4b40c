"""How campaigns and their runs look in a terminal."""

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import RenderableType
from rich.text import Text

from mailer.cli.output import Column, Output, state
from mailer.cli.template_view import content_fields
from mailer.cli.words import enum_word, instant, instant_here_and_there, span
from mailer.v1 import scheduler_pb2, sender_pb2

NO_CAMPAIGN = "There is no campaign. Create one: mailer campaign create --name ... --template t.html --subject ..."

# Field of DeliveryCounts to the word for it, in the order in which people ask.
COUNTS = (
    ("sent_count", "sent"),
    ("deferred_count", "deferred"),
    ("failed_count", "failed"),
    ("unknown_count", "unknown"),
    ("expired_count", "expired"),
    ("suppressed_count", "suppressed"),
    ("cancelled_count", "cancelled"),
    ("in_progress_count", "in progress"),
    ("pending_count", "pending"),
)


def campaign_state(campaign: scheduler_pb2.Campaign) -> str:
    """Return the word for where the campaign stands."""
    return enum_word(scheduler_pb2.Campaign.State.Name(campaign.state), "STATE_")


def run_state(run: scheduler_pb2.CampaignRun) -> str:
    """Return the word for where the run stands."""
    return enum_word(scheduler_pb2.CampaignRun.State.Name(run.state), "STATE_")


def zone_of(campaign: scheduler_pb2.Campaign) -> ZoneInfo | None:
    """Return the zone that the campaign's times are read in; None is this machine's."""
    try:
        return ZoneInfo(campaign.schedule.time_zone) if campaign.schedule.time_zone else None
    except (ValueError, OSError, KeyError):
        return None


def campaign_table(
    out: Output, campaigns: Iterable[scheduler_pb2.Campaign], *, empty: str = NO_CAMPAIGN
) -> RenderableType | str:
    """Return the list of campaigns."""
    columns = (
        Column("name"),
        Column("state", is_word=True),
        Column("recipients", "right"),
        Column("sent", "right"),
        Column("failed", "right"),
        Column("unknown", "right", optional=True),
        Column("next due", optional=True),
        Column("id", is_id=True),
    )
    rows = (
        (
            one.name,
            state(campaign_state(one)),
            f"{one.recipient_count:,}",
            f"{one.latest_run.counts.sent_count:,}",
            f"{one.latest_run.counts.failed_count:,}",
            f"{one.latest_run.counts.unknown_count:,}",
            instant(one.next_due_time, zone_of(one)),
            one.campaign_id,
        )
        for one in campaigns
    )
    return out.table(columns, rows, empty=empty)


def campaign_details(out: Output, campaign: scheduler_pb2.Campaign, *, zone: ZoneInfo | None = None) -> RenderableType:
    """Return everything about one campaign but its text; `zone` is the one it was just scheduled in."""
    zone = zone or zone_of(campaign)
    run = campaign.latest_run
    of_run = [("run", run.run_id), *run_fields(run)] if run.run_id else []
    content = content_fields(campaign.content) if campaign.WhichOneof("source") == "content" else []
    return out.fields(
        [
            ("name", campaign.name),
            ("id", campaign.campaign_id),
            ("state", state(campaign_state(campaign))),
            ("why", campaign.state_reason),
            ("template", campaign.template_id),
            *content,
            ("needs", ", ".join(campaign.required_variables)),
            ("recipients", f"{campaign.recipient_count:,}"),
            ("duplicates", f"{campaign.duplicate_count:,} left out" if campaign.duplicate_count else ""),
            ("schedule", schedule_text(campaign, zone)),
            ("next due", instant_here_and_there(campaign.next_due_time, zone)),
            ("promise", policy_text(campaign.options.policy)),
            *of_run,
            ("created", instant(campaign.create_time)),
        ]
    )


def run_fields(run: scheduler_pb2.CampaignRun) -> list[tuple[str, str | Text]]:
    """Return how a run stands."""
    return [
        ("run state", state(run_state(run))),
        ("run waits", run.state_reason),
        ("deliveries", counts_text(run.counts)),
        ("handed over", f"{run.dispatched_count:,} of {run.recipient_count:,}"),
        ("not taken", f"{run.rejected_count:,}" if run.rejected_count else ""),
        ("began", instant(run.start_time)),
        ("ended", instant(run.end_time)),
    ]


def run_table(out: Output, runs: Iterable[scheduler_pb2.CampaignRun]) -> RenderableType | str:
    """Return the runs of a campaign."""
    columns = (
        Column("due"),
        Column("state", is_word=True),
        Column("deliveries"),
        Column("began", optional=True),
        Column("ended", optional=True),
        Column("run"),
    )
    rows = (
        (
            instant(run.slot_time),
            state(run_state(run)),
            counts_text(run.counts),
            instant(run.start_time),
            instant(run.end_time),
            run.run_id,
        )
        for run in runs
    )
    return out.table(columns, rows, empty="It has never run. Schedule it: mailer campaign schedule ... --now")


def counts_text(counts: sender_pb2.DeliveryCounts) -> str:
    """Return the counts that are not zero, as in "120 sent, 3 failed"."""
    parts = [f"{getattr(counts, name):,} {word}" for name, word in COUNTS if getattr(counts, name)]
    return ", ".join(parts) or "none yet"


def schedule_text(campaign: scheduler_pb2.Campaign, zone: ZoneInfo | None = None) -> str:
    """Return when it fires, in words."""
    schedule = campaign.schedule
    match schedule.WhichOneof("when"):
        case "cron":
            text = f"{schedule.cron} ({schedule.time_zone})"
        case "send_time":
            text = f"once, at {instant_here_and_there(schedule.send_time, zone)}"
        case _:
            text = ""
    late = span(schedule.max_lateness)
    return f"{text}; if more than {late} late it waits for `mailer campaign resume`" if text and late else text


def policy_text(policy: sender_pb2.DeliveryPolicy.ValueType) -> str:
    """Return what is promised after a crash."""
    return enum_word(sender_pb2.DeliveryPolicy.Name(policy), "DELIVERY_POLICY_")


def due_text(due_times: Sequence[Timestamp], zone: ZoneInfo | None = None) -> str:
    """Return the next firings, one a line."""
    return "\n".join(instant_here_and_there(due, zone) for due in due_times)
