"""What happens when a campaign is due: one run per slot, in one transaction."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from services.scheduler import campaigns, runs
from services.scheduler.campaign_states import CampaignState, RunState, campaign_state
from services.scheduler.campaigns import Campaign
from services.scheduler.content import LEAST_BATCH_BYTES, MOST_MESSAGE_BYTES
from services.scheduler.runs import Run, run_id_of


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much goes into one SendBatch: recipients, and their bytes."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Fired:
    """A campaign that was due, and what came of it."""

    campaign_id: str
    run_id: str
    slot_time: datetime
    state: RunState


def fire(connection: Connection, campaign_id: str, now: datetime, limits: BatchLimits) -> Fired | None:
    """Begin the run of a campaign that is due; None when it is not (any more).

    A slot too long ago gives a run that is MISSED. A slot that has a run already (restored snapshots bring
    campaigns back as they were before) fires nothing: the campaign stands where that run stands. Raises
    FailedPrecondition when there is nothing to send.
    """
    campaign = campaigns.existing(connection, campaign_id)
    due, schedule = campaign.next_due_time, campaign.schedule
    if campaign.state is not CampaignState.SCHEDULED or due is None or schedule is None or due > now:
        return None
    slot = schedule.slot_to_fire(due, now)
    run = runs.find(connection, run_id_of(campaign_id, slot))
    if run is None:
        run, content = _new_run(connection, campaign, slot, now, limits)
        if schedule.is_missed(slot, now):
            run = missed(run, slot)
        runs.create(connection, run, content)
    campaigns.store(
        connection,
        replace(
            campaign,
            state=campaign_state(run.state, recurring=campaign.is_recurring),
            state_reason=run.state_reason,
            next_due_time=schedule.next_slot(slot),
            latest_run_id=run.run_id,
            update_time=now,
        ),
    )
    return Fired(campaign_id, run.run_id, slot, run.state)


def begin_missed(connection: Connection, run: Run, now: datetime, limits: BatchLimits) -> Run:
    """Start a run that was missed: now, under its own slot, with the content and recipients of today."""
    campaign = campaigns.existing(connection, run.campaign_id)
    fresh, content = _new_run(connection, campaign, run.slot_time, now, limits)
    fresh = replace(fresh, revision=run.revision + 1)
    runs.replace(connection, fresh, content)
    return fresh


def missed(run: Run, slot: datetime) -> Run:
    """Return a run that does not start by itself."""
    reason = (
        f"was due at {slot:%Y-%m-%d %H:%M} UTC, too long ago to start by itself: resume it to send now, or cancel it"
    )
    return replace(run, state=RunState.MISSED, state_reason=reason, start_time=None)


def _new_run(
    connection: Connection, campaign: Campaign, slot: datetime, now: datetime, limits: BatchLimits
) -> tuple[Run, bytes]:
    source = campaigns.source_of(connection, campaign)
    room = MOST_MESSAGE_BYTES - len(source.content) - len(campaign.options)
    run = Run(
        run_id=run_id_of(campaign.campaign_id, slot),
        campaign_id=campaign.campaign_id,
        slot_time=slot,
        state=RunState.DISPATCHING,
        state_reason="",
        options=campaign.options,
        batch_count_limit=limits.count,
        batch_byte_limit=max(LEAST_BATCH_BYTES, min(limits.bytes, room)),
        recipient_count=campaign.recipient_count,
        cursor=0,
        dispatched_count=0,
        rejected_count=0,
        handed_over=False,
        wanted=runs.ACTIVE,
        told=runs.ACTIVE,
        counts=b"",
        revision=1,
        start_time=now,
        end_time=None,
    )
    return run, source.content
