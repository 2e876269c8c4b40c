"""The wall clock is set two hours forward and back: nobody gets two copies, and nothing waits for ever."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Drop, SmtpServer, greylist

PEOPLE = sorted(f"p{number:02}@d{number % 7}.example" for number in range(40))
HOURS = 3600


async def finish(sender: SenderService, *, hours: float) -> None:
    """Let that much time pass; then everything has been tried, and only the network may need another moment."""
    for _ in range(int(hours * HOURS / 30)):
        if (await sender.run()).state == sender_pb2.Run.STATE_DONE:
            return
        await sender.advance(30)
        await sender.tick()
    await sender.done()


def recipients(server: SmtpServer) -> list[str]:
    return sorted(mail.recipients[0] for mail in server.accepted)


@pytest.mark.parametrize("step", [2 * HOURS, -2 * HOURS])
async def test_a_step_while_messages_go_out(
    sender: SenderService, server: SmtpServer, clock: FakeClock, step: int
) -> None:
    await sender.send(*PEOPLE[:20])
    await server.received(5)
    clock.step_wall_clock(step)
    await sender.send(*PEOPLE[20:])
    await sender.done()
    assert recipients(server) == PEOPLE


@pytest.mark.parametrize(("step", "hours"), [(2 * HOURS, 0.2), (-2 * HOURS, 2.3)])
async def test_a_step_while_messages_are_deferred(
    sender: SenderService, server: SmtpServer, clock: FakeClock, step: int, hours: float
) -> None:
    server.on("RCPT", greylist())
    await sender.send(*PEOPLE)
    await sender.until(lambda run: run.counts.deferred_count == len(PEOPLE))
    clock.step_wall_clock(step)
    await finish(sender, hours=hours)
    assert recipients(server) == PEOPLE


@pytest.mark.parametrize("step", [2 * HOURS, -2 * HOURS])
async def test_a_step_while_a_circuit_is_open_does_not_make_minutes_into_hours(
    sender: SenderService, server: SmtpServer, clock: FakeClock, step: int
) -> None:
    server.on("GREETING", Drop())
    await sender.send(*PEOPLE)
    await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED and not run.counts.in_progress_count)
    clock.step_wall_clock(step)
    server.reset()
    await finish(sender, hours=1)
    assert recipients(server) == PEOPLE


@pytest.mark.parametrize("step", [2 * HOURS, -2 * HOURS])
async def test_a_step_does_not_make_a_living_worker_dead(
    tmp_path: Path, sender: SenderService, server: SmtpServer, clock: FakeClock, step: int
) -> None:
    async with sender_service(tmp_path, clock):
        await sender.send(*PEOPLE)
        await server.received(5)
        clock.step_wall_clock(step)
        await sender.advance(5)
        await sender.done()
    assert recipients(server) == PEOPLE
    assert {one.possible_duplicate for one in (await sender.deliveries()).values()} == {False}
