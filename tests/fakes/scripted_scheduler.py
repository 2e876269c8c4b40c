"""A scheduler that remembers what it was asked and answers what a test says; on a real port."""

from collections.abc import AsyncIterator

from grpc.aio import ServicerContext

from mailer.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Unavailable
from mailer.v1 import scheduler_pb2, scheduler_pb2_grpc, sender_pb2

State = scheduler_pb2.Campaign.State


class ScriptedScheduler(scheduler_pb2_grpc.SchedulerServicer):
    """Keeps campaigns in memory; its `break_...` fields make calls fail as often as they say."""

    def __init__(self) -> None:
        self.campaigns: dict[str, scheduler_pb2.Campaign] = {}
        self.recipients: dict[str, sender_pb2.Recipient] = {}
        self.created: list[scheduler_pb2.CreateCampaignRequest] = []
        self.scheduled: list[scheduler_pb2.ScheduleCampaignRequest] = []
        self.largest_message = 0
        self.required = ""
        """A variable that every recipient must have."""
        self.break_creates = 0
        self.break_imports = 0
        self.streams: list[list[State.ValueType]] = []
        """What each stream of WatchCampaign shows before it breaks."""

    def add(self, campaign_id: str, name: str, state: State.ValueType = State.STATE_DRAFT) -> None:
        self.campaigns[campaign_id] = scheduler_pb2.Campaign(campaign_id=campaign_id, name=name, state=state)

    async def CreateCampaign(
        self, request: scheduler_pb2.CreateCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.CreateCampaignResponse:
        self.created.append(request)
        if self.break_creates:
            self.break_creates -= 1
            raise Unavailable("the database is busy", reason="DATABASE_BUSY")
        if not request.campaign.content.subject and not request.campaign.template_id:
            raise InvalidArgument(
                [
                    FieldViolation("campaign.content.subject", "is missing: add one"),
                    FieldViolation("campaign.content.from_address", "is missing: add one"),
                ]
            )
        campaign_id = f"{len(self.campaigns):032x}"
        campaign = self.campaigns[campaign_id] = request.campaign
        campaign.campaign_id, campaign.state = campaign_id, State.STATE_DRAFT
        return scheduler_pb2.CreateCampaignResponse(campaign=campaign)

    async def GetCampaign(
        self, request: scheduler_pb2.GetCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.GetCampaignResponse:
        return scheduler_pb2.GetCampaignResponse(campaign=self._existing(request.campaign_id))

    async def ListCampaigns(
        self, request: scheduler_pb2.ListCampaignsRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.ListCampaignsResponse:
        begin = int(request.page_token or 0)
        size = min(request.page_size or 50, 2)  # pages are short, so that tests turn some
        found = list(self.campaigns.values())
        token = str(begin + size) if begin + size < len(found) else ""
        return scheduler_pb2.ListCampaignsResponse(campaigns=found[begin : begin + size], next_page_token=token)

    async def AddRecipients(
        self,
        requests: AsyncIterator[scheduler_pb2.AddRecipientsRequest],
        context: "ServicerContext[object, object]",
    ) -> scheduler_pb2.AddRecipientsResponse:
        answer = scheduler_pb2.AddRecipientsResponse()
        campaign, index = None, 0
        async for request in requests:
            campaign = campaign or self._existing(request.campaign_id)
            self.largest_message = max(self.largest_message, request.ByteSize())
            for recipient in request.recipients:
                self._add(index, recipient, answer)
                index += 1
            campaign.recipient_count = answer.recipient_count = len(self.recipients)
            if self.break_imports:
                self.break_imports -= 1
                raise Unavailable("the scheduler stops", reason="STOPPING")
        return answer

    async def ScheduleCampaign(
        self, request: scheduler_pb2.ScheduleCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.ScheduleCampaignResponse:
        self.scheduled.append(request)
        campaign = self._existing(request.campaign_id)
        campaign.state = State.STATE_SCHEDULED
        return scheduler_pb2.ScheduleCampaignResponse(campaign=campaign, due_times=[request.schedule.send_time])

    async def PauseCampaign(
        self, request: scheduler_pb2.PauseCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.PauseCampaignResponse:
        campaign = self._existing(request.campaign_id)
        if campaign.state != State.STATE_RUNNING:
            raise FailedPrecondition(
                "the campaign is a draft: schedule it first", reason="CAMPAIGN_STATE", metadata={"state": "DRAFT"}
            )
        campaign.state = State.STATE_PAUSED
        return scheduler_pb2.PauseCampaignResponse(campaign=campaign)

    async def ResumeCampaign(
        self, request: scheduler_pb2.ResumeCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.ResumeCampaignResponse:
        raise FailedPrecondition(
            'The campaign "winter" is running and cannot be resumed: pause or cancel it.',
            reason="WRONG_STATE",
            metadata={"state": "RUNNING"},
        )

    async def CancelCampaign(
        self, request: scheduler_pb2.CancelCampaignRequest, context: "ServicerContext[object, object]"
    ) -> scheduler_pb2.CancelCampaignResponse:
        campaign = self._existing(request.campaign_id)
        campaign.state = State.STATE_CANCELLED
        return scheduler_pb2.CancelCampaignResponse(campaign=campaign)

    async def WatchCampaign(
        self, request: scheduler_pb2.WatchCampaignRequest, context: "ServicerContext[object, object]"
    ) -> AsyncIterator[scheduler_pb2.WatchCampaignResponse]:
        campaign = self._existing(request.campaign_id)
        for state in self.streams.pop(0):
            campaign.state = state
            yield scheduler_pb2.WatchCampaignResponse(campaign=campaign, sent_per_second=12.5)
        if self.streams:
            raise Unavailable("the scheduler stops", reason="STOPPING")

    def _existing(self, campaign_id: str) -> scheduler_pb2.Campaign:
        if campaign_id not in self.campaigns:
            raise NotFound(f"there is no campaign {campaign_id}.")
        return self.campaigns[campaign_id]

    def _add(self, index: int, recipient: sender_pb2.Recipient, answer: scheduler_pb2.AddRecipientsResponse) -> None:
        if "@" not in recipient.address:
            answer.rejected_count += 1
            answer.rejected.add(index=index, address=recipient.address, description="no @: write an address")
        elif self.required and self.required not in recipient.variables.fields:
            reason = f"lacks what the templates need: {self.required}; add it to the variables, or give it a default"
            answer.rejected_count += 1
            answer.rejected.add(index=index, address=recipient.address, description=reason)
        elif recipient.address in self.recipients:
            answer.duplicate_count += 1
        else:
            answer.accepted_count += 1
            self.recipients[recipient.address] = recipient
