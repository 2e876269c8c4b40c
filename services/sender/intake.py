"""SendBatch: what comes in is checked whole, stored once, and answered only when it is on disk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from mailer.clock import Clock
from mailer.database import Database
from mailer.delivery_options import check_options
from mailer.idempotency import request_key
from mailer.recipients import RecipientProblem, check_recipient
from mailer.requests import check_id, check_new_request_id
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from services.sender import outbox
from services.sender.batch import Batch, store_batch
from services.sender.identity import delivery_key, first_key
from services.sender.options import read_options
from services.sender.outbox import Waiting
from services.sender.programs import Programs
from services.sender.shelf import Program
from services.sender.states import Policy

MOST_RECIPIENTS = 1000

_Rejected = sender_pb2.RejectedRecipient


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch whose recipients are told apart: who is stored, who is not, and the id of each."""

    waiting: list[Waiting]
    rejected: list[sender_pb2.RejectedRecipient]
    delivery_ids: list[str]


class Intake:
    """Stores batches."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        programs: Programs,
        *,
        queue_limit: int,
        on_stored: Callable[[str], None],
    ) -> None:
        """Take the database; `queue_limit` bounds the deliveries that wait per run, `on_stored` wakes who sends."""
        self._database = database
        self._clock = clock
        self._programs = programs
        self._queue_limit = queue_limit
        self._on_stored = on_stored

    async def send_batch(self, request: sender_pb2.SendBatchRequest) -> sender_pb2.SendBatchResponse:
        """Store the batch. Raises InvalidArgument, AlreadyExists (request_id), ResourceExhausted (full queue)."""
        program = self._check(request)
        key = request_key("SendBatch", request, request.request_id)
        run_id = request.run_id or _own_run_id(request.request_id)
        key_of = first_key if await self._database.read(outbox.has_first_keys, run_id) else delivery_key
        checked = check_recipients(request, run_id, program, key_of=key_of)
        options = read_options(
            request.options, default=Policy.AT_MOST_ONCE if request.campaign_id else Policy.AT_LEAST_ONCE
        )
        batch = Batch(
            key=key,
            run_id=run_id,
            campaign_id=request.campaign_id,
            policy=options.policy,
            options=request.options.SerializeToString(deterministic=True),
            expire_after=options.expire_after,
            content_hash=program.content_hash,
            content=program.serialized,
            waiting=checked.waiting,
            response=sender_pb2.SendBatchResponse(rejected=checked.rejected).SerializeToString(),
        )
        stored = await self._database.write(store_batch, batch, queue_limit=self._queue_limit, now=self._clock.now())
        response = sender_pb2.SendBatchResponse.FromString(stored)
        response.delivery_ids.extend(checked.delivery_ids)
        self._on_stored(run_id)
        return response

    def _check(self, request: sender_pb2.SendBatchRequest) -> Program:
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_id(request.run_id, violations, field="run_id", required=False)
        check_id(request.campaign_id, violations, field="campaign_id", required=False)
        if not request.recipients:
            violations.add("recipients", f"is empty: name 1 to {MOST_RECIPIENTS} recipients")
        elif len(request.recipients) > MOST_RECIPIENTS:
            violations.add("recipients", f"has {len(request.recipients)}: send at most {MOST_RECIPIENTS} per batch")
        check_options(request.options, violations)
        program = None
        if request.HasField("content"):
            program = self._programs.check(request.content, violations)
        else:
            violations.add("content", "is missing: say what is to be sent")
        violations.raise_if_any()
        assert program is not None
        return program


def check_recipients(
    request: sender_pb2.SendBatchRequest, run_id: str, program: Program, *, key_of: Callable[[str, str], str]
) -> Checked:
    """Tell the recipients that can be stored from those that cannot. One that cannot does not fail the others.

    `key_of(run_id, canonical)` is how the deliveries of the run are known: `delivery_key`, or `first_key`.
    """
    checked = Checked([], [], [])
    required = program.required_variables
    for index, recipient in enumerate(request.recipients):
        try:
            address, variables = check_recipient(recipient, required)
        except RecipientProblem as problem:
            checked.rejected.append(
                _Rejected(
                    index=index,
                    address=recipient.address[:320],
                    reason=problem.reason,
                    description=str(problem),
                )
            )
            checked.delivery_ids.append("")
            continue
        canonical = address.key
        key = key_of(run_id, canonical)
        checked.waiting.append(Waiting(key, address.address, canonical, address.display_name, variables))
        checked.delivery_ids.append(key)
    return checked


def _own_run_id(request_id: str) -> str:
    """Return the id of a run that consists of one direct call: the same whenever the call is repeated."""
    return hashlib.sha256(f"direct\0{request_id}".encode()).hexdigest()[:32]
