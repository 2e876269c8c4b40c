"""What is sent: templates, addresses, headers and files, with every problem named before anything is stored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailer.message import headers
from mailer.message.address import Address, check_address, check_display_name
from mailer.message.attachment import Attachment
from mailer.message.problems import MessageProblem
from mailer.message.template import CompiledTemplate, Mode, compile_template
from mailer.message.variables import ALWAYS_THERE

MAX_SUBJECT = 998
MAX_COPIES = 50
MAX_REPLY_TO = 10
MAX_HEADERS = 50
MAX_HEADER_TEMPLATE = 4_000
MAX_ATTACHMENTS = 10
MAX_ATTACHMENT_OCTETS = 3 * 1024 * 1024  # a gRPC message is at most 4 MiB


@dataclass(frozen=True, slots=True)
class Header:
    """A further header field; `value` is a template. One that renders to nothing is left out of the message."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """As it came from the client: nothing is checked before `check` says []. An empty `text` is made from `html`."""

    from_address: Address
    subject: str
    text: str = ""
    html: str = ""
    reply_to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    headers: tuple[Header, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def check(self, prefix: str = "content") -> list[tuple[str, str]]:
        """Return (field path, problem with cure) for everything that is wrong, [] when the content can be sent."""
        problems = [
            *_check_mailboxes("from_address", [self.from_address], numbered=False),
            *self._check_templates(),
            *_check_mailboxes("reply_to", self.reply_to),
            *_check_mailboxes("cc", self.cc),
            *_check_mailboxes("bcc", self.bcc),
            *self._check_counts(),
            *self._check_headers(),
            *self._check_attachments(),
        ]
        return [(f"{prefix}.{path}", problem) for path, problem in problems]

    @property
    def required_variables(self) -> frozenset[str]:
        """What every recipient's variables must have: names, and fields within them with dots (person.name).

        Raises TemplateProblem where `check` would complain.
        """
        used = [template.variables | template.nested for template in self.templates()]
        return frozenset().union(*used) - ALWAYS_THERE

    def templates(self) -> Iterator[CompiledTemplate]:
        """Compile all templates that were given. Raises TemplateProblem."""
        yield compile_template(self.subject, Mode.HEADER)
        if self.text.strip():
            yield compile_template(self.text, Mode.TEXT)
        if self.html.strip():
            yield compile_template(self.html, Mode.HTML)
        for header in self.headers:
            yield compile_template(header.value, Mode.HEADER)

    def _check_templates(self) -> Iterator[tuple[str, str]]:
        if not self.subject.strip():
            yield "subject", "a message without a subject: write one"
        elif len(self.subject) > MAX_SUBJECT:
            yield "subject", f"longer than {MAX_SUBJECT} characters: shorten it"
        if not self.text.strip() and not self.html.strip():
            yield "text", "a message without text and html: write at least one of them"
        yield from _check_header("subject", "Subject", self.subject)
        yield from _check_template("text", self.text, Mode.TEXT)
        yield from _check_template("html", self.html, Mode.HTML)

    def _check_counts(self) -> Iterator[tuple[str, str]]:
        if len(self.reply_to) > MAX_REPLY_TO:
            yield "reply_to", f"{len(self.reply_to)} addresses, at most {MAX_REPLY_TO} are allowed: leave some out"
        if len(self.cc) + len(self.bcc) > MAX_COPIES:
            field = "cc" if self.cc else "bcc"
            yield field, f"more than {MAX_COPIES} addresses in cc and bcc together: make them recipients"
        if len(self.headers) > MAX_HEADERS:
            yield "headers", f"{len(self.headers)} headers, at most {MAX_HEADERS} are allowed: leave some out"
        if len(self.attachments) > MAX_ATTACHMENTS:
            yield "attachments", f"{len(self.attachments)} files, at most {MAX_ATTACHMENTS} are allowed: leave some out"

    def _check_headers(self) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for place, header in enumerate(self.headers):
            path = f"headers[{place}]"
            problem = headers.check_name(header.name)
            if problem is None and header.name.lower() in seen:
                problem = f"{header.name} is given twice: keep one of them"
            seen.add(header.name.lower())
            if problem:
                yield f"{path}.name", problem
            if len(header.value) > MAX_HEADER_TEMPLATE:
                yield f"{path}.value", f"longer than {MAX_HEADER_TEMPLATE} characters: shorten it"
            yield from _check_header(f"{path}.value", header.name, header.value)

    def _check_attachments(self) -> Iterator[tuple[str, str]]:
        octets = sum(len(attachment.content) for attachment in self.attachments)
        if octets > MAX_ATTACHMENT_OCTETS:
            yield "attachments", f"{octets} octets, at most {MAX_ATTACHMENT_OCTETS} are allowed: send a link instead"
        seen: set[str] = set()
        for place, attachment in enumerate(self.attachments):
            path = f"attachments[{place}]"
            for field, problem in attachment.check():
                yield f"{path}.{field}", problem
            if attachment.content_id and not self.html:
                yield f"{path}.content_id", "shown inside the html, but there is none: leave content_id empty"
            if attachment.content_id and attachment.content_id in seen:
                yield f"{path}.content_id", "used by two files: give each its own"
            seen.add(attachment.content_id)


def _check_mailboxes(field: str, mailboxes: Iterable[Address], *, numbered: bool = True) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for place, mailbox in enumerate(mailboxes):
        path = f"{field}[{place}]" if numbered else field
        problem = check_address(mailbox.address)
        if problem is None and mailbox.key in seen:
            problem = "given twice: keep one of them"
        seen.add(mailbox.key)
        if problem:
            yield f"{path}.address", problem
        problem = check_display_name(mailbox.display_name)
        if problem:
            yield f"{path}.display_name", problem


def _check_header(field: str, name: str, source: str) -> Iterator[tuple[str, str]]:
    try:
        template = compile_template(source, Mode.HEADER)
        problem = headers.check_value(source.strip())
        if problem:
            yield field, problem
        elif template.is_constant:
            headers.field(name, template.render({}))
    except MessageProblem as refused:
        yield field, str(refused)


def _check_template(field: str, source: str, mode: Mode) -> Iterator[tuple[str, str]]:
    try:
        template = compile_template(source, mode)
        if template.is_constant:
            template.render({})
    except MessageProblem as problem:
        yield field, str(problem)
