"""What somebody decides about a campaign, and what follows for its run, in one transaction each."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from mailer.errors import FailedPrecondition
from services.scheduler import campaigns, firing, recipients, runs
from services.scheduler.campaign_states import (
    AT_WORK,
    Action,
    CampaignState,
    RunState,
    campaign_state,
    going_on,
)
from services.scheduler.campaigns import Campaign
from services.scheduler.firing import BatchLimits
from services.scheduler.runs import Run


def pause(connection: Connection, campaign_id: str, reason: str, now: datetime) -> Campaign:
    """Stop a campaign; pausing a paused one changes nothing. Raises NotFound, FailedPrecondition."""
    campaign = campaigns.allowed(connection, campaign_id, Action.PAUSE)
    if campaign.state is CampaignState.PAUSED:
        return campaign
    run = _run_at_work(connection, campaign)
    if run is not None:
        runs.decide(connection, run, RunState.PAUSED, wanted=runs.PAUSED, reason=reason)
    campaigns.set_state(connection, campaign_id, CampaignState.PAUSED, reason=reason, now=now)
    return campaigns.existing(connection, campaign_id)


def resume(connection: Connection, campaign_id: str, now: datetime, limits: BatchLimits) -> Campaign:
    """Let a campaign go on that is paused, held or missed. Raises NotFound, FailedPrecondition."""
    campaign = campaigns.allowed(connection, campaign_id, Action.RESUME)
    run = runs.find(connection, campaign.latest_run_id)
    state = CampaignState.RUNNING
    if run is not None and run.state is RunState.MISSED:
        firing.begin_missed(connection, run, now, limits)
    elif run is not None and run.state in {RunState.PAUSED, RunState.HELD}:
        runs.decide(connection, run, going_on(handed_over=run.handed_over), wanted=runs.ACTIVE)
    else:
        state = CampaignState.SCHEDULED
    campaigns.set_state(connection, campaign_id, state, now=now)
    return campaigns.existing(connection, campaign_id)


def cancel(connection: Connection, campaign_id: str, now: datetime) -> Campaign:
    """Cancel a campaign for good; cancelling again changes nothing. Raises NotFound, FailedPrecondition."""
    campaign = campaigns.allowed(connection, campaign_id, Action.CANCEL)
    if campaign.state is CampaignState.CANCELLED:
        return campaign
    # Of a restored campaign older runs than the latest may be held, too.
    for run in runs.unfinished(connection, campaign_id):
        if run.state is RunState.MISSED:
            runs.close(connection, run, RunState.CANCELLED, counts=run.counts, now=now)
        else:
            runs.decide(connection, run, RunState.CANCELLED, wanted=runs.CANCELLED)
    campaigns.store(
        connection,
        replace(campaign, state=CampaignState.CANCELLED, state_reason="", next_due_time=None, update_time=now),
    )
    return campaigns.existing(connection, campaign_id)


def begin_retry(connection: Connection, campaign_id: str, now: datetime) -> Run:
    """Open the latest run of a campaign again before the sender is asked to retry what failed.

    Without anything to retry the run closes again by itself. Raises NotFound, FailedPrecondition.
    """
    campaign = campaigns.allowed(connection, campaign_id, Action.RETRY)
    run = runs.find(connection, campaign.latest_run_id)
    if run is None or not run.handed_over:
        trouble = "has not sent anything yet" if run is None else "is still handing over its recipients"
        raise FailedPrecondition(
            f'The campaign "{campaign.name}" {trouble}: retry what failed once its run has been sent.',
            reason="WRONG_STATE",
            metadata={"campaign_id": campaign_id, "state": campaign.state.upper()},
        )
    runs.decide(connection, run, RunState.SENDING, wanted=runs.ACTIVE)
    campaigns.set_state(connection, campaign_id, CampaignState.RUNNING, now=now)
    return run


def stop_by_itself(connection: Connection, run: Run, state: RunState, *, reason: str, now: datetime) -> bool:
    """Stop a run that cannot go on without a person; False when somebody decided meanwhile."""
    present = runs.find(connection, run.run_id)
    if present is None or present.revision != run.revision:
        return False
    wanted = runs.CANCELLED if state is RunState.CANCELLED else runs.PAUSED
    runs.decide(connection, present, state, wanted=wanted, reason=reason)
    follow_run(connection, run.run_id, now)
    return True


def end_hand_over(connection: Connection, run: Run, now: datetime) -> bool:
    """Note that the sender has everybody there is; False when somebody decided meanwhile.

    Where that is not everybody the run was begun for, it is paused with all of them at the sender: nobody may be
    left out in silence, and resuming it sends to the others.
    """
    if not runs.finish_hand_over(connection, run):
        return False
    missing = run.recipient_count - run.dispatched_count
    if missing <= 0:
        return True
    reason = (
        f"{missing} of {run.recipient_count} recipients are missing in the database: resume to send to the other"
        f" {run.dispatched_count} only, or cancel; send to the missing ones with a campaign of their own"
    )
    return stop_by_itself(connection, run, RunState.PAUSED, reason=reason, now=now)


def close(connection: Connection, run: Run, state: RunState, *, counts: bytes, now: datetime) -> bool:
    """End a run, and with it its campaign unless that is recurring; False when somebody decided meanwhile."""
    if not runs.close(connection, run, state, counts=counts, now=now):
        return False
    follow_run(connection, run.run_id, now)
    return True


def begin_removal(connection: Connection, campaign_id: str, now: datetime) -> None:
    """Make sure that a campaign about to be removed sends nothing any more. Raises NotFound, FailedPrecondition."""
    campaign = campaigns.allowed(connection, campaign_id, Action.DELETE)
    if any(run.needs_work for run in runs.unfinished(connection, campaign_id)):
        raise FailedPrecondition(
            f'The campaign "{campaign.name}" is cancelled, but the sender has not confirmed it: try again soon.',
            reason="CANCEL_UNDER_WAY",
            metadata={"campaign_id": campaign_id, "state": campaign.state.upper()},
        )
    campaigns.set_state(connection, campaign_id, CampaignState.CANCELLED, now=now)


def remove_some(connection: Connection, campaign_id: str) -> bool:
    """Remove a group of recipients, and with the last of them the campaign; True when it is gone."""
    if recipients.remove_some(connection, campaign_id):
        return False
    runs.remove_all(connection, campaign_id)
    campaigns.remove(connection, campaign_id)
    return True


def _run_at_work(connection: Connection, campaign: Campaign) -> Run | None:
    run = runs.find(connection, campaign.latest_run_id)
    return run if run is not None and run.state in AT_WORK else None


def follow_run(connection: Connection, run_id: str, now: datetime) -> None:
    """Put the campaign where its latest run stands."""
    run = runs.find(connection, run_id)
    assert run is not None
    campaign = campaigns.existing(connection, run.campaign_id)
    if campaign.latest_run_id != run_id:
        return
    state = campaign_state(run.state, recurring=campaign.is_recurring)
    if state is CampaignState.SCHEDULED and campaign.next_due_time is None:
        state = CampaignState.FINISHED  # a cron that has no later slot
    if state is not campaign.state or run.state_reason != campaign.state_reason:
        campaigns.set_state(connection, run.campaign_id, state, reason=run.state_reason, now=now)
