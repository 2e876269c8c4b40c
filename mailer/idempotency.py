"""Request ids: the same request asked twice has one effect and one answer.

Each service keeps its answers in a table of its own, written in the transaction of the effect: either both
are there or neither.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Column, Connection, Index, LargeBinary, MetaData, String, Table, delete, insert, select
from sqlalchemy.exc import IntegrityError

from mailer.database.types import Instant
from mailer.errors import Aborted, AlreadyExists

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes two calls the same: the id, the method and the body. An empty id never matches anything."""

    request_id: str
    method: str
    digest: bytes


def request_table(metadata: MetaData, prefix: str) -> Table:
    """Return the table `<prefix>_requests`; its owner creates it in a migration with these columns."""
    return Table(
        f"{prefix}_requests",
        metadata,
        Column("request_id", String(128), primary_key=True),
        Column("method", String(64), nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("response", LargeBinary, nullable=False),
        Column("created_time", Instant, nullable=False),
        Index(f"{prefix}_requests_by_time", "created_time"),
    )


def request_key(method: str, request: Message, request_id: str) -> RequestKey:
    """Return the key of a call; compute it before the write, off the writer's thread."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return RequestKey(request_id, method, digest)


def run_once(
    connection: Connection,
    table: Table,
    key: RequestKey,
    effect: Callable[[Connection], M],
    *,
    response_type: type[M],
    now: datetime,
) -> M:
    """Return the stored answer of an earlier call, or run the effect and store its answer.

    Run it inside `Database.write`. Raises AlreadyExists (REQUEST_ID_REUSED) when the id came with another
    body or method. An effect that raises stores nothing: the id can be used again.
    """
    stored = stored_response(connection, table, key)
    if stored is not None:
        return response_type.FromString(stored)
    response = effect(connection)
    store_response(connection, table, key, response, now=now)
    return response


def stored_response(connection: Connection, table: Table, key: RequestKey) -> bytes | None:
    """Return the answer given to the same call before; raises AlreadyExists when the id is another call's."""
    if not key.request_id:
        return None
    found = connection.execute(
        select(table.c.method, table.c.digest, table.c.response).where(table.c.request_id == key.request_id)
    ).one_or_none()
    if found is None:
        return None
    if (found.method, found.digest) != (key.method, key.digest):
        raise AlreadyExists(
            f"request_id {key.request_id} was used for another request: take a new one, or repeat the body.",
            reason="REQUEST_ID_REUSED",
            metadata={"request_id": key.request_id, "method": found.method},
        )
    return bytes(found.response)


def store_response(connection: Connection, table: Table, key: RequestKey, response: Message, *, now: datetime) -> None:
    """Keep the answer for a repeated call; does nothing without a request_id."""
    if not key.request_id:
        return
    try:
        connection.execute(
            insert(table).values(
                request_id=key.request_id,
                method=key.method,
                digest=key.digest,
                response=response.SerializeToString(),
                created_time=now,
            )
        )
    except IntegrityError as error:
        # Only where several processes write at once (PostgreSQL): the same call is being answered elsewhere.
        raise Aborted(
            "The same request is being answered by another server: repeat it.", reason="REQUEST_IN_PROGRESS"
        ) from error


def forget_before(connection: Connection, table: Table, cutoff: datetime, *, limit: int = 1000) -> int:
    """Forget the oldest answers given before the cutoff, at most `limit`; returns how many."""
    old = select(table.c.request_id).where(table.c.created_time < cutoff)
    old = old.order_by(table.c.created_time).limit(limit)
    return connection.execute(delete(table).where(table.c.request_id.in_(old))).rowcount
