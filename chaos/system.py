"""What is under attack: a scheduler, one or two senders, one database, and the SMTP server that judges them."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.order import Order
from chaos.plan import Kind, Life
from chaos.processes import Nursery, Victim
from mailer.client import connect
from mailer.v1 import scheduler_pb2_grpc, sender_pb2_grpc

NAMES = ("smtp", "sender", "companion", "scheduler", "backup")


@dataclass(slots=True)
class System:
    """Starts the SMTP server when entered; the services are started by whoever wants to kill them."""

    directory: Path
    seed: int
    mutant: str = ""
    victim: str = "sender"  # which of the services the mutant is one of
    nursery: Nursery = field(default_factory=Nursery)
    ports: dict[str, int] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _numbers: "count[int]" = field(default_factory=count)
    _server: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start the SMTP server, and what starts the services."""
        (self.directory / "logs").mkdir(parents=True)
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        try:
            await self._start_server()
            await self._stack.enter_async_context(self.nursery)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        await self._stack.aclose()

    @property
    def record_file(self) -> Path:
        """Return what the SMTP server writes."""
        return self.directory / "accepted.jsonl"

    @property
    def senders_address(self) -> str:
        """Return both senders as one target: calls go to whoever lives."""
        return f"ipv4:127.0.0.1:{self.ports['sender']},127.0.0.1:{self.ports['companion']}"

    @property
    def database_file(self) -> Path:
        """Return the database of all services."""
        return self.directory / "mailer.db"

    def hold_dots(self) -> None:
        """Let the SMTP server answer none of the dots that wait now, until they are released."""
        assert self._server is not None
        self._server.send_signal(signal.SIGUSR1)

    def release_dots(self) -> None:
        """Let it answer them."""
        assert self._server is not None
        self._server.send_signal(signal.SIGUSR2)

    def connect_sender(self, name: str = "") -> "sender_pb2_grpc.SenderAsyncStub":
        """Return a client of the sender with that name, or of whichever lives."""
        channel = connect(f"127.0.0.1:{self.ports[name]}" if name else self.senders_address)
        self._stack.push_async_callback(channel.close)
        return sender_pb2_grpc.SenderStub(channel)

    def connect_scheduler(self) -> "scheduler_pb2_grpc.SchedulerAsyncStub":
        """Return a client of the scheduler."""
        channel = connect(f"127.0.0.1:{self.ports['scheduler']}")
        self._stack.push_async_callback(channel.close)
        return scheduler_pb2_grpc.SchedulerStub(channel)

    async def start_sender(self, life: Life | None = None) -> Victim:
        """Start the sender for a life, or for as long as nobody ends it."""
        if life is None:
            return await self.start("sender", "sender")
        return await self.start(
            "sender",
            "sender",
            window=life.window or "",
            passing=life.passing,
            cold=life.kind is Kind.COLD,
        )

    async def start_companion(self) -> Victim:
        """Start a second sender on the same database."""
        return await self.start("sender", "companion")

    async def start_scheduler(self) -> Victim:
        """Start the scheduler."""
        return await self.start("scheduler", "scheduler")

    async def start(self, service: str, name: str, *, window: str = "", passing: int = 0, cold: bool = False) -> Victim:
        """Start what the nursery knows as `service`; under its name it finds its port."""
        return await self.nursery.start(
            Order(
                service=service,
                log_file=str(self.directory / "logs" / f"{next(self._numbers):05d}-{name}.log"),
                environment={
                    "MAILER_DATA_DIR": str(self.directory),
                    "MAILER_LOG_FORMAT": "json",
                    "MAILER_LOG_LEVEL": "warning",
                    "MAILER_DATABASE_BUSY_TIMEOUT": "20s",
                    f"MAILER_{service.upper()}_PORT": str(self.ports.get(name, 0)),
                    f"MAILER_{service.upper()}_METRICS_PORT": "0",
                    "MAILER_SCHEDULER_SENDER_ADDRESS": self.senders_address,
                    "CHAOS_NAME": name,
                },
                window=window,
                passing=passing,
                mutant=self.mutant if service == self.victim else "",
                cold=cold,
            )
        )

    async def _start_server(self) -> None:
        self._server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chaos.server",
            str(self.ports["smtp"]),
            str(self.record_file),
            str(self.seed),
            stdin=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("MAILER_")},
            start_new_session=True,
        )
        self._stack.push_async_callback(_end, self._server)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
