"""What a crash, a deaf sender or a second scheduler does to a run: nobody twice, nobody lost."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from mailer.errors import Code, FieldViolation, InvalidArgument, MailerError, ResourceExhausted, Unavailable
from mailer.v1 import scheduler_pb2
from services.scheduler import runs, trouble
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import (
    Campaign,
    CampaignRun,
    Scheduler,
    becomes,
    draft,
    eventually,
    reaches,
    schedule,
)

Schedulers = Callable[..., Awaitable[Scheduler]]

EVERYBODY = Counter({f"user{number}@example.org": 1 for number in range(35)})


async def test_a_scheduler_that_dies_in_the_middle_is_taken_up_again(
    schedulers: Schedulers, sender: FakeSender
) -> None:
    first = await schedulers(batch_size=10)
    campaign_id = await draft(first.stub, 35)
    sender.errors.extend([Unavailable("restarting", reason="STOPPING")] * 3)
    await schedule(first.stub, campaign_id)
    await eventually(lambda: len(sender.requests) >= 1)
    sender.gate.clear()
    await first.stop()
    sender.gate.set()
    second = await schedulers(batch_size=10)
    await reaches(second.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == EVERYBODY


async def test_an_answer_lost_on_its_way_repeats_the_batch_and_nobody_gets_two(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.lost_answers = 3
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == sender.handed_over == EVERYBODY
    assert campaign.latest_run.dispatched_count == 35


async def test_a_crash_between_the_answer_and_the_cursor_repeats_the_same_bytes(
    schedulers: Schedulers, sender: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await schedulers(batch_size=10)
    campaign_id = await draft(first.stub, 35)
    sender.delivers = False

    def die(*_: object, **__: object) -> bool:
        raise Unavailable("killed here", reason="TEST")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "advance", die)
        await schedule(first.stub, campaign_id)
        await eventually(lambda: len(sender.requests) == 1)
        await first.stop()
    # Other batch sizes after the restart: the run keeps those that it began with, or the bytes would differ.
    second = await schedulers(batch_size=7)
    await eventually(lambda: sum(sender.handed_over.values()) == 35)
    sender.deliver()
    await reaches(second.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == sender.handed_over == EVERYBODY


async def test_a_sender_that_is_away_is_waited_for_and_the_campaign_says_so(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.errors.extend([Unavailable("the database is busy", reason="DATABASE_BUSY")] * 12)
    await schedule(scheduler.stub, campaign_id)
    reason = (await becomes(scheduler.stub, campaign_id, lambda one: one.state_reason)).state_reason
    assert reason.startswith("waiting since ")
    assert "the database is busy" in reason
    sender.errors.clear()
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.state_reason == ""
    assert sender.copies == EVERYBODY


async def test_a_full_queue_is_waited_for_as_long_as_the_sender_says(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    full = ResourceExhausted("the queue is full", reason="QUEUE_FULL", retry_after=timedelta(seconds=0.1))
    sender.errors.extend([full] * 4)
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.calls.count("SendBatch") == 4 + 4
    assert sender.copies == EVERYBODY


async def test_while_a_full_queue_is_waited_for_nothing_is_asked_and_decisions_count_at_once(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.errors.append(ResourceExhausted("the queue is full", reason="QUEUE_FULL", retry_after=timedelta(minutes=1)))
    await schedule(scheduler.stub, campaign_id)
    await becomes(scheduler.stub, campaign_id, lambda one: "the queue is full" in one.state_reason)
    await scheduler.stub.PauseCampaign(scheduler_pb2.PauseCampaignRequest(campaign_id=campaign_id), timeout=20)
    await eventually(lambda: "PauseRun" in sender.calls, seconds=3)
    assert sender.calls.count("SendBatch") == 1
    await scheduler.stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == EVERYBODY


async def test_a_refused_batch_pauses_the_run_with_the_reason_and_resume_tries_again(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    campaign_id = await draft(scheduler.stub, 35)
    sender.errors.append(InvalidArgument([FieldViolation("content.subject", "is not wanted here")]))
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    assert "content.subject: is not wanted here" in campaign.state_reason
    assert campaign.latest_run.state == CampaignRun.STATE_PAUSED
    assert sender.calls.count("SendBatch") == 1
    await scheduler.stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == EVERYBODY


async def test_a_bug_of_the_sender_that_stays_pauses_the_run_and_resume_tries_again(
    scheduler: Scheduler, sender: FakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "MOST_BUGS", 3)
    campaign_id = await draft(scheduler.stub, 35)
    sender.errors.extend([MailerError(Code.INTERNAL, "", "")] * 3)
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    assert "3 times in a row" in campaign.state_reason
    await scheduler.stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == EVERYBODY


async def test_two_schedulers_on_one_database_make_one_run(schedulers: Schedulers, sender: FakeSender) -> None:
    first, second = await schedulers(batch_size=10), await schedulers(batch_size=10)
    campaigns = [await draft(first.stub, 35) for _ in range(3)]
    for campaign_id in campaigns:
        await schedule(second.stub, campaign_id)
    for campaign_id in campaigns:
        await reaches(second.stub, campaign_id, Campaign.STATE_FINISHED)
    assert len(sender.runs) == 3
    assert set(sender.handed_over.values()) == {3}
    assert sender.calls.count("SendBatch") == 3 * 4
    leading = [one.registry.get_sample_value("mailer_scheduler_leading") for one in (first, second)]
    assert leading == [1, 0]


async def test_the_second_scheduler_takes_over_from_one_that_is_gone(
    schedulers: Schedulers, sender: FakeSender
) -> None:
    first, second = await schedulers(batch_size=10), await schedulers(batch_size=10)
    campaign_id = await draft(first.stub, 35)
    sender.gate.clear()
    await schedule(first.stub, campaign_id)
    await eventually(lambda: "SendBatch" in sender.calls)
    await first.stop()
    sender.gate.set()
    await reaches(second.stub, campaign_id, Campaign.STATE_FINISHED, seconds=5)
    assert sender.copies == EVERYBODY


async def test_a_run_that_the_sender_has_forgotten_is_handed_over_again(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    sender.runs.clear()
    sender._answers.clear()
    sender.delivers = True
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert sender.copies == EVERYBODY


async def test_recipients_that_the_sender_does_not_take_are_counted(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.reject = {"user3@example.org", "user30@example.org"}
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert (campaign.latest_run.dispatched_count, campaign.latest_run.rejected_count) == (35, 2)
    assert campaign.latest_run.counts.sent_count == 33


async def test_what_the_sender_pauses_by_itself_pauses_the_campaign(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    (run,) = sender.runs.values()
    run.state, run.reason = "paused", "10 refusals in a row"
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    assert campaign.state_reason == "10 refusals in a row"


async def test_a_stalled_run_shows_why_and_goes_on_by_itself(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 35)
    await schedule(scheduler.stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 35)
    (run,) = sender.runs.values()
    run.state, run.reason = "stalled", "every account rests until noon"
    await becomes(scheduler.stub, campaign_id, lambda one: one.state_reason == "every account rests until noon")
    run.state, run.reason = "active", ""
    sender.deliver()
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.state_reason == ""
