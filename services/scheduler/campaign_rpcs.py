"""The methods that keep campaigns: create, read, list, change, delete, and the runs they had."""

from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.delivery_options import check_options
from mailer.errors import FieldViolation
from mailer.idempotency import request_key, run_once
from mailer.interceptor import Context
from mailer.pagination import Key, Page, read_page
from mailer.requests import check_id, check_new_request_id, require_id
from mailer.v1 import scheduler_pb2
from mailer.validation import Violations, updated_paths
from services.scheduler import campaigns, decisions, runs, templates
from services.scheduler.campaign_message import read_states, to_campaign, to_run
from services.scheduler.campaign_states import Action, CampaignState
from services.scheduler.campaign_views import CampaignViews, View, stored_view, view_of
from services.scheduler.campaigns import Campaign
from services.scheduler.content import check_content
from services.scheduler.pages import after_instant, instant_key
from services.scheduler.requests import check_name, refuse_output_only
from services.scheduler.tables import requests

MOST_NAME_CHARACTERS = 200

_UPDATABLE = ("name", "template_id", "content", "options")
_OUTPUT_ONLY = (
    "campaign_id",
    "state",
    "state_reason",
    "schedule",
    "next_due_time",
    "recipient_count",
    "duplicate_count",
    "latest_run",
    "required_variables",
    "create_time",
    "update_time",
)


class CampaignRpcs:
    """CreateCampaign, GetCampaign, ListCampaigns, UpdateCampaign, DeleteCampaign, ListRuns."""

    def __init__(self, database: Database, clock: Clock, views: CampaignViews) -> None:
        """Take what the methods need."""
        self._database = database
        self._clock = clock
        self._views = views

    async def CreateCampaign(
        self, request: scheduler_pb2.CreateCampaignRequest, context: Context
    ) -> scheduler_pb2.CreateCampaignResponse:
        """Store a campaign as a draft."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        refuse_output_only(request.campaign, _OUTPUT_ONLY, violations, prefix="campaign")
        now = self._clock.now()
        blank = Campaign(campaign_id=uuid4().hex, name="", create_time=now, update_time=now)
        if request.campaign.WhichOneof("source") is None:
            violations.add("campaign.content", "is missing: give content, or the template_id of a template")
        given = ("name", "options", request.campaign.WhichOneof("source") or "")
        campaign = _changed(blank, request.campaign, frozenset(given), violations)
        violations.raise_if_any()

        def effect(connection: Connection) -> scheduler_pb2.CreateCampaignResponse:
            _check_template(connection, campaign)
            campaigns.create(connection, campaign)
            return scheduler_pb2.CreateCampaignResponse(campaign=stored_view(connection, campaign.campaign_id))

        return await self._database.write(
            run_once,
            requests,
            request_key("CreateCampaign", request, request.request_id),
            effect,
            response_type=scheduler_pb2.CreateCampaignResponse,
            now=now,
        )

    async def GetCampaign(
        self, request: scheduler_pb2.GetCampaignRequest, context: Context
    ) -> scheduler_pb2.GetCampaignResponse:
        """Return a campaign with the progress of its latest run."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        return scheduler_pb2.GetCampaignResponse(campaign=await self._views.present(campaign_id))

    async def ListCampaigns(
        self, request: scheduler_pb2.ListCampaignsRequest, context: Context
    ) -> scheduler_pb2.ListCampaignsResponse:
        """List campaigns, newest first; progress is as last heard, of held runs as the sender says."""
        violations = Violations()
        states = read_states(request.states, violations)
        page = read_page(
            request.page_size,
            request.page_token,
            violations,
            method="ListCampaigns",
            filters=sorted(states),
            key=(int, str),
        )
        after = after_instant(page, violations)
        violations.raise_if_any()
        shown, token = await self._database.read(_list, states, page, after)
        await self._views.correct_held(one.latest_run for one in shown)
        return scheduler_pb2.ListCampaignsResponse(campaigns=shown, next_page_token=token)

    async def UpdateCampaign(
        self, request: scheduler_pb2.UpdateCampaignRequest, context: Context
    ) -> scheduler_pb2.UpdateCampaignResponse:
        """Change what the mask names, while nothing of the campaign is under way."""
        violations = Violations()
        check_id(request.campaign.campaign_id, violations, field="campaign.campaign_id")
        has_id = not violations
        paths = updated_paths(request.update_mask, violations, updatable=_UPDATABLE, output_only=_OUTPUT_ONLY)
        if {"template_id", "content"} <= paths:
            violations.add("update_mask", "name template_id or content, a campaign has only one of them")
            paths -= {"template_id", "content"}
        if not has_id:
            violations.raise_if_any()
        changed = await self._database.write(self._update, request.campaign, paths, tuple(violations))
        return scheduler_pb2.UpdateCampaignResponse(campaign=changed)

    async def DeleteCampaign(
        self, request: scheduler_pb2.DeleteCampaignRequest, context: Context
    ) -> scheduler_pb2.DeleteCampaignResponse:
        """Remove a campaign with its recipients and runs."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        await self._database.write(decisions.begin_removal, campaign_id, self._clock.now())
        # In groups, so that nobody else's write waits for a million rows. Cut short, it can be called again.
        while not await self._database.write(decisions.remove_some, campaign_id):
            pass
        return scheduler_pb2.DeleteCampaignResponse()

    async def ListRuns(
        self, request: scheduler_pb2.ListRunsRequest, context: Context
    ) -> scheduler_pb2.ListRunsResponse:
        """List the runs of a campaign, newest first."""
        violations = Violations()
        check_id(request.campaign_id, violations, field="campaign_id")
        page = read_page(
            request.page_size,
            request.page_token,
            violations,
            method="ListRuns",
            filters=[request.campaign_id],
            key=(int, str),
        )
        after = after_instant(page, violations)
        violations.raise_if_any()
        rows = await self._database.read(_read_runs, request.campaign_id, after, page.limit)
        shown, token = page.cut(rows, lambda run: instant_key(run.slot_time, run.run_id))
        listed = [to_run(run) for run in shown]
        await self._views.correct_held(listed)
        return scheduler_pb2.ListRunsResponse(runs=listed, next_page_token=token)

    def _update(
        self,
        connection: Connection,
        given: scheduler_pb2.Campaign,
        paths: frozenset[str],
        found: tuple[FieldViolation, ...],
    ) -> scheduler_pb2.Campaign:
        """Store what the paths name, unless something is wrong with it or was `found` to be wrong before."""
        stored = campaigns.allowed(connection, given.campaign_id, Action.CHANGE)
        violations = Violations(found)
        changed = _changed(stored, given, paths, violations)
        violations.raise_if_any()
        _check_template(connection, changed)
        campaigns.store(connection, replace(changed, update_time=self._clock.now()))
        return stored_view(connection, given.campaign_id)


def _changed(
    campaign: Campaign, given: scheduler_pb2.Campaign, paths: frozenset[str], violations: Violations
) -> Campaign:
    """Return the campaign with these fields taken from the given one; what is wrong with them is noted."""
    if "name" in paths:
        check_name(given.name, violations, field="campaign.name", most=MOST_NAME_CHARACTERS)
        campaign = replace(campaign, name=given.name)
    if "options" in paths:
        check_options(given.options, violations, field="campaign.options")
        campaign = replace(campaign, options=given.options.SerializeToString(deterministic=True))
    if "template_id" in paths:
        check_id(given.template_id, violations, field="campaign.template_id")
        campaign = replace(campaign, template_id=given.template_id, content=None, own_required=())
    if "content" in paths:
        checked = check_content(given.content, violations, field="campaign.content")
        if checked is not None:
            campaign = replace(
                campaign, template_id="", content=checked.serialized, own_required=checked.required_variables
            )
    return campaign


def _check_template(connection: Connection, campaign: Campaign) -> None:
    if campaign.content is None:
        templates.existing(connection, campaign.template_id)


def _list(
    connection: Connection,
    states: frozenset[CampaignState],
    page: Page,
    after: tuple[datetime, str] | None,
) -> tuple[list[scheduler_pb2.Campaign], str]:
    found = campaigns.page(connection, states, after, page.limit)
    return page.fill((view_of(connection, one) for one in found), _key_of_view, _to_listed)


def _read_runs(
    connection: Connection, campaign_id: str, after: tuple[datetime, str] | None, limit: int
) -> list[runs.Run]:
    campaigns.existing(connection, campaign_id)
    return runs.page(connection, campaign_id, after, limit)


def _key_of_view(view: View) -> Key:
    return instant_key(view.campaign.create_time, view.campaign.campaign_id)


def _to_listed(view: View) -> scheduler_pb2.Campaign:
    return to_campaign(view.campaign, view.run, view.required_variables, whole=False)
