"""Which deliveries a list shows: the oldest that match, without a look at the millions that do not.

A list is put together from parts that an index holds in order or that are small: one part per run and state. So a page
of a new run, or of the few that failed, takes no longer however many old deliveries lie beside them.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from services.sender.identity import delivery_key, first_key
from services.sender.states import DeliveryState
from services.sender.tables import (
    IS_DEFERRED,
    IS_IN_PROGRESS,
    IS_PENDING,
    IS_TROUBLED,
    IS_WITHOUT_MAIL,
    deliveries,
    run_counts,
    runs,
)

# A page of what an index holds in the order of the ids.
_ORDERED = (
    select(deliveries.c.id)
    .where(deliveries.c.id > bindparam("after"))
    .order_by(deliveries.c.id)
    .limit(bindparam("most"))
)
# A page of what is little enough to be sorted. Written so that SQLite does not go through all ids in order instead.
_SORTED = (
    select(deliveries.c.id)
    .where(deliveries.c.id + 0 > bindparam("after"))
    .order_by(deliveries.c.id + 0)
    .limit(bindparam("most"))
)
_OPEN = {
    DeliveryState.PENDING: IS_PENDING,
    DeliveryState.DEFERRED: IS_DEFERRED,
    DeliveryState.CLAIMED: IS_IN_PROGRESS,
    DeliveryState.DOT_INTENT: IS_IN_PROGRESS,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be listed; what is empty says nothing."""

    run_id: str = ""
    campaign_id: str = ""
    canonical: str = ""
    states: frozenset[DeliveryState] = frozenset()


def read_list(connection: Connection, wanted: Wanted, *, after: int, limit: int) -> Sequence[Row[Any]]:
    """Return up to `limit` deliveries behind the row number `after`, in the order in which they were stored."""
    if wanted.canonical:
        return _of_address(connection, wanted, after=after, limit=limit)
    page = {"after": after, "most": limit}
    ids = [connection.execute(part, page).scalars().all() for part in _parts(connection, wanted)]
    chosen = list(islice(heapq.merge(*ids), limit))
    if not chosen:
        return []
    rows = connection.execute(select(deliveries).where(deliveries.c.id.in_(chosen))).all()
    return sorted(rows, key=lambda row: int(row.id))


def _of_address(connection: Connection, wanted: Wanted, *, after: int, limit: int) -> Sequence[Row[Any]]:
    query = select(deliveries).where(deliveries.c.id > after).order_by(deliveries.c.id).limit(limit)
    if wanted.run_id:
        keys = (delivery_key(wanted.run_id, wanted.canonical), first_key(wanted.run_id, wanted.canonical))
        query = query.where(deliveries.c.delivery_key.in_(keys))
    else:
        query = query.where(deliveries.c.canonical == wanted.canonical)
    if wanted.campaign_id:
        query = query.where(deliveries.c.campaign_id == wanted.campaign_id)
    if wanted.states:
        query = query.where(deliveries.c.state.in_(sorted(wanted.states)))
    return connection.execute(query).all()


def _parts(connection: Connection, wanted: Wanted) -> Iterator[Select[Any]]:
    """Return what selects the ids of each part; no delivery is in two."""
    if not (wanted.run_id or wanted.campaign_id):
        if not wanted.states:
            yield _ORDERED
        yield from map(_in_state, wanted.states)
        return
    for run_id in _runs(connection, wanted):
        if not wanted.states:
            yield _ORDERED.where(deliveries.c.run_id == run_id)
        for state in _present_states(connection, run_id, wanted.states):
            yield _in_state_of_run(run_id, state)


def _runs(connection: Connection, wanted: Wanted) -> Sequence[str]:
    if not wanted.campaign_id:
        return [wanted.run_id]
    query = select(runs.c.run_id).where(runs.c.campaign_id == wanted.campaign_id)
    if wanted.run_id:
        query = query.where(runs.c.run_id == wanted.run_id)
    return connection.execute(query).scalars().all()


def _present_states(connection: Connection, run_id: str, states: frozenset[DeliveryState]) -> Iterator[DeliveryState]:
    """Return those of the states in which the run has deliveries at all: a million need not be looked at for none."""
    if not states:
        return
    found = connection.execute(
        select(run_counts.c.state).where(
            run_counts.c.run_id == run_id, run_counts.c.state.in_(sorted(states)), run_counts.c.delivery_count > 0
        )
    )
    yield from map(DeliveryState, found.scalars())


def _in_state(state: DeliveryState) -> Select[Any]:
    """Return what selects a state over all runs. Nearly all deliveries are sent: these are met in their order."""
    is_in_state = deliveries.c.state == state.value
    if state in _OPEN:
        return _SORTED.where(_OPEN[state], is_in_state)
    if state is DeliveryState.SENT:
        return _ORDERED.where(is_in_state)
    return _ORDERED.where(IS_WITHOUT_MAIL, is_in_state)


def _in_state_of_run(run_id: str, state: DeliveryState) -> Select[Any]:
    of_run, is_in_state = deliveries.c.run_id == run_id, deliveries.c.state == state.value
    match state:
        case DeliveryState.PENDING:
            return _ORDERED.where(IS_PENDING, of_run, is_in_state)
        case DeliveryState.DEFERRED:
            return _SORTED.where(IS_DEFERRED, of_run, is_in_state)
        case DeliveryState.CLAIMED | DeliveryState.DOT_INTENT:
            return _SORTED.where(IS_IN_PROGRESS, deliveries.c.run_id.concat("") == run_id, is_in_state)
        case DeliveryState.SENT | DeliveryState.CANCELLED:
            return _ORDERED.where(of_run, is_in_state)
        case _:
            return _ORDERED.where(IS_TROUBLED, of_run, is_in_state)
