"""The system under demonstration: the three services as processes of their own, over a database of their own.

However the process that started them ends, they end with it.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from mailer.client import connect
from mailer.health import ask
from mailer.v1 import backup_pb2_grpc, scheduler_pb2_grpc, sender_pb2_grpc

START_SECONDS = 30.0
STOP_SECONDS = 30.0
NAMES = ("scheduler", "sender", "backup")


@dataclass(slots=True)
class System:
    """Starts the services on free ports when entered, and ends them when left.

    Of a second process of a service the name ends in "-2". `modules` are run instead of `services.<name>`.
    """

    directory: Path
    names: tuple[str, ...] = NAMES
    environment: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    _processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        """Start all services and wait until each says SERVING."""
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        try:
            for name in self.names:
                await self._spawn(name)
            await asyncio.gather(*(self._until_serving(name) for name in self.names))
        except BaseException:
            await self._stop()
            raise
        self._channels = {name: connect(self.address(name)) for name in self.names}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the services."""
        for channel in self._channels.values():
            await channel.close()
        await self._stop()

    def address(self, name: str) -> str:
        """Return host:port of a service."""
        return f"127.0.0.1:{self.ports[name]}"

    @property
    def senders_address(self) -> str:
        """Return all senders that were started with the system as one target: calls go to each in turn."""
        first, *others = [self.address(name) for name in self.names if name.partition("-")[0] == "sender"]
        return f"ipv4:{','.join((first, *others))}" if others else first

    def process_id(self, name: str) -> int:
        """Return the process of a service."""
        return self._processes[name].pid

    def log_file(self, name: str) -> Path:
        """Return the file with everything that a service said."""
        return self.directory / "logs" / f"{name}.log"

    @property
    def scheduler(self) -> "scheduler_pb2_grpc.SchedulerAsyncStub":
        """Return a client of the scheduler."""
        return scheduler_pb2_grpc.SchedulerStub(self._channels["scheduler"])

    @property
    def sender(self) -> "sender_pb2_grpc.SenderAsyncStub":
        """Return a client of the sender."""
        return sender_pb2_grpc.SenderStub(self._channels["sender"])

    @property
    def backup(self) -> "backup_pb2_grpc.BackupAsyncStub":
        """Return a client of the backup service."""
        return backup_pb2_grpc.BackupStub(self._channels["backup"])

    async def start(self, name: str) -> None:
        """Start one service, on the port that it had, and wait until it serves."""
        await self._spawn(name)
        await self._until_serving(name)

    @asynccontextmanager
    async def another(self, name: str) -> AsyncIterator[str]:
        """Run a second process of a service over the same database; gives its address."""
        second = f"{name}-2"
        (self.ports[second],) = free_ports(1)
        await self.start(second)
        try:
            yield self.address(second)
        finally:
            await self.end(second, signal.SIGTERM)

    async def end(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one service and wait until it is gone."""
        process = self._processes[name]
        process.send_signal(number)
        await process.wait()

    async def _spawn(self, name: str) -> None:
        service = name.partition("-")[0]
        log_file = self.log_file(name)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        # What is set outside must not lead the demonstration to somebody's real database.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAILER_")}
        environment |= {
            "MAILER_SETTINGS_FILE": os.devnull,
            "MAILER_DATA_DIR": str(self.directory),
            "MAILER_LOG_FORMAT": "json",
            f"MAILER_{service.upper()}_PORT": str(self.ports[name]),
            f"MAILER_{service.upper()}_METRICS_PORT": "0",
            "MAILER_SCHEDULER_SENDER_ADDRESS": self.senders_address,
            **self.environment,
        }
        with log_file.open("ab") as output:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mailer.cli.child",
                self.modules.get(service, f"services.{service}"),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    async def _until_serving(self, name: str) -> None:
        async with asyncio.timeout(START_SECONDS):
            while await ask(self.address(name), timeout=1) != "SERVING":
                process = self._processes[name]
                if process.returncode is not None:
                    last = self.log_file(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                    raise RuntimeError(f"the {name} ended at its start: {last[-1] if last else 'without a word'}")
                await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
