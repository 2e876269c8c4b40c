"""From a content to the bytes of each recipient's message.

`compile_message` does once per campaign what does not depend on the recipient: templates, addresses, attachments,
the MIME structure. `MessageProgram.render` fills the holes. The same inputs give the same bytes, always.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import NamedTuple

from mailer.message import headers
from mailer.message.address import Address
from mailer.message.body import Body, compile_body, compile_text_of
from mailer.message.content import MAX_SUBJECT, Content
from mailer.message.problems import MessageProblem, RenderProblem
from mailer.message.structure import assemble, seed_of
from mailer.message.template import Mode, compile_template
from mailer.message.variables import ALWAYS_THERE

_FIELDS = 1  # the place of the fields that differ, between those of all recipients
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9._-]{1,64}@[A-Za-z0-9.-]{1,253}>")


class RenderedMessage(NamedTuple):
    """One message, ready for SMTP.

    `data` has CRLF line ends, ends with one, and no line in it starts with a dot: it goes after DATA as it is,
    dot-stuffing (RFC 5321 4.5.2) would not change it. It is ASCII unless `needs_smtputf8`, and no line of it is
    longer than 998. `envelope_to` is the recipient, then cc, then bcc, each mailbox once.
    """

    envelope_from: str
    envelope_to: tuple[str, ...]
    data: bytes
    needs_smtputf8: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The parts of one message as its reader sees them; `html` is empty when there is none."""

    subject: str
    text: str
    html: str


def compile_message(content: Content) -> "MessageProgram":
    """Return the program for a content. Raises MessageProblem when `content.check()` would complain."""
    problems = content.check()
    if problems:
        raise MessageProblem("; ".join(f"{path}: {problem}" for path, problem in problems))
    html = compile_body(content.html, Mode.HTML) if content.html.strip() else None
    text = compile_body(content.text, Mode.TEXT) if content.text.strip() else compile_text_of(content.html)
    return MessageProgram(content, text, html)


class MessageProgram:
    """A content ready to be rendered for any number of recipients. Immutable; made by `compile_message`."""

    def __init__(self, content: Content, text: Body, html: Body | None) -> None:
        sender = content.from_address.canonical()
        reply_to = [address.canonical() for address in content.reply_to]
        cc = [address.canonical() for address in content.cc]
        bcc = [address.canonical() for address in content.bcc]
        part = assemble(text, html, content.attachments, seed=seed_of(content))
        used = [template.variables | template.optional for template in content.templates()]

        self.required_variables = content.required_variables
        self._uses_recipient = not ALWAYS_THERE.isdisjoint(frozenset().union(*used))
        self._text = text
        self._html = html
        self._subject = compile_template(content.subject, Mode.HEADER)
        self._headers = [(header.name, compile_template(header.value, Mode.HEADER)) for header in content.headers]
        top = _address_fields(("From", [sender]), ("Reply-To", reply_to), ("Cc", cc))
        bottom = f"MIME-Version: 1.0\r\n{part.fields}"
        chunks = [f"{top}\r\n".encode(), b"", f"\r\n{bottom}\r\n\r\n".encode(), *part.chunks]
        self._pieces = [chunk if isinstance(chunk, bytes) else b"" for chunk in chunks]
        self._bodies = [(place, chunk) for place, chunk in enumerate(chunks) if isinstance(chunk, Body)]
        self._envelope_from = sender.address
        self._copies: dict[str, str] = {}
        for copy in (*cc, *bcc):
            self._copies.setdefault(copy.key, copy.address)
        self.needs_smtputf8 = any(address.needs_smtputf8 for address in (sender, *reply_to, *cc, *bcc))

    def render(
        self, recipient: Address, variables: Mapping[str, object], *, message_id: str, date: datetime
    ) -> RenderedMessage:
        """Return the message for one recipient; `date` is aware. Raises RenderProblem or AddressProblem."""
        recipient = recipient.canonical()
        values = self._values(recipient, variables)
        pieces = self._pieces.copy()
        pieces[_FIELDS] = self._fields(recipient, values, message_id=message_id, date=date).encode()
        for place, body in self._bodies:
            pieces[place] = body.encode(values)
        data = b"".join(pieces)
        return RenderedMessage(
            self._envelope_from,
            self._envelope_to(recipient),
            data if data.endswith(b"\r\n") else data + b"\r\n",
            self.needs_smtputf8 or recipient.needs_smtputf8,
        )

    def _fields(self, recipient: Address, values: Mapping[str, object], *, message_id: str, date: datetime) -> str:
        """Return the header fields that differ from message to message."""
        fields = [
            f"To: {headers.mailbox(recipient, already=4)}",
            headers.field("Subject", self._render_subject(values)),
            f"Date: {_date(date)}",
            f"Message-ID: {_checked_message_id(message_id)}",
        ]
        for name, template in self._headers:
            value = template.render(values).strip()
            if value:
                fields.append(headers.field(name, value))
        written = "\r\n".join(fields)
        if "\n" in "".join(fields) and _count_fields(written) != len(fields):
            raise RenderProblem("a value would have become a header of its own: remove its line break")
        return written

    def preview(self, recipient: Address, variables: Mapping[str, object]) -> Preview:
        """Return what the recipient would read. Raises RenderProblem."""
        values = self._values(recipient, variables)
        html = self._html.render(values) if self._html else ""
        return Preview(self._render_subject(values), self._text.render(values), html)

    def _values(self, recipient: Address, variables: Mapping[str, object]) -> Mapping[str, object]:
        if not self._uses_recipient:
            return variables
        return {**variables, "address": recipient.address, "display_name": recipient.display_name}

    def _render_subject(self, values: Mapping[str, object]) -> str:
        subject = self._subject.render(values).strip()
        if not subject:
            raise RenderProblem("subject: empty for these values: give them, or write words into the template")
        if len(subject) > MAX_SUBJECT:
            raise RenderProblem(f"subject: longer than {MAX_SUBJECT} characters with these values: shorten them")
        return subject

    def _envelope_to(self, recipient: Address) -> tuple[str, ...]:
        if not self._copies:
            return (recipient.address,)
        key = recipient.key
        return (recipient.address, *(copy for copied, copy in self._copies.items() if copied != key))


def _address_fields(*fields: tuple[str, list[Address]]) -> str:
    return "\r\n".join(headers.address_field(name, addresses) for name, addresses in fields if addresses)


def _count_fields(head: str) -> int:
    """Return how many header fields a reader finds: lines that do not continue the one before."""
    return head.count("\n") - head.count("\n ") + 1


def _checked_message_id(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"not a Message-ID as message_id() makes it: {message_id!r}")
    return message_id


@lru_cache(maxsize=64)  # the messages of a batch are of one instant
def _date(date: datetime) -> str:
    if date.tzinfo is None:
        raise ValueError("a date without a time zone")
    return _date_to_the_second(date.astimezone(UTC).replace(microsecond=0))


@lru_cache(maxsize=64)
def _date_to_the_second(date: datetime) -> str:
    return format_datetime(date)
