"""The command line in the test's own event loop, against fakes on real ports."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry

from mailer.cli.__main__ import interpret
from mailer.cli.choices import Choices
from mailer.cli.complaint import complain
from mailer.cli.exit_code import ExitCode
from mailer.cli.session import BACKUP, SCHEDULER, SENDER
from mailer.clock import SystemClock
from mailer.server import GrpcServer
from mailer.v1 import backup_pb2_grpc, scheduler_pb2_grpc, sender_pb2_grpc
from tests.fakes.scripted_backup import ScriptedBackup
from tests.fakes.scripted_scheduler import ScriptedScheduler
from tests.fakes.scripted_sender import ScriptedSender


class HastyClock(SystemClock):
    """Waits a hundredth of what it is asked to."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return stdout as the one JSON document that it must be."""
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs `mailer ...`."""

    capture: pytest.CaptureFixture[str]
    scheduler: str
    sender: str
    backup: str

    async def __call__(self, *arguments: str) -> Outcome:
        """Run the arguments as a shell would."""
        addresses = ("--scheduler", self.scheduler, "--sender", self.sender, "--backup", self.backup)
        try:
            called = interpret([*addresses, *arguments], Choices(HastyClock()))
            status = called if isinstance(called, int) else ExitCode.OK
            if not isinstance(called, int):
                await called
        except Exception as error:  # noqa: BLE001 (as the program does)
            status = complain(error, as_json="--json" in arguments)
        captured = self.capture.readouterr()
        return Outcome(status, captured.out, captured.err)


@pytest.fixture
def scheduler() -> ScriptedScheduler:
    return ScriptedScheduler()  # type: ignore[abstract] # the rest answers UNIMPLEMENTED


@pytest.fixture
def sender() -> ScriptedSender:
    return ScriptedSender()  # type: ignore[abstract] # the rest answers UNIMPLEMENTED


@pytest.fixture
def backup() -> ScriptedBackup:
    return ScriptedBackup()  # type: ignore[abstract] # the rest answers UNIMPLEMENTED


@pytest.fixture
async def mailer(
    capsys: pytest.CaptureFixture[str], scheduler: ScriptedScheduler, sender: ScriptedSender, backup: ScriptedBackup
) -> AsyncIterator[CommandLine]:
    """Return the command line, with the three fakes behind it."""
    async with (
        serving(SCHEDULER, lambda server: scheduler_pb2_grpc.add_SchedulerServicer_to_server(scheduler, server)) as one,
        serving(SENDER, lambda server: sender_pb2_grpc.add_SenderServicer_to_server(sender, server)) as two,
        serving(BACKUP, lambda server: backup_pb2_grpc.add_BackupServicer_to_server(backup, server)) as three,
    ):
        yield CommandLine(capsys, one, two, three)


@asynccontextmanager
async def serving(service: ServiceDescriptor, add: Callable[[Any], None]) -> AsyncIterator[str]:
    server = GrpcServer([service], host="127.0.0.1", port=0, clock=SystemClock(), registry=CollectorRegistry())
    add(server.grpc)
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop()
