"""Addresses that get no mail, whoever asks: the list, and the methods about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import NotFound
from mailer.idempotency import request_key, run_once
from mailer.interceptor import Context
from mailer.message.address import check_address, mailbox_key
from mailer.pagination import read_page
from mailer.requests import check_new_request_id, check_reason
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import to_timestamp
from services.sender.counts import upsert
from services.sender.tables import requests, suppressions

MOST_PER_CALL = 1000


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that gets no mail, by its mailbox key."""

    address: str
    reason: str
    create_time: datetime


def add(connection: Connection, addresses: Sequence[str], *, reason: str, now: datetime) -> int:
    """Suppress canonical addresses; known ones keep their first reason. Return how many are new."""
    rows = [{"address": address, "reason": reason, "create_time": now} for address in dict.fromkeys(addresses)]
    statement = upsert(connection, suppressions).on_conflict_do_nothing(index_elements=["address"])
    return int(connection.execute(statement, rows).rowcount) if rows else 0


def remove(connection: Connection, address: str) -> bool:
    """Take a canonical address off the list; False when it was not on it."""
    return connection.execute(delete(suppressions).where(suppressions.c.address == address)).rowcount == 1


def list_page(connection: Connection, *, after: str | None, limit: int) -> list[Suppression]:
    """Return suppressions in alphabetical order, behind the address `after`."""
    query = select(suppressions).order_by(suppressions.c.address).limit(limit)
    if after is not None:
        query = query.where(suppressions.c.address > after)
    return [Suppression(**row._mapping) for row in connection.execute(query)]


class SuppressionRpcs:
    """The methods about the suppression list."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take what it needs."""
        self._database = database
        self._clock = clock

    async def AddSuppressions(
        self, request: sender_pb2.AddSuppressionsRequest, context: Context
    ) -> sender_pb2.AddSuppressionsResponse:
        """Suppress addresses: all of them, or none when one is wrong."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_reason(request.reason, violations)
        if not 1 <= len(request.addresses) <= MOST_PER_CALL:
            violations.add("addresses", f"has {len(request.addresses)} addresses: use 1 to {MOST_PER_CALL} per call")
        for index, address in enumerate(request.addresses[:MOST_PER_CALL]):
            problem = check_address(address)
            if problem:
                violations.add(f"addresses[{index}]", problem)
        violations.raise_if_any()
        keys = [mailbox_key(address) for address in request.addresses]
        now = self._clock.now()

        def effect(connection: Connection) -> sender_pb2.AddSuppressionsResponse:
            return sender_pb2.AddSuppressionsResponse(added_count=add(connection, keys, reason=request.reason, now=now))

        return await self._database.write(
            run_once,
            requests,
            request_key("AddSuppressions", request, request.request_id),
            effect,
            response_type=sender_pb2.AddSuppressionsResponse,
            now=now,
        )

    async def RemoveSuppression(
        self, request: sender_pb2.RemoveSuppressionRequest, context: Context
    ) -> sender_pb2.RemoveSuppressionResponse:
        """Take one address off the list."""
        violations = Violations()
        problem = check_address(request.address)
        if problem:
            violations.add("address", problem)
        violations.raise_if_any()
        if not await self._database.write(remove, mailbox_key(request.address)):
            raise NotFound(
                f"{request.address} is not on the suppression list: ListSuppressions shows it.",
                reason="SUPPRESSION_NOT_FOUND",
            )
        return sender_pb2.RemoveSuppressionResponse()

    async def ListSuppressions(
        self, request: sender_pb2.ListSuppressionsRequest, context: Context
    ) -> sender_pb2.ListSuppressionsResponse:
        """Return a page of the list."""
        violations = Violations()
        page = read_page(request.page_size, request.page_token, violations, method="ListSuppressions")
        violations.raise_if_any()
        after = None if page.after is None else page.after[0]
        found = await self._database.read(list_page, after=after, limit=page.limit)
        shown, token = page.fill(found, lambda one: (one.address,), _message)
        return sender_pb2.ListSuppressionsResponse(suppressions=shown, next_page_token=token)


def _message(one: Suppression) -> sender_pb2.Suppression:
    return sender_pb2.Suppression(address=one.address, reason=one.reason, create_time=to_timestamp(one.create_time))
