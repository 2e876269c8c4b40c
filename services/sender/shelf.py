"""Contents compiled for sending: kept while they are used, found by the hash of their content."""

from collections import OrderedDict
from dataclasses import dataclass

from mailer.message.address import Address
from mailer.message.content import Content
from mailer.message.message_id import message_id
from mailer.message.mime import MessageProgram, RenderedMessage, compile_message
from mailer.message.problems import MessageProblem
from mailer.message_wire import read_content
from mailer.recipients import read_variables
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from services.sender.outbox import Claimed

MOST_KEPT = 2_000
MOST_KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """A content, ready to be rendered for any recipient."""

    content_hash: str
    serialized: bytes
    content: Content
    message: MessageProgram

    @property
    def from_address(self) -> str:
        """Return the address that the messages come from."""
        return self.content.from_address.address

    @property
    def required_variables(self) -> frozenset[str]:
        """Return the variables that every recipient must have."""
        return self.message.required_variables

    def message_id(self, delivery_key: str) -> str:
        """Return the Message-ID of a delivery: the same for every attempt."""
        return message_id(delivery_key, self.content.from_address)

    def render(self, claimed: Claimed) -> RenderedMessage:
        """Return the message for a delivery: the same, to the byte, for every attempt. Raises RenderProblem."""
        recipient = Address(claimed.address, claimed.display_name)
        return self.message.render(
            recipient,
            read_variables(claimed.variables, recipient),
            message_id=self.message_id(claimed.delivery_key),
            date=claimed.create_time,
        )


class Shelf:
    """Programs that are kept, found by the hash of their content; the longest unused one goes first."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: OrderedDict[str, Program] = OrderedDict()
        self._kept_bytes = 0

    def find(self, content_hash: str) -> Program | None:
        """Return the program, when it is here."""
        program = self._kept.get(content_hash)
        if program is not None:
            self._kept.move_to_end(content_hash)
        return program

    def keep(self, content_hash: str, serialized: bytes, content: Content) -> Program:
        """Compile a content and keep it. Raises MessageProblem."""
        program = Program(content_hash, serialized, content, compile_message(content))
        self._kept[content_hash] = program
        self._kept_bytes += len(serialized)
        while len(self._kept) > MOST_KEPT or (self._kept_bytes > MOST_KEPT_BYTES and len(self._kept) > 1):
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.serialized)
        return program

    def load(self, content_hash: str, serialized: bytes | None) -> Program:
        """Compile a content as it is stored, and keep it. Raises LookupError when it cannot be used any more."""
        if serialized is None:
            raise LookupError(f"content {content_hash} is not in the database")
        violations = Violations()
        content = read_content(sender_pb2.MessageContent.FromString(serialized), violations, field="content")
        if content is None:
            raise LookupError(f"content {content_hash} cannot be used any more: {list(violations)}")
        try:
            return self.keep(content_hash, serialized, content)
        except MessageProblem as problem:
            raise LookupError(f"content {content_hash} cannot be used any more: {problem}") from None
