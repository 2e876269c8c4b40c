"""Campaigns in SQL: what goes to whom and when, and where it stands."""

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from mailer.errors import FailedPrecondition, NotFound
from services.scheduler import templates
from services.scheduler.campaign_states import Action, CampaignState, cure, is_allowed
from services.scheduler.schedule import Schedule
from services.scheduler.tables import campaigns
from services.scheduler.templates import dump_names, load_names

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign as it is stored."""

    campaign_id: str
    name: str
    template_id: str = ""
    content: bytes | None = None
    """Serialized MessageContent of its own; None with a template."""
    own_required: tuple[str, ...] = ()
    """Variables that its own content needs; empty with a template."""
    options: bytes = b""
    """Serialized DeliveryOptions."""
    state: CampaignState = CampaignState.DRAFT
    state_reason: str = ""
    schedule: Schedule | None = None
    next_due_time: datetime | None = None
    recipient_count: int = 0
    duplicate_count: int = 0
    last_position: int = 0
    known_variables: tuple[str, ...] = ()
    """Variables that every recipient is known to have."""
    latest_run_id: str = ""
    create_time: datetime
    update_time: datetime

    @property
    def is_recurring(self) -> bool:
        """Say whether it fires more than once."""
        return self.schedule is not None and self.schedule.is_recurring


@dataclass(frozen=True, slots=True)
class Source:
    """What a campaign sends at present: its own content, or its template's."""

    content: bytes
    required_variables: tuple[str, ...]


def existing(connection: Connection, campaign_id: str) -> Campaign:
    """Return the campaign. Raises NotFound."""
    row = connection.execute(select(campaigns).where(campaigns.c.campaign_id == campaign_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no campaign {campaign_id}.", metadata={"campaign_id": campaign_id})
    return _campaign(row)


def allowed(connection: Connection, campaign_id: str, action: Action) -> Campaign:
    """Return the campaign if this may be done to it. Raises NotFound, or FailedPrecondition with the state."""
    campaign = existing(connection, campaign_id)
    if not is_allowed(action, campaign.state):
        raise wrong_state(campaign, action)
    return campaign


def wrong_state(campaign: Campaign, action: Action) -> FailedPrecondition:
    """Return the error that says which state is in the way and what to do about it."""
    return FailedPrecondition(
        f'The campaign "{campaign.name}" is {campaign.state} and cannot be {action}: {cure(campaign.state)}.',
        reason="WRONG_STATE",
        metadata={"campaign_id": campaign.campaign_id, "state": campaign.state.upper()},
    )


def source_of(connection: Connection, campaign: Campaign) -> Source:
    """Return what the campaign sends at present. Raises FailedPrecondition when its template is gone."""
    if campaign.content is not None:
        return Source(campaign.content, campaign.own_required)
    try:
        template = templates.existing(connection, campaign.template_id)
    except NotFound:
        raise FailedPrecondition(
            f'The template of the campaign "{campaign.name}" is gone: give the campaign other content.',
            reason="TEMPLATE_GONE",
            metadata={"campaign_id": campaign.campaign_id, "template_id": campaign.template_id},
        ) from None
    return Source(template.content, template.required_variables)


def page(
    connection: Connection, states: Collection[CampaignState], after: tuple[datetime, str] | None, limit: int
) -> Iterator[Campaign]:
    """Return campaigns, newest first, in one of the states (none: in any)."""
    created, campaign_id = campaigns.c.create_time, campaigns.c.campaign_id
    query = select(campaigns).order_by(created.desc(), campaign_id.desc()).limit(limit)
    if after is not None:
        instant, last_id = after
        query = query.where(created <= instant, or_(created < instant, campaign_id < last_id))
    # An index has each state in order; of several together all would be sorted, however many there are.
    queries = [query.where(campaigns.c.state == state) for state in states] or [query]
    found = [map(_campaign, connection.execute(one)) for one in queries]
    newest_first = heapq.merge(*found, key=lambda one: (one.create_time, one.campaign_id), reverse=True)
    return islice(newest_first, limit)


def create(connection: Connection, campaign: Campaign) -> None:
    """Store a new campaign."""
    connection.execute(insert(campaigns).values(campaign_id=campaign.campaign_id, **_values(campaign)))


def store(connection: Connection, campaign: Campaign) -> None:
    """Store a changed campaign, read in the same transaction."""
    connection.execute(
        update(campaigns).where(campaigns.c.campaign_id == campaign.campaign_id).values(**_values(campaign))
    )


def set_state(
    connection: Connection, campaign_id: str, state: CampaignState, *, reason: str = "", now: datetime
) -> None:
    """Put a campaign into a state; whether it may is decided by the caller in the same transaction."""
    connection.execute(
        update(campaigns)
        .where(campaigns.c.campaign_id == campaign_id)
        .values(state=state, state_reason=reason, update_time=now)
    )


def remove(connection: Connection, campaign_id: str) -> None:
    """Remove a campaign whose runs are removed already."""
    connection.execute(delete(campaigns).where(campaigns.c.campaign_id == campaign_id))


def due(connection: Connection, now: datetime, *, limit: int = 100) -> list[str]:
    """Return the campaigns that are due, longest due first."""
    query = (
        select(campaigns.c.campaign_id)
        .where(campaigns.c.state == CampaignState.SCHEDULED, campaigns.c.next_due_time <= now)
        .order_by(campaigns.c.next_due_time)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def next_due(connection: Connection) -> datetime | None:
    """Return when the next campaign is due, None when none waits."""
    query = (
        select(campaigns.c.next_due_time)
        .where(campaigns.c.state == CampaignState.SCHEDULED, campaigns.c.next_due_time.is_not(None))
        .order_by(campaigns.c.next_due_time)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def _values(campaign: Campaign) -> dict[str, Any]:
    schedule = campaign.schedule or Schedule(max_lateness=timedelta())
    return {
        "name": campaign.name,
        "template_id": campaign.template_id,
        "content": campaign.content,
        "required_variables": dump_names(campaign.own_required),
        "options": campaign.options,
        "state": campaign.state,
        "state_reason": campaign.state_reason,
        "send_time": schedule.send_time,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "max_lateness": schedule.max_lateness // _MICROSECOND,
        "next_due_time": campaign.next_due_time,
        "recipient_count": campaign.recipient_count,
        "duplicate_count": campaign.duplicate_count,
        "last_position": campaign.last_position,
        "known_variables": dump_names(campaign.known_variables),
        "latest_run_id": campaign.latest_run_id,
        "create_time": campaign.create_time,
        "update_time": campaign.update_time,
    }


def _campaign(row: Row[Any]) -> Campaign:
    schedule = None
    if row.send_time is not None or row.cron:
        lateness = row.max_lateness * _MICROSECOND
        schedule = Schedule(row.send_time, row.cron, row.time_zone, lateness)
    return Campaign(
        campaign_id=row.campaign_id,
        name=row.name,
        template_id=row.template_id,
        content=None if row.content is None else bytes(row.content),
        own_required=load_names(row.required_variables),
        options=bytes(row.options),
        state=CampaignState(row.state),
        state_reason=row.state_reason,
        schedule=schedule,
        next_due_time=row.next_due_time,
        recipient_count=row.recipient_count,
        duplicate_count=row.duplicate_count,
        last_position=row.last_position,
        known_variables=load_names(row.known_variables),
        latest_run_id=row.latest_run_id,
        create_time=row.create_time,
        update_time=row.update_time,
    )
