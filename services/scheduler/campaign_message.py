"""Campaigns and runs for the wire."""

from collections.abc import Iterable
from datetime import timedelta

from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.validation import Violations
from mailer.wire import from_duration, from_timestamp, to_duration, to_timestamp
from services.scheduler.campaign_states import CampaignState, RunState
from services.scheduler.campaigns import Campaign
from services.scheduler.runs import Run
from services.scheduler.schedule import DEFAULT_LATENESS, Schedule

_Campaign = scheduler_pb2.Campaign
_CampaignRun = scheduler_pb2.CampaignRun

_CAMPAIGN_STATES = {state: _Campaign.State.Value(f"STATE_{state.name}") for state in CampaignState}
_RUN_STATES = {state: _CampaignRun.State.Value(f"STATE_{state.name}") for state in RunState}
_FROM_WIRE = {number: state for state, number in _CAMPAIGN_STATES.items()}


def to_campaign(
    campaign: Campaign,
    run: Run | None,
    required_variables: Iterable[str],
    counts: sender_pb2.DeliveryCounts | None = None,
    *,
    whole: bool = True,
) -> scheduler_pb2.Campaign:
    """Return a campaign for the wire; `counts` are newer than the run's own, `whole` is with its files."""
    message = _Campaign(
        campaign_id=campaign.campaign_id,
        name=campaign.name,
        options=sender_pb2.DeliveryOptions.FromString(campaign.options),
        state=_CAMPAIGN_STATES[campaign.state],
        state_reason=campaign.state_reason,
        schedule=to_schedule(campaign.schedule),
        next_due_time=to_timestamp(campaign.next_due_time),
        recipient_count=campaign.recipient_count,
        duplicate_count=campaign.duplicate_count,
        latest_run=None if run is None else to_run(run, counts),
        required_variables=sorted(required_variables),
        create_time=to_timestamp(campaign.create_time),
        update_time=to_timestamp(campaign.update_time),
    )
    if campaign.content is None:
        message.template_id = campaign.template_id
    else:
        message.content.ParseFromString(campaign.content)
        if not whole:
            leave_out_files(message.content)
    if not campaign.state_reason and run is not None and campaign.state is CampaignState.RUNNING:
        message.state_reason = run.state_reason
    return message


def to_run(run: Run, counts: sender_pb2.DeliveryCounts | None = None) -> scheduler_pb2.CampaignRun:
    """Return a run for the wire."""
    return _CampaignRun(
        run_id=run.run_id,
        campaign_id=run.campaign_id,
        slot_time=to_timestamp(run.slot_time),
        state=_RUN_STATES[run.state],
        state_reason=run.state_reason,
        recipient_count=run.recipient_count,
        dispatched_count=run.dispatched_count,
        rejected_count=run.rejected_count,
        counts=counts or sender_pb2.DeliveryCounts.FromString(run.counts),
        start_time=to_timestamp(run.start_time),
        end_time=to_timestamp(run.end_time),
    )


def to_schedule(schedule: Schedule | None) -> scheduler_pb2.Schedule | None:
    """Return a schedule for the wire."""
    if schedule is None:
        return None
    message = scheduler_pb2.Schedule(time_zone=schedule.time_zone, max_lateness=to_duration(schedule.max_lateness))
    if schedule.cron:
        message.cron = schedule.cron
    elif schedule.send_time is not None:
        message.send_time.CopyFrom(to_timestamp(schedule.send_time))
    return message


def read_schedule(message: scheduler_pb2.Schedule, violations: Violations) -> Schedule:
    """Return a schedule as it was given; its values are checked elsewhere, here only that they are values."""
    send_time, lateness = None, DEFAULT_LATENESS
    if message.WhichOneof("when") == "send_time":
        try:
            send_time = from_timestamp(message.send_time)
        except ValueError as error:
            violations.add("schedule.send_time", f"is no instant: {error}")
    if message.HasField("max_lateness"):
        try:
            lateness = from_duration(message.max_lateness)
        except ValueError:
            lateness = timedelta(-1)  # refused with the others out of range
    if message.WhichOneof("when") == "cron" and not message.cron:
        violations.add("schedule.cron", 'is empty: write five fields, such as "0 9 * * 1", or leave it out')
    return Schedule(send_time, message.cron, message.time_zone, lateness)


def read_states(
    states: Iterable["scheduler_pb2.Campaign.State.ValueType"], violations: Violations
) -> frozenset[CampaignState]:
    """Return the states to list; one that does not exist is noted."""
    found = set()
    for index, number in enumerate(states):
        if number in _FROM_WIRE:
            found.add(_FROM_WIRE[number])
        else:
            violations.add(f"states[{index}]", "is no state of a campaign: use one, or leave it out for all")
    return frozenset(found)


def leave_out_files(content: sender_pb2.MessageContent) -> None:
    """Keep the names of attachments and drop what is in them: a list is not the place for megabytes."""
    for attachment in content.attachments:
        attachment.ClearField("content")
