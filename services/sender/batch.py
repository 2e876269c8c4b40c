"""A batch in SQL: its run, its content and its deliveries are stored in one transaction, and once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from mailer.database import portable
from mailer.errors import ResourceExhausted
from mailer.idempotency import RequestKey, store_response, stored_response
from mailer.v1 import sender_pb2
from services.sender import outbox, runs
from services.sender.counts import Changes, read_counts
from services.sender.outbox import Waiting
from services.sender.states import DeliveryState, Policy, RunState
from services.sender.tables import requests

FULL_QUEUE_PAUSE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch whose recipients were checked. Messages are serialized."""

    key: RequestKey
    run_id: str
    campaign_id: str
    policy: Policy
    options: bytes
    expire_after: timedelta
    content_hash: str
    content: bytes
    waiting: Sequence[Waiting]
    response: bytes  # a SendBatchResponse that names those who are rejected


@portable
def store_batch(connection: Connection, batch: Batch, *, queue_limit: int, now: datetime) -> bytes:
    """Store the batch. Return the SendBatchResponse to it, serialized, without the ids of the deliveries.

    Raises AlreadyExists (request_id), FailedPrecondition (a run whose deliveries were removed), ResourceExhausted when
    `queue_limit` deliveries of the run wait already.
    """
    stored = stored_response(connection, requests, batch.key)
    if stored is not None:
        return stored
    run = runs.ensure(
        connection,
        run_id=batch.run_id,
        campaign_id=batch.campaign_id,
        policy=batch.policy,
        options=batch.options,
        content_hash=batch.content_hash,
        now=now,
    )
    runs.refuse_removed(run)
    _refuse_when_full(connection, batch.run_id, queue_limit)
    outbox.store_content(connection, content_hash=batch.content_hash, content=batch.content, now=now)
    changes = Changes()
    accepted = outbox.store(
        connection,
        batch.waiting,
        run_id=batch.run_id,
        campaign_id=run.campaign_id,
        content_hash=batch.content_hash,
        state=DeliveryState.CANCELLED if run.state is RunState.CANCELLED else DeliveryState.PENDING,
        now=now,
        expire_time=now + batch.expire_after,
        changes=changes,
    )
    changes.apply(connection)
    response = sender_pb2.SendBatchResponse.FromString(batch.response)
    response.run_id = batch.run_id
    response.accepted_count = accepted
    response.duplicate_count = len(batch.waiting) - accepted
    # The ids follow from run and address, so they are not stored with the answer.
    store_response(connection, requests, batch.key, response, now=now)
    return response.SerializeToString()


def _refuse_when_full(connection: Connection, run_id: str, queue_limit: int) -> None:
    counts = read_counts(connection, run_id)
    waiting = counts.get(DeliveryState.PENDING, 0) + counts.get(DeliveryState.CLAIMED, 0)
    if waiting >= queue_limit:
        raise ResourceExhausted(
            # Without the number, which changes from one try to the next: the scheduler notes what is new.
            f"run {run_id} has as many messages waiting as may wait ({queue_limit}): try again in a moment",
            reason="QUEUE_FULL",
            retry_after=FULL_QUEUE_PAUSE,
            metadata={"run_id": run_id, "waiting_count": str(waiting)},
        )
