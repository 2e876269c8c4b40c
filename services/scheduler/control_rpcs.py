"""The methods that decide: schedule, pause, resume, cancel, retry what failed.

What is decided is stored first and told to the sender after: a crash in between loses nothing.
"""

from dataclasses import replace
from datetime import datetime

import grpc
from sqlalchemy import Connection

from mailer.client import readable
from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FailedPrecondition, Unavailable
from mailer.idempotency import request_key, run_once, stored_response
from mailer.interceptor import Context
from mailer.requests import check_id, check_new_request_id, check_reason, require_id
from mailer.v1 import scheduler_pb2, sender_pb2, sender_pb2_grpc
from mailer.validation import Violations
from mailer.wire import to_timestamp
from services.scheduler import campaigns, decisions, runs, tables
from services.scheduler.campaign_message import read_schedule, to_campaign
from services.scheduler.campaign_states import Action, CampaignState
from services.scheduler.campaign_views import CampaignViews, stored_view
from services.scheduler.campaigns import Campaign
from services.scheduler.engine import Engine
from services.scheduler.firing import BatchLimits
from services.scheduler.lacking import check_variables_of_all
from services.scheduler.schedule import Schedule, check_schedule

CALL_SECONDS = 10.0
# A hint to the sender beside the decision, which is stored already.
HINT_SECONDS = 1.0


class ControlRpcs:
    """ScheduleCampaign, PauseCampaign, ResumeCampaign, CancelCampaign, RetryFailed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        sender: "sender_pb2_grpc.SenderAsyncStub",
        *,
        engine: Engine,
        views: CampaignViews,
        limits: BatchLimits,
    ) -> None:
        """Take what the methods need."""
        self._database = database
        self._clock = clock
        self._sender = sender
        self._engine = engine
        self._views = views
        self._limits = limits

    async def ScheduleCampaign(
        self, request: scheduler_pb2.ScheduleCampaignRequest, context: Context
    ) -> scheduler_pb2.ScheduleCampaignResponse:
        """Schedule a draft, or move a scheduled campaign."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        key = request_key("ScheduleCampaign", request, request.request_id)
        # First of all: a repeated call finds the time of day and the campaign's state changed.
        if not violations:
            stored = await self._database.read(stored_response, tables.requests, key)
            if stored is not None:
                return scheduler_pb2.ScheduleCampaignResponse.FromString(stored)
        check_id(request.campaign_id, violations, field="campaign_id")
        now = self._clock.now()
        schedule, problems = check_schedule(read_schedule(request.schedule, violations), now)
        for field, problem in problems:
            violations.add(f"schedule.{field}", problem)
        violations.raise_if_any()
        if not schedule.is_recurring and schedule.send_time is None:
            schedule = replace(schedule, send_time=now)
        required = await self._database.read(check_variables_of_all, request.campaign_id)

        def effect(connection: Connection) -> scheduler_pb2.ScheduleCampaignResponse:
            return _schedule(connection, request.campaign_id, schedule, required, now, change=not request.validate_only)

        if request.validate_only:
            return await self._database.read(effect)
        answer = await self._database.write(
            run_once,
            tables.requests,
            key,
            effect,
            response_type=scheduler_pb2.ScheduleCampaignResponse,
            now=now,
        )
        self._engine.wake()
        return answer

    async def PauseCampaign(
        self, request: scheduler_pb2.PauseCampaignRequest, context: Context
    ) -> scheduler_pb2.PauseCampaignResponse:
        """Stop a campaign."""
        violations = Violations()
        check_id(request.campaign_id, violations, field="campaign_id")
        check_reason(request.reason, violations)
        violations.raise_if_any()
        campaign = await self._database.write(decisions.pause, request.campaign_id, request.reason, self._clock.now())
        await self._tell(campaign)
        return scheduler_pb2.PauseCampaignResponse(campaign=await self._views.stored(request.campaign_id))

    async def ResumeCampaign(
        self, request: scheduler_pb2.ResumeCampaignRequest, context: Context
    ) -> scheduler_pb2.ResumeCampaignResponse:
        """Let a campaign go on."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        await self._database.write(decisions.resume, campaign_id, self._clock.now(), self._limits)
        self._engine.wake()
        return scheduler_pb2.ResumeCampaignResponse(campaign=await self._views.stored(campaign_id))

    async def CancelCampaign(
        self, request: scheduler_pb2.CancelCampaignRequest, context: Context
    ) -> scheduler_pb2.CancelCampaignResponse:
        """Cancel a campaign for good."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        campaign = await self._database.write(decisions.cancel, campaign_id, self._clock.now())
        await self._tell(campaign)
        return scheduler_pb2.CancelCampaignResponse(campaign=await self._views.stored(campaign_id))

    async def RetryFailed(
        self, request: scheduler_pb2.RetryFailedRequest, context: Context
    ) -> scheduler_pb2.RetryFailedResponse:
        """Send again to those whose delivery failed."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_id(request.campaign_id, violations, field="campaign_id")
        violations.raise_if_any()
        key = request_key("RetryFailed", request, request.request_id)
        stored = await self._database.read(stored_response, tables.requests, key)
        if stored is not None:
            return scheduler_pb2.RetryFailedResponse.FromString(stored)
        # Opened first: if this process dies after the sender's answer, the run is followed all the same.
        run = await self._database.write(decisions.begin_retry, request.campaign_id, self._clock.now())
        retry = sender_pb2.RetryRunRequest(
            request_id=f"retry:{run.run_id}:{key.digest.hex()[:32]}",
            run_id=run.run_id,
            include_expired=request.include_expired,
        )
        try:
            retried = (await self._sender.RetryRun(retry, timeout=CALL_SECONDS)).retried_count
        except grpc.aio.AioRpcError as error:
            raise _not_retried(error) from error

        def effect(connection: Connection) -> scheduler_pb2.RetryFailedResponse:
            # Again: the run may have been seen with nothing open, and closed, before the sender had requeued.
            decisions.begin_retry(connection, request.campaign_id, self._clock.now())
            return scheduler_pb2.RetryFailedResponse(
                campaign=stored_view(connection, request.campaign_id), retried_count=retried
            )

        answer = await self._database.write(
            run_once,
            tables.requests,
            key,
            effect,
            response_type=scheduler_pb2.RetryFailedResponse,
            now=self._clock.now(),
        )
        self._engine.wake()
        return answer

    async def _tell(self, campaign: Campaign) -> None:
        """See to it that the sender hears of a decision at once."""
        self._engine.wake()
        if self._engine.leading or not campaign.latest_run_id:
            return
        # The scheduler that leads finds the decision at its next poll; the sender need not wait for that.
        run = await self._database.read(runs.find, campaign.latest_run_id)
        if run is None or run.told == run.wanted or not run.needs_work:
            return
        try:
            if run.wanted == runs.CANCELLED:
                await self._sender.CancelRun(sender_pb2.CancelRunRequest(run_id=run.run_id), timeout=HINT_SECONDS)
            elif run.wanted == runs.PAUSED:
                await self._sender.PauseRun(
                    sender_pb2.PauseRunRequest(run_id=run.run_id, reason=run.state_reason[:500]),
                    timeout=HINT_SECONDS,
                )
        except grpc.aio.AioRpcError:
            return


def _schedule(
    connection: Connection,
    campaign_id: str,
    schedule: Schedule,
    checked_for: frozenset[str],
    now: datetime,
    *,
    change: bool,
) -> scheduler_pb2.ScheduleCampaignResponse:
    campaign = campaigns.allowed(connection, campaign_id, Action.SCHEDULE)
    source = campaigns.source_of(connection, campaign)
    if not campaign.recipient_count:
        raise FailedPrecondition(
            f'The campaign "{campaign.name}" has no recipients: add some with AddRecipients first.',
            reason="NO_RECIPIENTS",
            metadata={"campaign_id": campaign_id, "state": campaign.state.upper()},
        )
    if not checked_for >= set(source.required_variables):
        raise Unavailable(
            "The content was changed at the same moment; nothing was done, try again.", reason="CHANGED_MEANWHILE"
        )
    due_times = schedule.due_times(now)
    changed = replace(
        campaign,
        state=CampaignState.SCHEDULED,
        state_reason="",
        schedule=schedule,
        next_due_time=schedule.first_due(now),
        known_variables=tuple(sorted({*campaign.known_variables, *source.required_variables})),
        update_time=now,
    )
    if change:
        campaigns.store(connection, changed)
    run = runs.find(connection, campaign.latest_run_id) if campaign.latest_run_id else None
    return scheduler_pb2.ScheduleCampaignResponse(
        campaign=to_campaign(changed, run, source.required_variables),
        due_times=map(to_timestamp, due_times),
    )


def _not_retried(error: grpc.aio.AioRpcError) -> Exception:
    sentence = readable(error, target="the sender")
    if error.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}:
        return FailedPrecondition(f"The sender cannot retry this run: {sentence}", reason="NOT_RETRIED")
    return Unavailable(f"The sender did not take the retry: {sentence}", reason="SENDER_UNAVAILABLE")
