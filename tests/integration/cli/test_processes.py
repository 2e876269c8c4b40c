"""The services as child processes: real processes, a real health service."""

import asyncio
import os
import signal
import sys

import pytest

from mailer.cli.processes import Ended, Planned, Process, supervise
from mailer.cli.up import free_port
from mailer.clock import SystemClock

CLOCK = SystemClock()


class Stage:
    """Starts processes, and remembers what they said."""

    def __init__(self) -> None:
        self.port = free_port()
        self.lines: list[tuple[str, str]] = []
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()

    async def start(self, name: str, module: str, *, parent: int | None = None) -> Process:
        environment = {**os.environ, "MAILER_FAKE_PORT": str(self.port)}
        planned = Planned(name, module, "127.0.0.1", self.port)
        return await Process.start(
            planned, environment, lambda *said: self.lines.append(said), parent=parent or os.getpid()
        )

    async def supervise(self, *processes: Process) -> None:
        await supervise(
            list(processes),
            clock=CLOCK,
            tls=None,
            stop=self.stop,
            on_ready=self.ready.set,
            on_stop=lambda: self.lines.append(("", "stopping")),
        )


async def test_services_are_ready_when_health_says_so_and_drain_when_told_to_stop() -> None:
    stage = Stage()
    service = await stage.start("sender", "tests.fakes.service_process")
    supervised = asyncio.create_task(stage.supervise(service))
    await asyncio.wait_for(stage.ready.wait(), 30)
    stage.stop.set()
    await asyncio.wait_for(supervised, 30)
    assert stage.lines[-1] == ("sender", "drained")
    assert ("", "stopping") in stage.lines


async def test_a_service_that_ends_by_itself_brings_the_others_down() -> None:
    stage = Stage()
    service = await stage.start("sender", "tests.fakes.service_process")
    brief = await stage.start("backup", "platform")
    with pytest.raises(Ended, match="the backup ended with exit status 0"):
        await asyncio.wait_for(stage.supervise(service, brief), 30)
    assert not is_alive(service.pid)


async def test_everything_that_is_wrong_with_the_settings_is_said_at_the_end() -> None:
    stage = Stage()
    healthy = await stage.start("scheduler", "tests.fakes.slow_process")
    wrong = [await stage.start(name, "tests.fakes.wrong_settings") for name in ("sender", "backup")]
    with pytest.raises(Ended) as ended:
        await asyncio.wait_for(stage.supervise(healthy, *wrong), 30)
    said = 'ended with exit status 2 and said last "MAILER_PORT: write a number"'
    assert str(ended.value) == f"the sender {said}; the backup {said}"


async def test_a_service_that_was_killed_is_named_with_the_signal() -> None:
    stage = Stage()
    service = await stage.start("sender", "tests.fakes.service_process")
    supervised = asyncio.create_task(stage.supervise(service))
    await asyncio.wait_for(stage.ready.wait(), 30)
    service.stop(signal.SIGKILL)
    with pytest.raises(Ended, match="the sender ended by SIGKILL"):
        await asyncio.wait_for(supervised, 30)


async def test_a_service_that_is_told_to_stop_while_it_starts_has_not_failed() -> None:
    stage = Stage()
    slow = await stage.start("sender", "tests.fakes.slow_process")
    supervised = asyncio.create_task(stage.supervise(slow))
    stage.stop.set()
    await asyncio.wait_for(supervised, 30)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
async def test_a_service_whose_starter_is_gone_already_does_not_start() -> None:
    stage = Stage()
    orphan = await stage.start("sender", "platform", parent=1)
    assert await asyncio.wait_for(orphan.run(), 30) == 0
    assert stage.lines == []


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
