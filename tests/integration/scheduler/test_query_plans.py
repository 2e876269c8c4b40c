"""No statement of the scheduler looks at more rows the more old ones there are; see the sender's test of the name."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from mailer.v1 import scheduler_pb2
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import (
    Campaign,
    Scheduler,
    add,
    content,
    create_campaign,
    draft,
    eventually,
    new_request_id,
    people,
    reaches,
    schedule,
)
from tests.query_plans import Tables, indexes, pretend_statistics, recorded, unbounded

BOOK = Tables(
    big=frozenset({"campaigns", "recipients", "runs", "scheduler_requests"}),
    open_work=frozenset({"runs_open"}),
    # A campaign has few runs, and no two of them at one instant.
    of_one=frozenset({"sqlite_autoindex_runs_2"}),
    paged=frozenset({"PRIMARY"}),
    listed=frozenset({"campaigns_by_time"}),
    once=frozenset({"runs_1.slot_time > runs.slot_time"}),  # after a restore campaigns are put where their runs stand
)
# What ANALYZE says of a database with 100,000 old campaigns, a run each, and 10,000,000 recipients.
STATISTICS = {
    "campaigns_by_state": "100000 25000 1 1",
    "campaigns_by_time": "100000 1 1",
    "campaigns_due": "100000 25000 2",
    "campaigns_of_template": "100000 1000",
    "runs_open": "10 1",
    "scheduler_requests_by_time": "100000 1",
    "sqlite_autoindex_campaigns_1": "100000 1",
    "recipients": "10000000 100 1",
    "sqlite_autoindex_recipients_2": "10000000 100 1",
    "sqlite_autoindex_runs_1": "100000 1",
    "sqlite_autoindex_runs_2": "100000 1 1",
    "sqlite_autoindex_scheduler_requests_1": "100000 1",
}
Schedulers = Callable[..., Awaitable[Scheduler]]


@pytest.fixture
async def statements(
    schedulers: Schedulers, sender: FakeSender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """Return every statement of a scheduler at work; its database is in the folder of the test."""
    with recorded(monkeypatch) as found:
        first = await schedulers(batch_size=10)
        await send(first, sender)
        await ask(first)
        await first.stop()
        hold_all(tmp_path / "mailer.db")
        await (await schedulers()).stop()
        yield found


async def send(scheduler: Scheduler, sender: FakeSender) -> None:
    """Let campaigns be made, decided about and sent."""
    stub = scheduler.stub
    sender.delivers = False
    campaign_id = await draft(stub, 25)
    await schedule(stub, campaign_id)
    await eventually(lambda: sum(sender.copies.values()) == 25)
    await stub.PauseCampaign(scheduler_pb2.PauseCampaignRequest(campaign_id=campaign_id), timeout=20)
    await stub.ResumeCampaign(scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id), timeout=20)
    await reaches(stub, campaign_id, Campaign.STATE_RUNNING)
    await eventually(lambda: sender.calls.count("ResumeRun") > 0)
    sender.deliver(outcome="failed")
    await reaches(stub, campaign_id, Campaign.STATE_FINISHED)
    sender.delivers = True
    retry = scheduler_pb2.RetryFailedRequest(request_id=new_request_id(), campaign_id=campaign_id)
    await stub.RetryFailed(retry, timeout=20)
    sender.deliver()
    await reaches(stub, campaign_id, Campaign.STATE_FINISHED)
    template = scheduler_pb2.Template(name="Autumn", content=content())
    request = scheduler_pb2.CreateTemplateRequest(request_id=new_request_id(), template=template)
    template_id = (await stub.CreateTemplate(request, timeout=20)).template.template_id
    await stub.DeleteTemplate(scheduler_pb2.DeleteTemplateRequest(template_id=template_id), timeout=20)
    cancelled = await draft(stub, 3, name="Not this one")
    await stub.CancelCampaign(scheduler_pb2.CancelCampaignRequest(campaign_id=cancelled), timeout=20)
    await stub.DeleteCampaign(scheduler_pb2.DeleteCampaignRequest(campaign_id=cancelled), timeout=20)
    recurring = await create_campaign(stub, name="Every year")
    await add(stub, recurring, people(3))
    await schedule(stub, recurring, cron="0 0 1 1 *", time_zone="UTC")


async def ask(scheduler: Scheduler) -> None:
    """Ask for lists with every filter, and for what is in them."""
    known = [number for number in Campaign.State.values() if number]
    for states in ((), *((one,) for one in known), *combinations(known, 2)):
        request = scheduler_pb2.ListCampaignsRequest(states=states, page_size=1)
        page = await scheduler.stub.ListCampaigns(request, timeout=20)
        request.page_token = page.next_page_token
        await scheduler.stub.ListCampaigns(request, timeout=20)
    campaigns = (await scheduler.stub.ListCampaigns(scheduler_pb2.ListCampaignsRequest(), timeout=20)).campaigns
    campaign_id = campaigns[-1].campaign_id
    await scheduler.stub.ListRuns(scheduler_pb2.ListRunsRequest(campaign_id=campaign_id), timeout=20)
    people_of = scheduler_pb2.ListRecipientsRequest(campaign_id=campaign_id, page_size=1)
    people_of.page_token = (await scheduler.stub.ListRecipients(people_of, timeout=20)).next_page_token
    await scheduler.stub.ListRecipients(people_of, timeout=20)
    await scheduler.stub.PreviewMessage(scheduler_pb2.PreviewMessageRequest(campaign_id=campaign_id), timeout=20)
    await scheduler.stub.PlanCampaign(scheduler_pb2.PlanCampaignRequest(campaign_id=campaign_id), timeout=20)


def hold_all(path: Path) -> None:
    """Hold the runs, as a restore does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET state = 'held', end_time = NULL")
        connection.execute("UPDATE database_identity SET incarnation = 'another'")


@pytest.mark.parametrize("statistics", [{}, STATISTICS], ids=["as it is", "with the statistics of a large one"])
async def test_no_statement_looks_at_more_rows_the_more_there_are(
    tmp_path: Path, statements: dict[str, Any], statistics: dict[str, str]
) -> None:
    path = tmp_path / "mailer.db"
    if statistics:
        pretend_statistics(path, statistics)
    assert unbounded(path, statements, BOOK) == {}


async def test_no_index_can_be_left_out(tmp_path: Path, statements: dict[str, Any]) -> None:
    path = tmp_path / "mailer.db"
    unneeded = [index for index in indexes(path, BOOK) if not unbounded(path, statements, BOOK, without=index)]
    assert unneeded == []
