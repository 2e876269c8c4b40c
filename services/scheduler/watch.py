"""WatchCampaign: one look per campaign and moment, however many watch."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mailer.clock import Clock
from mailer.interceptor import Context
from mailer.requests import require_id
from mailer.v1 import scheduler_pb2
from mailer.wire import to_timestamp
from services.scheduler.campaign_message import leave_out_files
from services.scheduler.campaign_views import CampaignViews
from services.scheduler.rate import RateMeter, expected_finish

# At most four messages a second; what another process changes is seen within a second.
SHORTEST_SECONDS = 0.25
IDLE_SECONDS = 1.0

_Campaign = scheduler_pb2.Campaign
_OVER = frozenset({_Campaign.STATE_FINISHED, _Campaign.STATE_CANCELLED})


@dataclass(slots=True)
class Feed:
    """What the watchers of one campaign share: the newest message, its number, and how long nothing changed."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0
    message: scheduler_pb2.WatchCampaignResponse = field(default_factory=scheduler_pb2.WatchCampaignResponse)
    looked_at: float = float("-inf")
    looking: "asyncio.Task[None] | None" = None
    meter: RateMeter = field(default_factory=RateMeter)
    watchers: int = 0


class WatchRpc:
    """WatchCampaign."""

    def __init__(self, views: CampaignViews, clock: Clock) -> None:
        """Take what shows campaigns."""
        self._views = views
        self._clock = clock
        self._feeds: dict[str, Feed] = {}

    def changed(self, campaign_id: str) -> None:
        """Look again at once, if anybody watches."""
        feed = self._feeds.get(campaign_id)
        if feed is not None:
            feed.changed.set()

    async def WatchCampaign(
        self, request: scheduler_pb2.WatchCampaignRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.WatchCampaignResponse]:
        """Yield a campaign at once and after each change, until it is over."""
        campaign_id = require_id(request.campaign_id, field="campaign_id")
        feed = self._feeds.setdefault(campaign_id, Feed())
        feed.watchers += 1
        try:
            shown = 0
            while True:
                await self._look(campaign_id, feed)
                if feed.number != shown:
                    shown = feed.number
                    yield feed.message
                if _is_over(feed.message.campaign):
                    return
                await self._pause(feed)
        finally:
            feed.watchers -= 1
            if feed.watchers == 0 and self._feeds.get(campaign_id) is feed:
                del self._feeds[campaign_id]

    async def _look(self, campaign_id: str, feed: Feed) -> None:
        """See to it that the feed is fresh; of those who ask at the same time one looks."""
        if feed.number and self._clock.monotonic() - feed.looked_at < SHORTEST_SECONDS / 2:
            return
        if feed.looking is None:
            feed.looking = asyncio.create_task(self._look_once(campaign_id, feed))
        looking = feed.looking
        await asyncio.shield(looking)

    async def _look_once(self, campaign_id: str, feed: Feed) -> None:
        try:
            feed.changed.clear()
            campaign = await self._views.present(campaign_id)
            leave_out_files(campaign.content)
            now = self._clock.monotonic()
            counts = campaign.latest_run.counts
            feed.meter.add(now, counts.sent_count)
            message = scheduler_pb2.WatchCampaignResponse(
                campaign=campaign, sent_per_second=round(feed.meter.per_second(), 2)
            )
            if campaign.state == _Campaign.STATE_RUNNING:
                left = _remaining(campaign)
                finish = expected_finish(self._clock.now(), left, message.sent_per_second)
                if finish is not None:
                    message.expected_finish_time.CopyFrom(to_timestamp(finish))
            feed.looked_at = now
            if feed.number == 0 or _differs(message, feed.message):
                feed.message = message
                feed.number += 1
        finally:
            feed.looking = None

    async def _pause(self, feed: Feed) -> None:
        await self._clock.sleep(SHORTEST_SECONDS)
        if feed.message.campaign.state != _Campaign.STATE_RUNNING:
            await self._clock.wait(feed.changed, IDLE_SECONDS - SHORTEST_SECONDS)


def _is_over(campaign: scheduler_pb2.Campaign) -> bool:
    """Say whether nothing more comes: also the last deliveries of a cancelled campaign are counted."""
    return campaign.state in _OVER and (not campaign.HasField("latest_run") or campaign.latest_run.HasField("end_time"))


def _remaining(campaign: scheduler_pb2.Campaign) -> int:
    run, counts = campaign.latest_run, campaign.latest_run.counts
    under_way = counts.pending_count + counts.in_progress_count + counts.deferred_count
    return under_way + run.recipient_count - run.dispatched_count


def _differs(new: scheduler_pb2.WatchCampaignResponse, old: scheduler_pb2.WatchCampaignResponse) -> bool:
    """Say whether there is news; an estimate that moves with the clock alone is none."""
    return new.campaign != old.campaign or new.sent_per_second != old.sent_per_second
