"""After a restore: campaigns stand where their runs stand, so that nothing is sent again by itself.

A snapshot brings campaigns back as they were; the backup service keeps runs that have fired since, and holds those
that were under way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select
from sqlalchemy.orm import aliased

from services.scheduler import campaigns, decisions, runs, tables
from services.scheduler.campaign_states import CampaignState, RunState

_LIFE = "adopted_incarnation"

_newest = aliased(tables.runs)
_known = tables.runs


@dataclass(frozen=True, slots=True)
class Strays:
    """Runs whose campaigns stand elsewhere, oldest first."""

    run_ids: list[str]
    is_new_life: bool
    """Whether this life of the database is seen for the first time."""


def find_strays(connection: Connection, incarnation: str) -> Strays:
    """Return what is to be adopted. All runs are looked at once in each life of the database, later the held ones."""
    life = connection.execute(select(tables.marks.c.value).where(tables.marks.c.name == _LIFE)).scalar_one_or_none()
    is_held_now = and_(
        _newest.c.end_time.is_(None),
        _newest.c.state == RunState.HELD,
        _newest.c.run_id == _known.c.run_id,
        tables.campaigns.c.state != CampaignState.HELD,
    )
    if life == incarnation:
        return Strays(_select(connection, is_held_now), is_new_life=False)
    is_newer = or_(_known.c.run_id.is_(None), _newest.c.slot_time > _known.c.slot_time)
    return Strays(_select(connection, or_(is_newer, is_held_now)), is_new_life=True)


def adopt(connection: Connection, run_ids: Sequence[str], incarnation: str, now: datetime) -> list[str]:
    """Put the campaigns of these runs where the runs stand; returns the ids of the campaigns."""
    moved = []
    for run_id in run_ids:
        run = runs.find(connection, run_id)
        if run is None:
            continue
        campaign = campaigns.existing(connection, run.campaign_id)
        due = campaign.schedule.next_slot(run.slot_time) if campaign.schedule is not None else None
        campaigns.store(connection, replace(campaign, latest_run_id=run_id, next_due_time=due))
        decisions.follow_run(connection, run_id, now)
        moved.append(campaign.campaign_id)
    connection.execute(delete(tables.marks).where(tables.marks.c.name == _LIFE))
    connection.execute(insert(tables.marks).values(name=_LIFE, value=incarnation))
    return moved


def _select(connection: Connection, condition: ColumnElement[bool]) -> list[str]:
    query = (
        select(_newest.c.run_id, _newest.c.slot_time)
        .join(tables.campaigns, tables.campaigns.c.campaign_id == _newest.c.campaign_id)
        .outerjoin(_known, _known.c.run_id == tables.campaigns.c.latest_run_id)
        .where(condition)
    )
    found = connection.execute(query).all()
    return [row.run_id for row in sorted(found, key=lambda row: (row.slot_time, row.run_id))]
