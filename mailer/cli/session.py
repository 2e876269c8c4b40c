"""Where a command finds the services, how it prints, and how a failed call ends it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

import grpc
import typer
from google.protobuf.descriptor import ServiceDescriptor

from mailer.cli.choices import Choices
from mailer.cli.failure import failed_call, usage
from mailer.cli.output import Output
from mailer.cli.settings import CommandSettings
from mailer.client import connect
from mailer.clock import Clock
from mailer.config import load
from mailer.errors import CannotStart
from mailer.tls import ClientTls
from mailer.v1 import backup_pb2, backup_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, sender_pb2, sender_pb2_grpc

QUICK = 20.0
"""Seconds for a call that reads or writes a little."""

SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
SENDER = sender_pb2.DESCRIPTOR.services_by_name["Sender"]
BACKUP = backup_pb2.DESCRIPTOR.services_by_name["Backup"]


class Session:
    """What a command works with; made from its context."""

    def __init__(self, context: typer.Context) -> None:
        """Take the choices of the command line; settings are read when they are needed."""
        choices = context.obj
        assert isinstance(choices, Choices)
        self._choices = choices
        self.clock: Clock = choices.clock
        self.out = Output(as_json=choices.as_json)

    @cached_property
    def settings(self) -> CommandSettings:
        """Return the settings, with what the command line says in their place."""
        try:
            settings = load(CommandSettings)
        except CannotStart as problem:
            raise usage("; ".join(problem.problems)) from None
        chosen = {
            "scheduler_address": self._choices.scheduler,
            "sender_address": self._choices.sender,
            "backup_address": self._choices.backup,
            "ca_file": self._choices.ca_file,
        }
        for name in ("scheduler", "sender", "backup"):
            address = chosen[f"{name}_address"]
            if address is not None and ":" not in str(address):
                raise usage(f'--{name} "{address}" is no address: write host:port, such as 127.0.0.1:50051.')
        return settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})

    @property
    def tls(self) -> ClientTls | None:
        """Return how the services are trusted; None without TLS."""
        settings = self.settings
        if settings.ca_file is None and settings.client_certificate_file is None:
            return None
        return ClientTls(settings.ca_file, settings.client_certificate_file, settings.client_key_file)

    @property
    def addresses(self) -> dict[ServiceDescriptor, str]:
        """Return where each service is."""
        settings = self.settings
        return {
            SCHEDULER: settings.scheduler_address,
            SENDER: settings.sender_address,
            BACKUP: settings.backup_address,
        }

    @asynccontextmanager
    async def scheduler(self) -> AsyncIterator["scheduler_pb2_grpc.SchedulerAsyncStub"]:
        """Connect to the scheduler; a call that fails inside becomes a Failure."""
        async with self._channel(SCHEDULER) as channel:
            yield scheduler_pb2_grpc.SchedulerStub(channel)

    @asynccontextmanager
    async def sender(self) -> AsyncIterator["sender_pb2_grpc.SenderAsyncStub"]:
        """Connect to the sender; a call that fails inside becomes a Failure."""
        async with self._channel(SENDER) as channel:
            yield sender_pb2_grpc.SenderStub(channel)

    @asynccontextmanager
    async def backup(self) -> AsyncIterator["backup_pb2_grpc.BackupAsyncStub"]:
        """Connect to the backup service; a call that fails inside becomes a Failure."""
        async with self._channel(BACKUP) as channel:
            yield backup_pb2_grpc.BackupStub(channel)

    @asynccontextmanager
    async def _channel(self, service: ServiceDescriptor) -> AsyncIterator[grpc.aio.Channel]:
        address = self.addresses[service]
        try:
            channel = connect(address, services=[service], tls=self.tls)
        except CannotStart as problem:
            raise usage(str(problem)) from None
        async with channel:
            try:
                yield channel
            except grpc.aio.AioRpcError as error:
                raise failed_call(error, target=f"the {name_of(service)} at {address}") from None


def name_of(service: ServiceDescriptor) -> str:
    """Return what people call the service."""
    return "backup service" if service is BACKUP else service.name.lower()
