"""The methods about deliveries: who got it, who did not and why, and what a person decides about the uncertain ones."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FailedPrecondition, NotFound
from mailer.idempotency import request_key, run_once
from mailer.interceptor import Context
from mailer.message.address import check_address, mailbox_key
from mailer.pagination import read_page
from mailer.requests import check_id, check_new_request_id
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import to_timestamp
from services.sender import doubt, runs
from services.sender.bulletin import Bulletin
from services.sender.counts import Changes
from services.sender.delivery_list import Wanted, read_list
from services.sender.options import read_options
from services.sender.programs import Programs
from services.sender.states import DeliveryState, LogOutcome
from services.sender.tables import IS_TROUBLED, deliveries, requests, send_logs

MOST_RESOLVED = 1000

_Resolve = sender_pb2.ResolveUnknownRequest
_STATES = {state: sender_pb2.DeliveryState.Value(f"DELIVERY_STATE_{state.name}") for state in DeliveryState}
_STATES_BY_NUMBER = {number: state for state, number in _STATES.items()}
_OUTCOMES = {outcome: sender_pb2.Attempt.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in LogOutcome}


class DeliveryRpcs:
    """ListDeliveries, GetDelivery, ResolveUnknown."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        bulletin: Bulletin,
        programs: Programs,
        *,
        on_queued: Callable[[str], None],
    ) -> None:
        """Take what the methods need; `on_queued` hears the id of a run that has something to send again."""
        self._database = database
        self._clock = clock
        self._bulletin = bulletin
        self._programs = programs
        self._on_queued = on_queued

    async def ListDeliveries(
        self, request: sender_pb2.ListDeliveriesRequest, context: Context
    ) -> sender_pb2.ListDeliveriesResponse:
        """Return a page of deliveries in the order in which they were stored."""
        violations = Violations()
        check_id(request.run_id, violations, field="run_id", required=False)
        check_id(request.campaign_id, violations, field="campaign_id", required=False)
        problem = check_address(request.address) if request.address else None
        if problem:
            violations.add("address", problem)
        for index, state in enumerate(request.states):
            if state not in _STATES_BY_NUMBER:
                violations.add(f"states[{index}]", f"use one of {', '.join(sorted(_STATE_NAMES))}")
        page = read_page(
            request.page_size,
            request.page_token,
            violations,
            method="ListDeliveries",
            filters=(request.run_id, request.campaign_id, sorted(request.states), request.address),
            key=(int,),
        )
        violations.raise_if_any()
        wanted = Wanted(
            run_id=request.run_id,
            campaign_id=request.campaign_id,
            canonical=mailbox_key(request.address) if request.address else "",
            states=frozenset(_STATES_BY_NUMBER[number] for number in request.states),
        )
        after = page.after[0] if page.after is not None else 0
        rows, removal_time = await self._database.read(_list, wanted, after=after, limit=page.limit)
        found = [(row.id, await self._present(row)) for row in rows]
        shown, token = page.fill(found, lambda one: (one[0],), lambda one: one[1])
        return sender_pb2.ListDeliveriesResponse(
            deliveries=shown, next_page_token=token, removal_time=to_timestamp(removal_time)
        )

    async def GetDelivery(
        self, request: sender_pb2.GetDeliveryRequest, context: Context
    ) -> sender_pb2.GetDeliveryResponse:
        """Return a delivery with its attempts."""
        violations = Violations()
        check_id(request.delivery_id, violations, field="delivery_id")
        violations.raise_if_any()
        row, attempts = await self._database.read(_get, request.delivery_id)
        return sender_pb2.GetDeliveryResponse(
            delivery=await self._present(row), attempts=[_attempt(attempt) for attempt in attempts]
        )

    async def ResolveUnknown(
        self, request: sender_pb2.ResolveUnknownRequest, context: Context
    ) -> sender_pb2.ResolveUnknownResponse:
        """Book what a person found out about uncertain deliveries."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_id(request.run_id, violations, field="run_id", required=False)
        if bool(request.run_id) == bool(request.delivery_ids):
            violations.add("delivery_ids", "name either deliveries here, or one run in run_id")
        if len(request.delivery_ids) > MOST_RESOLVED:
            violations.add("delivery_ids", f"name at most {MOST_RESOLVED}, or a whole run in run_id")
        for index, delivery_id in enumerate(request.delivery_ids):
            check_id(delivery_id, violations, field=f"delivery_ids[{index}]")
        if request.resolution not in {_Resolve.RESOLUTION_SENT, _Resolve.RESOLUTION_RETRY}:
            violations.add("resolution", "use RESOLUTION_SENT (they have it) or RESOLUTION_RETRY (send it again)")
        violations.raise_if_any()
        key = request_key("ResolveUnknown", request, request.request_id)
        now = self._clock.now()
        changes = Changes()

        def effect(connection: Connection) -> sender_pb2.ResolveUnknownResponse:
            resolved = _resolve(connection, request, now=now, changes=changes)
            changes.apply(connection)
            return sender_pb2.ResolveUnknownResponse(resolved_count=resolved)

        response = await self._database.write(
            run_once, requests, key, effect, response_type=sender_pb2.ResolveUnknownResponse, now=now
        )
        self._bulletin.publish(changes.run_ids)
        for run_id in changes.run_ids:
            self._on_queued(run_id)
        return response

    async def _present(self, row: Any) -> sender_pb2.Delivery:
        try:
            message_id = (await self._programs.get(row.content_hash)).message_id(row.delivery_key)
        except LookupError:
            message_id = ""  # of a content that cannot be used any more
        return sender_pb2.Delivery(
            delivery_id=row.delivery_key,
            run_id=row.run_id,
            campaign_id=row.campaign_id,
            address=row.address,
            state=_STATES[DeliveryState(row.state)],
            retry_count=max(row.attempt_count - 1, 0),
            account_id=row.account_id,
            message_id=message_id,
            last_reply=_reply(row),
            state_reason=row.state_reason,
            possible_duplicate=row.possible_duplicate,
            create_time=to_timestamp(row.create_time),
            update_time=to_timestamp(row.update_time),
            next_attempt_time=to_timestamp(row.next_attempt_time),
            expire_time=to_timestamp(row.expire_time),
        )


_STATE_NAMES = frozenset(sender_pb2.DeliveryState.Name(number) for number in _STATES_BY_NUMBER)


def _reply(row: Any) -> sender_pb2.SmtpReply | None:
    if not row.reply_code:
        return None
    return sender_pb2.SmtpReply(code=row.reply_code, enhanced_code=row.enhanced_code, text=row.reply_text)


def _attempt(row: Any) -> sender_pb2.Attempt:
    return sender_pb2.Attempt(
        account_id=row.account_id,
        stage=row.stage,
        outcome=_OUTCOMES[LogOutcome(row.outcome)],
        reply=_reply(row),
        description=row.description,
        retry_count=row.retry_count,
        start_time=to_timestamp(row.start_time),
        end_time=to_timestamp(row.end_time),
    )


def _list(
    connection: Connection, wanted: Wanted, *, after: int, limit: int
) -> tuple[Sequence[Row[Any]], datetime | None]:
    removal_time = runs.removal_time(connection, run_id=wanted.run_id, campaign_id=wanted.campaign_id)
    return read_list(connection, wanted, after=after, limit=limit), removal_time


def _get(connection: Connection, delivery_id: str) -> tuple[Any, list[Any]]:
    row = connection.execute(select(deliveries).where(deliveries.c.delivery_key == delivery_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no delivery {delivery_id}", metadata={"delivery_id": delivery_id})
    attempts = connection.execute(
        select(send_logs)
        .where(send_logs.c.log_key >= f"{delivery_id}:", send_logs.c.log_key < f"{delivery_id};")
        .order_by(send_logs.c.id)
    ).all()
    return row, list(attempts)


def _resolve(
    connection: Connection, request: sender_pb2.ResolveUnknownRequest, *, now: datetime, changes: Changes
) -> int:
    query = select(deliveries.c.id, deliveries.c.delivery_key, deliveries.c.run_id, deliveries.c.state)
    if request.run_id:
        runs.existing(connection, request.run_id)
        query = query.where(
            IS_TROUBLED,
            deliveries.c.run_id == request.run_id,
            deliveries.c.state == DeliveryState.UNKNOWN.value,
        )
    else:
        query = query.where(deliveries.c.delivery_key.in_(set(request.delivery_ids)))
    rows = connection.execute(query).all()
    _refuse_wrong_ids(request, {row.delivery_key: row.state for row in rows})
    for row in rows:
        run = runs.existing(connection, row.run_id)
        if request.resolution == _Resolve.RESOLUTION_SENT:
            doubt.resolve_as_sent(connection, row.id, now=now, changes=changes)
        else:
            runs.refuse_cancelled(run)
            options = read_options(sender_pb2.DeliveryOptions.FromString(run.options), default=run.policy)
            doubt.resolve_by_retry(connection, row.id, now=now, expire_time=now + options.expire_after, changes=changes)
    return len(rows)


def _refuse_wrong_ids(request: sender_pb2.ResolveUnknownRequest, states: dict[str, str]) -> None:
    """Refuse the whole call when one of the named deliveries does not exist or is not uncertain."""
    violations = Violations()
    for index, delivery_id in enumerate(request.delivery_ids):
        if delivery_id not in states:
            violations.add(f"delivery_ids[{index}]", "there is no such delivery: take ids from ListDeliveries")
    violations.raise_if_any()
    for delivery_id, state in states.items():
        if state != DeliveryState.UNKNOWN:
            raise FailedPrecondition(
                f"delivery {delivery_id} is {state.upper()}, not UNKNOWN: only uncertain deliveries can be resolved",
                reason="DELIVERY_NOT_UNKNOWN",
                metadata={"delivery_id": delivery_id, "state": state.upper()},
            )
