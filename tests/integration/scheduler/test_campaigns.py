"""The methods that keep campaigns and schedule them, good and bad."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.wire import from_timestamp, to_duration, to_timestamp
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import (
    Campaign,
    Scheduler,
    add,
    becomes,
    content,
    create_campaign,
    draft,
    get,
    has_ended,
    new_request_id,
    people,
    reaches,
    recipient,
    refused,
    schedule,
)


async def update(scheduler: Scheduler, campaign: scheduler_pb2.Campaign, *paths: str) -> scheduler_pb2.Campaign:
    request = scheduler_pb2.UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=paths))
    return (await scheduler.stub.UpdateCampaign(request, timeout=20)).campaign


async def create_template(scheduler: Scheduler, **changes: Any) -> str:
    request = scheduler_pb2.CreateTemplateRequest(
        request_id=new_request_id(),
        template=scheduler_pb2.Template(name=new_request_id(), content=content(**changes)),
    )
    return (await scheduler.stub.CreateTemplate(request, timeout=20)).template.template_id


async def test_a_new_campaign_is_a_draft(scheduler: Scheduler) -> None:
    campaign = await get(scheduler.stub, await create_campaign(scheduler.stub))
    assert campaign.state == Campaign.STATE_DRAFT
    assert campaign.content == content()
    assert campaign.required_variables == ["name"]
    assert not campaign.HasField("schedule")
    assert not campaign.HasField("latest_run")


async def test_a_campaign_of_a_template_needs_what_the_template_needs(scheduler: Scheduler) -> None:
    template_id = await create_template(scheduler, text="{{ name }} {{ city }}")
    campaign = await get(scheduler.stub, await create_campaign(scheduler.stub, content=None, template_id=template_id))
    assert campaign.template_id == template_id
    assert campaign.required_variables == ["city", "name"]


async def test_a_repeated_create_makes_one_campaign(scheduler: Scheduler) -> None:
    request = scheduler_pb2.CreateCampaignRequest(
        request_id=new_request_id(), campaign=Campaign(name="News", content=content())
    )
    first = await scheduler.stub.CreateCampaign(request, timeout=20)
    assert await scheduler.stub.CreateCampaign(request, timeout=20) == first
    listed = await scheduler.stub.ListCampaigns(scheduler_pb2.ListCampaignsRequest(), timeout=20)
    assert len(listed.campaigns) == 1


async def test_everything_wrong_with_a_campaign_is_named_at_once(scheduler: Scheduler) -> None:
    options = sender_pb2.DeliveryOptions(
        policy=9,  # type: ignore[arg-type]
        expire_after=to_duration(timedelta(days=31)),
        retry_policy=sender_pb2.RetryPolicy(quick_attempt_count=11, retry_on=["6xx"]),
    )
    campaign = Campaign(
        name="x" * 201, options=options, state=Campaign.STATE_RUNNING, latest_run=scheduler_pb2.CampaignRun(run_id="x")
    )
    async with refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        fields={
            "request_id",
            "campaign.name",
            "campaign.content",
            "campaign.state",
            "campaign.latest_run",
            "campaign.options.policy",
            "campaign.options.expire_after",
            "campaign.options.retry_policy.quick_attempt_count",
            "campaign.options.retry_policy.retry_on[0]",
        },
    ):
        await scheduler.stub.CreateCampaign(
            scheduler_pb2.CreateCampaignRequest(request_id="no spaces please", campaign=campaign), timeout=5
        )


async def test_a_content_too_large_for_a_batch_is_refused(scheduler: Scheduler) -> None:
    attachment = sender_pb2.Attachment(filename="a.bin", content=b"x" * (3 * 1024 * 1024))
    headers = [sender_pb2.Header(name=f"X-Long-{number}", value="\U0001f600" * 3_900) for number in range(50)]
    large = content(text="x" * 250_000, attachments=[attachment], headers=headers)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign.content"}):
        await create_campaign(scheduler.stub, content=large)
    await create_campaign(scheduler.stub, content=content(attachments=[attachment]))


async def test_a_campaign_of_a_template_that_is_not_there_is_not_found(scheduler: Scheduler) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND):
        await create_campaign(scheduler.stub, content=None, template_id="0" * 32)


async def test_campaigns_are_listed_newest_first_by_state_in_pages(scheduler: Scheduler) -> None:
    ids = [await create_campaign(scheduler.stub, name=f"Campaign {number}") for number in range(5)]
    await scheduler.stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=ids[1]), timeout=20)
    found, token = [], ""
    while True:
        request = scheduler_pb2.ListCampaignsRequest(page_size=2, page_token=token, states=[Campaign.STATE_DRAFT])
        page = await scheduler.stub.ListCampaigns(request, timeout=20)
        found += [one.campaign_id for one in page.campaigns]
        token = page.next_page_token
        if not token:
            break
    assert found == [ids[4], ids[3], ids[2], ids[0]]
    request = scheduler_pb2.ListCampaignsRequest(states=[99])  # type: ignore[list-item]
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"states[0]"}):
        await scheduler.stub.ListCampaigns(request, timeout=20)
    request.states[:] = [Campaign.STATE_CANCELLED]
    request.page_token = (
        await scheduler.stub.ListCampaigns(scheduler_pb2.ListCampaignsRequest(page_size=1), timeout=20)
    ).next_page_token
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"page_token"}):
        await scheduler.stub.ListCampaigns(request, timeout=20)


async def test_a_mask_changes_what_it_names(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    changed = await update(
        scheduler,
        Campaign(campaign_id=campaign_id, name="Spring news", content=content(subject="Spring")),
        "name",
    )
    assert changed.name == "Spring news"
    assert changed.content == content()
    template_id = await create_template(scheduler)
    changed = await update(scheduler, Campaign(campaign_id=campaign_id, template_id=template_id), "template_id")
    assert changed.WhichOneof("source") == "template_id"
    changed = await update(scheduler, Campaign(campaign_id=campaign_id, content=content()), "content")
    assert changed.WhichOneof("source") == "content"


@pytest.mark.parametrize("paths", [(), ("state",), ("nonsense",), ("template_id", "content"), ("schedule.cron",)])
async def test_a_mask_with_anything_else_is_refused(scheduler: Scheduler, paths: tuple[str, ...]) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"update_mask"}):
        await update(scheduler, Campaign(campaign_id=campaign_id, content=content()), *paths)


async def test_an_update_hears_of_a_wrong_mask_and_wrong_values_at_once(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"update_mask", "campaign.name"}):
        await update(scheduler, Campaign(campaign_id=campaign_id), "state", "name")


async def test_what_is_under_way_cannot_be_changed_or_deleted(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.delivers = False
    campaign_id = await draft(scheduler.stub, 1)
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_RUNNING)
    for attempt in (
        update(scheduler, Campaign(campaign_id=campaign_id, name="x"), "name"),
        scheduler.stub.DeleteCampaign(scheduler_pb2.DeleteCampaignRequest(campaign_id=campaign_id), timeout=20),
        add(scheduler.stub, campaign_id, people(1)),
        schedule(scheduler.stub, campaign_id),
    ):
        async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="WRONG_STATE"):
            await attempt


async def test_a_deleted_campaign_is_gone_with_its_recipients_and_runs(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 3)
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    request = scheduler_pb2.DeleteCampaignRequest(campaign_id=campaign_id)
    await scheduler.stub.DeleteCampaign(request, timeout=20)
    async with refused(grpc.StatusCode.NOT_FOUND):
        await get(scheduler.stub, campaign_id)
    async with refused(grpc.StatusCode.NOT_FOUND):
        await scheduler.stub.DeleteCampaign(request, timeout=20)
    left = await scheduler.database.read(
        lambda connection: connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM recipients) + (SELECT count(*) FROM runs)"
        ).scalar()
    )
    assert left == 0


async def test_a_campaign_without_recipients_cannot_be_scheduled(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 0)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="NO_RECIPIENTS"):
        await schedule(scheduler.stub, campaign_id)


async def test_everything_wrong_with_a_schedule_is_named_at_once(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    async with refused(
        grpc.StatusCode.INVALID_ARGUMENT, fields={"schedule.cron", "schedule.time_zone", "schedule.max_lateness"}
    ):
        await schedule(
            scheduler.stub,
            campaign_id,
            cron="0 0 30 2 *",
            time_zone="Mars/Olympus",
            max_lateness=to_duration(timedelta(days=31)),
        )
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"schedule.send_time"}):
        await schedule(
            scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() - timedelta(minutes=1))
        )
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"schedule.send_time"}):
        await schedule(scheduler.stub, campaign_id, send_time=Timestamp(seconds=2**60))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"request_id", "campaign_id"}):
        await scheduler.stub.ScheduleCampaign(scheduler_pb2.ScheduleCampaignRequest(), timeout=20)
    assert (await get(scheduler.stub, campaign_id)).state == Campaign.STATE_DRAFT


async def test_a_repeated_schedule_is_answered_alike_even_when_its_time_has_passed(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    request = scheduler_pb2.ScheduleCampaignRequest(
        request_id=new_request_id(),
        campaign_id=campaign_id,
        schedule=scheduler_pb2.Schedule(send_time=to_timestamp(scheduler.clock.now())),
    )
    first = await scheduler.stub.ScheduleCampaign(request, timeout=20)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    scheduler.clock.shift = timedelta(hours=1)
    assert await scheduler.stub.ScheduleCampaign(request, timeout=20) == first
    runs = await scheduler.stub.ListRuns(scheduler_pb2.ListRunsRequest(campaign_id=campaign_id), timeout=20)
    assert len(runs.runs) == 1


async def test_validate_only_answers_and_changes_nothing(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 1)
    before = await get(scheduler.stub, campaign_id)
    answer = await scheduler.stub.ScheduleCampaign(
        scheduler_pb2.ScheduleCampaignRequest(
            request_id=new_request_id(),
            campaign_id=campaign_id,
            schedule=scheduler_pb2.Schedule(cron="0 9 * * mon", time_zone="Europe/Berlin"),
            validate_only=True,
        ),
        timeout=5,
    )
    assert answer.campaign.state == Campaign.STATE_SCHEDULED
    assert len(answer.due_times) == 5
    assert answer.campaign.next_due_time == answer.due_times[0]
    assert await get(scheduler.stub, campaign_id) == before


async def test_a_scheduled_campaign_can_be_moved_and_changed(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 2)
    later = to_timestamp(scheduler.clock.now() + timedelta(hours=1))
    await schedule(scheduler.stub, campaign_id, send_time=later)
    await update(scheduler, Campaign(campaign_id=campaign_id, content=content(subject="Changed")), "content")
    await add(scheduler.stub, campaign_id, people(1, start=2))
    await schedule(scheduler.stub, campaign_id)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert campaign.latest_run.recipient_count == 3
    assert sender.requests[0].content.subject == "Changed"


async def test_recipients_that_lack_a_variable_are_named_before_anything_is_scheduled(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    await add(
        scheduler.stub, campaign_id, [recipient("a@x.org", name="A", city="Rome"), recipient("b@x.org", name="B")]
    )
    await update(scheduler, Campaign(campaign_id=campaign_id, content=content(text="{{ city }}")), "content")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await schedule(scheduler.stub, campaign_id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "b@x.org lacks city" in str(caught.value.details())
    assert "a@x.org" not in str(caught.value.details())
    await update(
        scheduler, Campaign(campaign_id=campaign_id, content=content(text="{{ city|default('') }}")), "content"
    )
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)


async def test_a_template_changed_after_scheduling_pauses_the_campaign_that_lacks_something(
    scheduler: Scheduler, sender: FakeSender
) -> None:
    template_id = await create_template(scheduler)
    campaign_id = await draft(scheduler.stub, 2, content=None, template_id=template_id)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(scheduler.clock.now() + timedelta(seconds=0.5)))
    await scheduler.stub.UpdateTemplate(
        scheduler_pb2.UpdateTemplateRequest(
            template=scheduler_pb2.Template(template_id=template_id, content=content(text="{{ city }}")),
            update_mask=FieldMask(paths=["content.text"]),
        ),
        timeout=5,
    )
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_PAUSED)
    assert "lacks city" in campaign.state_reason
    assert not sender.requests


async def test_runs_keep_the_content_that_they_began_with(scheduler: Scheduler, sender: FakeSender) -> None:
    template_id = await create_template(scheduler)
    campaign_id = await draft(scheduler.stub, 25, content=None, template_id=template_id)
    sender.gate.clear()
    await schedule(scheduler.stub, campaign_id)
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_RUNNING)
    await scheduler.stub.UpdateTemplate(
        scheduler_pb2.UpdateTemplateRequest(
            template=scheduler_pb2.Template(template_id=template_id, content=content(subject="New")),
            update_mask=FieldMask(paths=["content.subject"]),
        ),
        timeout=5,
    )
    sender.gate.set()
    await reaches(scheduler.stub, campaign_id, Campaign.STATE_FINISHED)
    assert {request.content.subject for request in sender.requests} == {"Hello {{ name }}"}


async def test_a_cron_campaign_waits_for_its_next_slot_after_each_run(scheduler: Scheduler, sender: FakeSender) -> None:
    campaign_id = await draft(scheduler.stub, 2)
    answer = await schedule(scheduler.stub, campaign_id, cron="0 * * * *", time_zone="Europe/Berlin")
    assert len(answer.due_times) == 5
    first = from_timestamp(answer.due_times[0])
    scheduler.clock.shift = first - scheduler.clock.now() + scheduler.clock.shift
    campaign = await becomes(scheduler.stub, campaign_id, has_ended)
    assert campaign.state == Campaign.STATE_SCHEDULED
    assert from_timestamp(campaign.latest_run.slot_time) == first
    assert from_timestamp(campaign.next_due_time) == first + timedelta(hours=1)
    # Three slots pass while nobody looks: one run, for the latest of them.
    scheduler.clock.shift += timedelta(hours=3, minutes=1)
    await becomes(scheduler.stub, campaign_id, lambda one: from_timestamp(one.latest_run.slot_time) > first)
    campaign = await reaches(scheduler.stub, campaign_id, Campaign.STATE_SCHEDULED)
    assert from_timestamp(campaign.latest_run.slot_time) == first + timedelta(hours=3)
    listed = await scheduler.stub.ListRuns(
        scheduler_pb2.ListRunsRequest(campaign_id=campaign_id, page_size=1), timeout=5
    )
    assert from_timestamp(listed.runs[0].slot_time) == first + timedelta(hours=3)
    older = await scheduler.stub.ListRuns(
        scheduler_pb2.ListRunsRequest(campaign_id=campaign_id, page_size=1, page_token=listed.next_page_token),
        timeout=5,
    )
    assert from_timestamp(older.runs[0].slot_time) == first
    assert older.next_page_token == ""
    assert len(sender.runs) == 2


async def test_runs_of_a_campaign_that_does_not_exist_are_not_found(scheduler: Scheduler) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND):
        await scheduler.stub.ListRuns(scheduler_pb2.ListRunsRequest(campaign_id="0" * 32), timeout=20)
