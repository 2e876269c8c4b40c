"""PreviewMessage: one recipient's message, rendered by the code that the sender renders with."""

import asyncio
import hashlib

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.errors import FailedPrecondition, InvalidArgument, NotFound
from mailer.interceptor import Context
from mailer.message.address import check_display_name, mailbox_key
from mailer.message.content import Content
from mailer.message.message_id import message_id
from mailer.message.mime import compile_message
from mailer.message.problems import MessageProblem
from mailer.message_wire import read_content
from mailer.recipients import CheckedRecipient, RecipientProblem, check_recipient, read_variables
from mailer.requests import check_id
from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.validation import Violations
from services.scheduler import campaigns, recipients, templates
from services.scheduler.recipient_rpcs import to_recipient

# Encoded files may outgrow a gRPC message; then everything but the bytes themselves is shown.
MOST_SHOWN_BYTES = 3 * 1024 * 1024


class PreviewRpc:
    """PreviewMessage."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take what the method needs."""
        self._database = database
        self._clock = clock

    async def PreviewMessage(
        self, request: scheduler_pb2.PreviewMessageRequest, context: Context
    ) -> scheduler_pb2.PreviewMessageResponse:
        """Render the message of one recipient; send nothing."""
        violations = Violations()
        source = request.WhichOneof("source")
        content = None
        match source:
            case None:
                violations.add("campaign_id", "is missing: name a campaign or a template, or give content")
            case "content":
                content = read_content(request.content, violations, field="content")
            case _:
                check_id(getattr(request, source), violations, field=source)
        if source != "campaign_id" and not request.HasField("recipient"):
            violations.add("recipient", "is missing: say for whom, with an address and variables")
        violations.raise_if_any()
        if content is None:
            serialized = await self._database.read(_content, request)
            content = read_content(sender_pb2.MessageContent.FromString(serialized), violations, field="content")
            violations.raise_if_any()
            assert content is not None
        recipient = await self._database.read(_recipient, request)
        # On a thread: compiling a large template and encoding its files takes a while.
        return await asyncio.to_thread(self._render, content, recipient)

    def _render(self, content: Content, given: sender_pb2.Recipient) -> scheduler_pb2.PreviewMessageResponse:
        recipient = _checked(given, content)
        variables = read_variables(recipient.variables, recipient.address)
        try:
            program = compile_message(content)
        except MessageProblem as problem:
            violations = Violations()
            violations.add("content", str(problem))
            raise InvalidArgument(violations, reason="CANNOT_RENDER") from None
        key = hashlib.sha256(f"preview\0{recipient.address.key}".encode()).hexdigest()[:32]
        try:
            shown = program.preview(recipient.address, variables)
            rendered = program.render(
                recipient.address,
                variables,
                message_id=message_id(key, content.from_address),
                date=self._clock.now(),
            )
        except MessageProblem as problem:
            violations = Violations()
            violations.add("recipient.variables", str(problem))
            raise InvalidArgument(violations, reason="CANNOT_RENDER") from None
        return scheduler_pb2.PreviewMessageResponse(
            subject=shown.subject,
            text=shown.text,
            html=shown.html,
            message=rendered.data if len(rendered.data) <= MOST_SHOWN_BYTES else b"",
            size_bytes=len(rendered.data),
            envelope_recipients=rendered.envelope_to,
        )


def _content(connection: Connection, request: scheduler_pb2.PreviewMessageRequest) -> bytes:
    if request.WhichOneof("source") == "template_id":
        return templates.existing(connection, request.template_id).content
    campaign = campaigns.existing(connection, request.campaign_id)
    return campaigns.source_of(connection, campaign).content


def _recipient(connection: Connection, request: scheduler_pb2.PreviewMessageRequest) -> sender_pb2.Recipient:
    """Return for whom to render: as given, or as the campaign has it when only an address is given."""
    given = request.recipient
    if request.WhichOneof("source") != "campaign_id" or given.HasField("variables"):
        return given
    found = recipients.read_one(connection, request.campaign_id, mailbox_key(given.address))
    if found is not None:
        return to_recipient(found)
    if given.address:
        raise NotFound(
            f"The campaign has no recipient {given.address[:320]}: check the address, or give variables with it.",
            metadata={"campaign_id": request.campaign_id},
        )
    raise FailedPrecondition(
        "The campaign has no recipients: add some, or give a recipient with variables.",
        reason="NO_RECIPIENTS",
        metadata={"campaign_id": request.campaign_id},
    )


def _checked(given: sender_pb2.Recipient, content: Content) -> CheckedRecipient:
    try:
        return check_recipient(given, content.required_variables)
    except RecipientProblem as problem:
        reasons = sender_pb2.RejectedRecipient
        wrong_name = problem.reason == reasons.REASON_INVALID_FIELD and check_display_name(given.display_name)
        field = "recipient.display_name" if wrong_name else "recipient.variables"
        if problem.reason == reasons.REASON_INVALID_ADDRESS:
            field = "recipient.address"
        violations = Violations()
        violations.add(field, str(problem))
        raise InvalidArgument(violations) from None
