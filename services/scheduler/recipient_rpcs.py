"""The methods about recipients: a stream that adds any number of them, and the list."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FieldViolation, InvalidArgument
from mailer.interceptor import Context
from mailer.pagination import read_page
from mailer.recipients import RecipientProblem, check_recipient
from mailer.requests import check_id
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.validation import Violations
from services.scheduler import campaigns, recipients
from services.scheduler.campaign_states import Action
from services.scheduler.recipients import Added, NewRecipient, Recipient

MOST_PER_MESSAGE = 1000
MOST_NAMED_REJECTIONS = 1000
# One durable transaction for so many: large enough to be fast, small enough that nobody else waits for it.
GROUP = 2000


class RecipientRpcs:
    """AddRecipients, ListRecipients."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take what the methods need."""
        self._database = database
        self._clock = clock

    async def AddRecipients(
        self, request_iterator: AsyncIterator[scheduler_pb2.AddRecipientsRequest], context: Context
    ) -> scheduler_pb2.AddRecipientsResponse:
        """Add what arrives, in groups; a stream that breaks leaves what had arrived."""
        stream = RecipientStream(self._database, self._clock)
        try:
            async for message in request_iterator:
                await stream.take(message)
        finally:
            # Also when the client is gone: the promise is that what arrived is kept.
            await asyncio.shield(stream.store())
        return await stream.answer()

    async def ListRecipients(
        self, request: scheduler_pb2.ListRecipientsRequest, context: Context
    ) -> scheduler_pb2.ListRecipientsResponse:
        """List recipients in the order in which they were added."""
        violations = Violations()
        check_id(request.campaign_id, violations, field="campaign_id")
        page = read_page(
            request.page_size,
            request.page_token,
            violations,
            method="ListRecipients",
            filters=[request.campaign_id],
            key=(int,),
        )
        violations.raise_if_any()
        position = page.after[0] if page.after is not None else 0
        rows = await self._database.read(_read, request.campaign_id, position, page.limit)
        shown, token = page.fill(rows, lambda row: (row.position,), to_recipient)
        return scheduler_pb2.ListRecipientsResponse(recipients=shown, next_page_token=token)


class RecipientStream:
    """One AddRecipients call: checks what arrives, stores it in groups, keeps count."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Begin with nothing."""
        self._database = database
        self._clock = clock
        self._campaign_id = ""
        self._required: tuple[str, ...] = ()
        self._seen = 0
        self._group: list[NewRecipient] = []
        self._writing: asyncio.Task[None] | None = None
        self._answer = scheduler_pb2.AddRecipientsResponse()

    async def take(self, message: scheduler_pb2.AddRecipientsRequest) -> None:
        """Check a message's recipients, and store when enough have come. Raises InvalidArgument, NotFound,
        FailedPrecondition."""
        await self._check_message(message)
        # On a thread: a thousand addresses take longer than other calls should wait.
        await asyncio.to_thread(self._check, message.recipients)
        if len(self._group) >= GROUP:
            # One group is written while the next one is checked.
            await self._written()
            group, self._group = self._group, []
            self._writing = asyncio.create_task(self._store(group))

    async def store(self) -> None:
        """Store what was checked and is not stored yet."""
        await self._written()
        group, self._group = self._group, []
        if group:
            await self._store(group)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _store(self, group: list[NewRecipient]) -> None:
        added = await self._add(group)
        self._answer.accepted_count += added.accepted_count
        self._answer.duplicate_count += added.duplicate_count
        self._answer.recipient_count = added.recipient_count

    async def answer(self) -> scheduler_pb2.AddRecipientsResponse:
        """Return what became of the stream. Raises InvalidArgument for one without a message."""
        if not self._campaign_id:
            raise InvalidArgument([FieldViolation("campaign_id", "is missing: name it in the first message")])
        if not self._answer.accepted_count and not self._answer.duplicate_count:
            self._answer.recipient_count = (await self._add([])).recipient_count
        return self._answer

    async def _check_message(self, message: scheduler_pb2.AddRecipientsRequest) -> None:
        violations = Violations()
        if not self._campaign_id:
            check_id(message.campaign_id, violations, field="campaign_id")
        elif message.campaign_id not in {"", self._campaign_id}:
            violations.add("campaign_id", "differs from the first message's: use one call per campaign")
        if len(message.recipients) > MOST_PER_MESSAGE:
            violations.add("recipients", f"has {len(message.recipients)}: send at most {MOST_PER_MESSAGE} per message")
        violations.raise_if_any()
        if not self._campaign_id:
            self._required = await self._database.read(_required, message.campaign_id)
            self._campaign_id = message.campaign_id

    async def _add(self, group: list[NewRecipient]) -> Added:
        return await self._database.write(
            recipients.add, self._campaign_id, group, checked_for=self._required, now=self._clock.now()
        )

    def _check(self, given: Iterable[sender_pb2.Recipient]) -> None:
        for recipient in given:
            try:
                known = check_recipient(recipient, self._required)
            except RecipientProblem as problem:
                self._reject(recipient, problem)
            else:
                address = known.address
                self._group.append(NewRecipient(address.address, address.key, address.display_name, known.variables))
            self._seen += 1

    def _reject(self, recipient: sender_pb2.Recipient, problem: RecipientProblem) -> None:
        self._answer.rejected_count += 1
        if len(self._answer.rejected) < MOST_NAMED_REJECTIONS:
            self._answer.rejected.add(
                index=self._seen,
                address=recipient.address[:320],
                reason=problem.reason,
                description=str(problem),
            )


def to_recipient(recipient: Recipient) -> sender_pb2.Recipient:
    """Return a recipient for the wire."""
    message = sender_pb2.Recipient(address=recipient.address, display_name=recipient.display_name)
    message.variables.ParseFromString(recipient.variables)
    return message


def _required(connection: Connection, campaign_id: str) -> tuple[str, ...]:
    campaign = campaigns.allowed(connection, campaign_id, Action.ADD_RECIPIENTS)
    return campaigns.source_of(connection, campaign).required_variables


def _read(connection: Connection, campaign_id: str, position: int, limit: int) -> list[Recipient]:
    campaigns.existing(connection, campaign_id)
    return recipients.read_after(connection, campaign_id, position, limit)
