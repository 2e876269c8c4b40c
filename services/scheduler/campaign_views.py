"""Campaigns as they are shown: with their latest run and how its deliveries stand at this moment."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from mailer.database import Database
from mailer.v1 import scheduler_pb2
from services.scheduler import campaigns, runs, templates
from services.scheduler.campaign_message import to_campaign
from services.scheduler.campaigns import Campaign
from services.scheduler.progress import Progress
from services.scheduler.runs import Run


@dataclass(frozen=True, slots=True)
class View:
    """A campaign, its latest run, and the variables it needs."""

    campaign: Campaign
    run: Run | None
    required_variables: tuple[str, ...]


class CampaignViews:
    """Reads campaigns for whoever shows them."""

    def __init__(self, database: Database, progress: Progress) -> None:
        """Take the books and what is heard from the sender."""
        self._database = database
        self._progress = progress

    async def present(self, campaign_id: str) -> scheduler_pb2.Campaign:
        """Return a campaign as it stands now. Raises NotFound."""
        view = await self._database.read(read_view, campaign_id)
        counts = None
        if view.run is not None and view.run.is_known_better_by_the_sender:
            counts = await self._progress.counts(view.run.run_id)
        return to_campaign(view.campaign, view.run, view.required_variables, counts)

    async def stored(self, campaign_id: str) -> scheduler_pb2.Campaign:
        """Return a campaign as it is stored, without asking the sender. Raises NotFound."""
        view = await self._database.read(read_view, campaign_id)
        known = view.run is not None and view.run.is_known_better_by_the_sender
        counts = self._progress.last_heard(view.run.run_id) if view.run is not None and known else None
        return to_campaign(view.campaign, view.run, view.required_variables, counts)

    async def correct_held(self, shown: Iterable[scheduler_pb2.CampaignRun]) -> None:
        """Let held runs show how their deliveries stand at the sender: the snapshot they came from knows less.

        Nobody follows a held run, so nothing else brings their counts up to date.
        """
        held = [run for run in shown if run.state == scheduler_pb2.CampaignRun.STATE_HELD]
        heard = await asyncio.gather(*(self._progress.counts(run.run_id) for run in held))
        for run, counts in zip(held, heard, strict=True):
            if counts is not None:
                run.counts.CopyFrom(counts)


def read_view(connection: Connection, campaign_id: str) -> View:
    """Return a campaign with what belongs to it. Raises NotFound."""
    return view_of(connection, campaigns.existing(connection, campaign_id))


def stored_view(connection: Connection, campaign_id: str) -> scheduler_pb2.Campaign:
    """Return a campaign for the answer of the transaction that changed it."""
    view = read_view(connection, campaign_id)
    return to_campaign(view.campaign, view.run, view.required_variables)


def view_of(connection: Connection, campaign: Campaign) -> View:
    """Return a campaign with what belongs to it."""
    required = campaign.own_required
    if campaign.content is None:
        required = templates.required_of(connection, campaign.template_id)
    run = runs.find(connection, campaign.latest_run_id) if campaign.latest_run_id else None
    return View(campaign, run, required)
