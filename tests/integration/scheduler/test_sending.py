"""A campaign goes out: from the draft to the last delivery."""

from datetime import timedelta

from mailer.wire import from_timestamp, to_timestamp
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import Campaign, CampaignRun, Scheduler, draft, reaches, schedule


async def test_a_campaign_scheduled_for_now_reaches_everybody_once(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 25)
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.handed_over == {f"user{number}@example.org": 1 for number in range(25)}
    assert [len(request.recipients) for request in sender.requests] == [10, 10, 5]
    run = campaign.latest_run
    assert run.state == CampaignRun.STATE_FINISHED
    assert (run.recipient_count, run.dispatched_count, run.rejected_count) == (25, 25, 0)
    assert (run.counts.total_count, run.counts.sent_count) == (25, 25)
    assert run.HasField("end_time")
    assert not campaign.HasField("next_due_time")


async def test_the_batch_says_what_to_send_and_to_whom(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 12)
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    first, second = sender.requests
    assert first.run_id == second.run_id == campaign.latest_run.run_id
    assert first.request_id == f"{first.run_id}:0"
    assert second.request_id == f"{first.run_id}:10"
    assert first.campaign_id == campaign_id
    assert first.content == campaign.content
    assert first.recipients[3].variables["name"] == "User 3"


async def test_a_campaign_scheduled_ahead_starts_at_its_instant(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 3)
    due = scheduler.clock.now() + timedelta(seconds=1.2)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(due))
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    late = from_timestamp(campaign.latest_run.start_time) - due
    assert timedelta() <= late < timedelta(seconds=1)
    assert from_timestamp(campaign.latest_run.slot_time) == due
