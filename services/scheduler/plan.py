"""PlanCampaign: what would be sent, through which accounts, and when it would be finished. Sends nothing."""

from dataclasses import dataclass
from datetime import datetime

import grpc
from sqlalchemy import Connection

from mailer.client import readable
from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FailedPrecondition, Unavailable
from mailer.interceptor import Context
from mailer.message.address import mailbox_key
from mailer.requests import require_id
from mailer.v1 import scheduler_pb2, sender_pb2, sender_pb2_grpc
from mailer.wire import to_timestamp
from services.scheduler import campaigns
from services.scheduler.campaign_states import Action, CampaignState, is_allowed
from services.scheduler.campaigns import Campaign
from services.scheduler.capacity import Caps, time_to_send
from services.scheduler.lacking import check_variables_of_all

CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the books say about a campaign."""

    campaign: Campaign
    from_address: str
    account_ids: frozenset[str]
    due_times: list[datetime]
    problems: list[str]


class PlanRpc:
    """PlanCampaign."""

    def __init__(self, database: Database, clock: Clock, sender: "sender_pb2_grpc.SenderAsyncStub") -> None:
        """Take what the method needs."""
        self._database = database
        self._clock = clock
        self._sender = sender

    async def PlanCampaign(
        self, request: scheduler_pb2.PlanCampaignRequest, context: Context
    ) -> scheduler_pb2.PlanCampaignResponse:
        """Tell what would happen."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        now = self._clock.now()
        plan = await self._database.read(_read_plan, campaign_id)
        problems = list(plan.problems)
        usable = [one for one in await self._accounts() if _may_send(one, plan)]
        if not usable:
            problems.append(f"no account may send for {plan.from_address}: add one, or name others in the options")
        problems += [f"the account {one.name} is held: {one.hold_reason}" for one in usable if one.held]
        ready = [account for account in usable if not account.held]
        if usable and not ready:
            problems.append("every account that may send is held: release one")
        response = scheduler_pb2.PlanCampaignResponse(
            recipient_count=plan.campaign.recipient_count,
            accounts=usable,
            due_times=map(to_timestamp, plan.due_times),
            problems=problems,
        )
        span = time_to_send(plan.campaign.recipient_count, [_caps(account) for account in ready])
        if span is not None:
            begin = max(now, plan.due_times[0]) if plan.due_times else now
            response.expected_finish_time.CopyFrom(to_timestamp(begin + span))
        return response

    async def _accounts(self) -> list[sender_pb2.Account]:
        found: list[sender_pb2.Account] = []
        token = ""
        try:
            while True:
                page = await self._sender.ListAccounts(
                    sender_pb2.ListAccountsRequest(page_size=1000, page_token=token), timeout=CALL_SECONDS
                )
                found.extend(page.accounts)
                token = page.next_page_token
                if not token:
                    return found
        except grpc.aio.AioRpcError as error:
            raise Unavailable(
                f"The accounts cannot be asked for: {readable(error, target='the sender')}",
                reason="SENDER_UNAVAILABLE",
            ) from error


def _read_plan(connection: Connection, campaign_id: str) -> Plan:
    campaign = campaigns.existing(connection, campaign_id)
    problems = []
    if not campaign.recipient_count:
        problems.append("the campaign has no recipients: add some")
    if campaign.state not in {CampaignState.DRAFT, CampaignState.SCHEDULED}:
        problems.append(
            f"the campaign is {campaign.state}" + (f": {campaign.state_reason}" if campaign.state_reason else "")
        )
    content = sender_pb2.MessageContent()
    try:
        content.ParseFromString(campaigns.source_of(connection, campaign).content)
        if is_allowed(Action.SCHEDULE, campaign.state):
            check_variables_of_all(connection, campaign_id)
    except FailedPrecondition as problem:
        problems.append(problem.message)
    due_times: list[datetime] = []
    due, schedule = campaign.next_due_time, campaign.schedule
    while due is not None and schedule is not None and len(due_times) < 5:
        due_times.append(due)
        due = schedule.next_slot(due)
    if not due_times and campaign.state is CampaignState.DRAFT:
        problems.append("the campaign is not scheduled: say when with ScheduleCampaign")
    options = sender_pb2.DeliveryOptions.FromString(campaign.options)
    return Plan(campaign, content.from_address.address, frozenset(options.account_ids), due_times, problems)


def _may_send(account: sender_pb2.Account, plan: Plan) -> bool:
    if account.disabled or (plan.account_ids and account.account_id not in plan.account_ids):
        return False
    address = mailbox_key(plan.from_address)
    domain = "@" + address.rpartition("@")[2]
    allowed = {mailbox_key(one) if not one.startswith("@") else one.lower() for one in account.from_addresses}
    return not allowed or address in allowed or domain in allowed


def _caps(account: sender_pb2.Account) -> Caps:
    caps = account.caps
    return Caps(caps.per_second_count, caps.per_minute_count, caps.per_hour_count, caps.per_day_count)
