"""The account and suppression methods of the sender on a real server, with a real channel to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import services.sender
from mailer.client import connect
from mailer.clock import SystemClock
from mailer.database import Database, Migrations
from mailer.metrics import new_registry
from mailer.secrets import Keyring, SealingKey
from mailer.server import GrpcServer
from mailer.v1 import sender_pb2, sender_pb2_grpc
from services.sender.account_rpcs import AccountRpcs
from services.sender.credentials import Passwords
from services.sender.dialing import dial_with
from services.sender.roster import Roster
from services.sender.smtp import Connector, Timeouts
from services.sender.suppressions import SuppressionRpcs
from services.sender.verification import Verifier

MIGRATIONS = Migrations("sender", Path(services.sender.__file__).parent / "migrations")


@dataclass(frozen=True, slots=True)
class AccountService:
    """What a test talks to, and what it looks into."""

    stub: "sender_pb2_grpc.SenderAsyncStub"
    database: Database
    roster: Roster
    passwords: Passwords
    secrets_dir: Path
    variables: dict[str, str]


class _Parts:
    """A servicer that has the methods of its parts, and None for every other."""

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        return next((getattr(part, name) for part in self._parts if hasattr(part, name)), None)


@asynccontextmanager
async def account_service(folder: Path) -> AsyncIterator[AccountService]:
    """Run the methods over a database in the folder."""
    clock = SystemClock()
    database = await Database.open(f"sqlite:///{folder}/mailer.db", clock=clock, migrations=[MIGRATIONS])
    roster = Roster(database, clock, Random(1), "worker")
    variables: dict[str, str] = {}
    secrets_dir = folder / "secrets"
    secrets_dir.mkdir()
    passwords = Passwords(Keyring(SealingKey.generate()), secrets_dir, variable=variables.get)
    dial = dial_with(Connector(Timeouts(connect=5, greeting=0.5, ehlo=5, auth=5)), passwords)
    accounts = AccountRpcs(database, clock, roster, passwords, Verifier(clock, dial))
    server = GrpcServer(
        [sender_pb2.DESCRIPTOR.services_by_name["Sender"]],
        host="127.0.0.1",
        port=0,
        clock=clock,
        registry=new_registry(),
    )
    sender_pb2_grpc.add_SenderServicer_to_server(
        cast("sender_pb2_grpc.SenderServicer", _Parts(accounts, SuppressionRpcs(database, clock))), server.grpc
    )
    await roster.start()
    await server.start()
    try:
        async with connect(f"127.0.0.1:{server.port}") as channel:
            stub = sender_pb2_grpc.SenderStub(channel)
            yield AccountService(stub, database, roster, passwords, secrets_dir, variables)
    finally:
        await server.stop()
        await roster.close()
        await database.close()
