"""Recipients of campaigns in SQL: added in groups, read in the order in which they were added."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, select

from services.scheduler import campaigns
from services.scheduler.campaign_states import Action
from services.scheduler.tables import recipients


class Recipient(NamedTuple):
    """One person a campaign goes to; variables as they travel (serialized Struct)."""

    position: int
    address: str
    display_name: str
    variables: bytes


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """A recipient that was checked and may be stored."""

    address: str
    canonical: str
    display_name: str
    variables: bytes


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a group."""

    accepted_count: int
    duplicate_count: int
    recipient_count: int
    """Recipients the campaign has now."""


def add(
    connection: Connection,
    campaign_id: str,
    group: Sequence[NewRecipient],
    *,
    checked_for: Sequence[str],
    now: datetime,
) -> Added:
    """Store a group; addresses that the campaign has already are dropped and counted.

    `checked_for` names the variables that each of the group is known to have. Raises NotFound, or
    FailedPrecondition when the campaign is past taking recipients.
    """
    campaign = campaigns.allowed(connection, campaign_id, Action.ADD_RECIPIENTS)
    accepted = _insert(connection, campaign_id, campaign.last_position + 1, group) if group else 0
    known = set(checked_for)
    if campaign.recipient_count:
        known &= set(campaign.known_variables)
    changed = replace(
        campaign,
        recipient_count=campaign.recipient_count + accepted,
        duplicate_count=campaign.duplicate_count + len(group) - accepted,
        last_position=campaign.last_position + len(group),
        known_variables=tuple(sorted(known)) if accepted else campaign.known_variables,
        update_time=now,
    )
    if group:
        campaigns.store(connection, changed)
    return Added(accepted, len(group) - accepted, changed.recipient_count)


def read_after(connection: Connection, campaign_id: str, position: int, limit: int) -> list[Recipient]:
    """Return recipients behind a position, in their order."""
    query = (
        _QUERY.where(recipients.c.campaign_id == campaign_id, recipients.c.position > position)
        .order_by(recipients.c.position)
        .limit(limit)
    )
    return list(map(Recipient._make, connection.execute(query)))


def read_one(connection: Connection, campaign_id: str, canonical: str) -> Recipient | None:
    """Return the recipient with this address; with an empty one, the first of the campaign."""
    if not canonical:
        return next(iter(read_after(connection, campaign_id, 0, 1)), None)
    row = connection.execute(
        _QUERY.where(recipients.c.campaign_id == campaign_id, recipients.c.canonical == canonical)
    ).one_or_none()
    return None if row is None else Recipient._make(row)


def remove_some(connection: Connection, campaign_id: str, *, limit: int = 5000) -> int:
    """Remove the first recipients of a deleted campaign, so many at once that nobody waits long."""
    last = connection.execute(
        select(recipients.c.position)
        .where(recipients.c.campaign_id == campaign_id)
        .order_by(recipients.c.position)
        .limit(1)
        .offset(limit - 1)
    ).scalar_one_or_none()
    query = delete(recipients).where(recipients.c.campaign_id == campaign_id)
    if last is not None:
        query = query.where(recipients.c.position <= last)
    return connection.execute(query).rowcount


def _insert(connection: Connection, campaign_id: str, position: int, group: Sequence[NewRecipient]) -> int:
    """Insert those whose address is new; returns how many that were."""
    # Straight to the driver: with 100,000 rows the way through SQLAlchemy's parameters is half of the time.
    statement = _INSERT if connection.dialect.name == "sqlite" else _INSERT.replace("?", "%s")
    rows = [
        (campaign_id, place, one.address, one.canonical, one.display_name, one.variables)
        for place, one in enumerate(group, position)
    ]
    return int(connection.exec_driver_sql(statement, rows).rowcount)


_INSERT = (
    "INSERT INTO recipients (campaign_id, position, address, canonical, display_name, variables)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (campaign_id, canonical) DO NOTHING"
)

_QUERY: Select[Any] = select(
    recipients.c.position, recipients.c.address, recipients.c.display_name, recipients.c.variables
)
