"""Lists of deliveries: whatever is asked for, all of it comes, page by page, in the order in which it was stored."""

from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from mailer.v1 import sender_pb2
from services.sender.counts import Changes
from services.sender.tables import deliveries
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service

RUNS = {"monday": "weekly", "tuesday": "weekly", "direct": ""}
PEOPLE = [f"p{number}@one.example" for number in range(20)]
STATES = [number for number in sender_pb2.DeliveryState.values() if number]


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SenderService]:
    """Return a sender without an account, with deliveries in every state, those of several runs in turn."""
    async with sender_service(tmp_path, clock) as running:
        for start, (run_id, campaign_id) in product(range(0, len(PEOPLE), 5), RUNS.items()):
            await running.send(*PEOPLE[start : start + 5], run_id=run_id, campaign_id=campaign_id)
        await running.database.write(spread)
        yield running


def spread(connection: Connection) -> None:
    """Put each delivery into the next state."""
    changes = Changes()
    for row_id, run_id, before in connection.execute(
        select(deliveries.c.id, deliveries.c.run_id, deliveries.c.state)
    ).all():
        name = sender_pb2.DeliveryState.Name(STATES[row_id % len(STATES)]).removeprefix("DELIVERY_STATE_").lower()
        connection.execute(update(deliveries).where(deliveries.c.id == row_id).values(state=name))
        changes.add(run_id, before, name)
    changes.apply(connection)


async def every_page(sender: SenderService, request: sender_pb2.ListDeliveriesRequest) -> list[str]:
    shown = []
    while True:
        page = await sender.stub.ListDeliveries(request, timeout=5)
        shown += [one.delivery_id for one in page.deliveries]
        request.page_token = page.next_page_token
        if not request.page_token:
            return shown


async def test_pages_together_show_what_was_asked_for_in_its_order(sender: SenderService) -> None:
    everything = (
        await sender.stub.ListDeliveries(sender_pb2.ListDeliveriesRequest(page_size=1000), timeout=5)
    ).deliveries
    assert len(everything) == len(RUNS) * len(PEOPLE)
    wanted_states = [STATES[:0], *([state] for state in STATES), STATES[2:7], STATES]
    for run_id, campaign_id, address, states in product(("", "monday"), ("", "weekly"), ("", PEOPLE[3]), wanted_states):
        expected = [
            one.delivery_id
            for one in everything
            if run_id in {"", one.run_id}
            and campaign_id in {"", one.campaign_id}
            and address in {"", one.address}
            and (not states or one.state in states)
        ]
        request = sender_pb2.ListDeliveriesRequest(
            run_id=run_id, campaign_id=campaign_id, address=address, states=states, page_size=3
        )
        assert await every_page(sender, request) == expected, request
