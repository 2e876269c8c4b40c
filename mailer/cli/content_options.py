"""The options that describe what is sent, and the content that they make."""

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mailer.cli.failure import usage
from mailer.cli.words import size
from mailer.v1 import sender_pb2

_WITH_NAME = re.compile(r'\s*"?(?P<name>[^"<>]*?)"?\s*<(?P<address>[^<>]*)>\s*')
_CONTENT = "Content"
_PLAIN = {".txt", ".text"}

File = Annotated[
    Path | None,
    typer.Option(
        "--template", metavar="FILE", help="The HTML part (or, .txt, the text part).", rich_help_panel=_CONTENT
    ),
]
TextFile = Annotated[
    Path | None, typer.Option("--text", metavar="FILE", help="The plain text part.", rich_help_panel=_CONTENT)
]
Subject = Annotated[str | None, typer.Option(help="One line; a template too.", rich_help_panel=_CONTENT)]
From = Annotated[
    str | None, typer.Option("--from", metavar="'NAME <ADDRESS>'", help="Who it is from.", rich_help_panel=_CONTENT)
]
ReplyTo = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Where answers go; may be repeated.", rich_help_panel=_CONTENT),
]
Cc = Annotated[
    list[str] | None, typer.Option(metavar="ADDRESS", help="Gets a copy of every message.", rich_help_panel=_CONTENT)
]
Bcc = Annotated[
    list[str] | None, typer.Option(metavar="ADDRESS", help="The same, unseen by others.", rich_help_panel=_CONTENT)
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'NAME: VALUE'", help="A further header field.", rich_help_panel=_CONTENT),
]
Attachments = Annotated[
    list[Path] | None,
    typer.Option("--attach", metavar="FILE", help="Goes with every message.", rich_help_panel=_CONTENT),
]


@dataclass(frozen=True, kw_only=True)
class ContentOptions:
    """What was said about the content; None means: nothing."""

    template: Path | None
    text: Path | None
    subject: str | None
    from_address: str | None
    reply_to: Sequence[str] | None
    cc: Sequence[str] | None
    bcc: Sequence[str] | None
    headers: Sequence[str] | None
    attachments: Sequence[Path] | None

    def to_content(self) -> tuple[sender_pb2.MessageContent, list[str]]:
        """Return the content, with its files read, and the names of the fields that were given."""
        content = sender_pb2.MessageContent()
        if self.template is not None:
            if self.template.suffix.lower() not in _PLAIN:
                content.html = read_template(self.template)
            elif self.text is None:
                content.text = read_template(self.template)
            else:
                raise usage(f"{self.template} and {self.text} are both plain text: name one.")
        if self.text is not None:
            content.text = read_template(self.text)
        if self.subject is not None:
            content.subject = self.subject
        if self.from_address is not None:
            content.from_address.CopyFrom(mailbox(self.from_address))
        content.reply_to.extend(map(mailbox, self.reply_to or ()))
        content.cc.extend(map(mailbox, self.cc or ()))
        content.bcc.extend(map(mailbox, self.bcc or ()))
        content.headers.extend(map(header, self.headers or ()))
        content.attachments.extend(attachments(self.attachments) if self.attachments else ())
        return content, [field.name for field, _ in content.ListFields()]


def mailbox(text: str) -> sender_pb2.Mailbox:
    """Return the mailbox written as "ada@example.org" or "Ada Lovelace <ada@example.org>"; the service checks it."""
    match = _WITH_NAME.fullmatch(text)
    if match is None:
        return sender_pb2.Mailbox(address=text.strip())
    return sender_pb2.Mailbox(address=match["address"].strip(), display_name=match["name"].strip())


def header(text: str) -> sender_pb2.Header:
    """Return the header field written as "Name: value"."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise usage(f'--header "{text}": write "Name: value", such as "List-Id: news".')
    return sender_pb2.Header(name=name.strip(), value=value.strip())


def attachments(paths: Sequence[Path]) -> list[sender_pb2.Attachment]:
    """Return the files; no service could take more of them than fits into one call."""
    from mailer.message.content import MAX_ATTACHMENT_OCTETS  # noqa: PLC0415 (slow, and most send no files)

    octets = sum(path.stat().st_size for path in paths)
    if octets > MAX_ATTACHMENT_OCTETS:
        raise usage(
            f"--attach: the files have {size(octets)}, at most {size(MAX_ATTACHMENT_OCTETS)} are allowed: "
            "send a link instead."
        )
    return list(map(attachment, paths))


def attachment(path: Path) -> sender_pb2.Attachment:
    """Return the file with the type that its name says."""
    media_type, encoding = mimetypes.guess_type(path.name)
    return sender_pb2.Attachment(
        filename=path.name,
        content_type=media_type if media_type and encoding is None else "application/octet-stream",
        content=path.read_bytes(),
    )


def read_template(path: Path) -> str:
    """Return what is in a template's file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise usage(f"{path}: line {line} is not UTF-8: save the file as UTF-8.") from None
