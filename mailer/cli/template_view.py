"""How templates and what they send look in a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from mailer.cli.output import Column, Output
from mailer.cli.words import instant, printable, size
from mailer.v1 import scheduler_pb2, sender_pb2


def template_table(out: Output, templates: Iterable[scheduler_pb2.Template]) -> RenderableType | str:
    """Return the list of templates."""
    columns = (
        Column("name"),
        Column("subject"),
        Column("needs", optional=True),
        Column("changed", optional=True),
        Column("id", is_id=True),
    )
    rows = (
        (
            one.name,
            one.content.subject,
            ", ".join(one.required_variables),
            instant(one.update_time),
            one.template_id,
        )
        for one in templates
    )
    empty = "There is no template yet. Store one: mailer template create --name winter --template t.html ..."
    return out.table(columns, rows, empty=empty)


def template_details(out: Output, template: scheduler_pb2.Template, *, whole: bool = False) -> RenderableType:
    """Return one template, with `whole` the text and the HTML too."""
    head = out.fields(
        [
            ("name", template.name),
            ("id", template.template_id),
            *content_fields(template.content),
            ("needs", ", ".join(template.required_variables) or "no variables"),
            ("stored", instant(template.create_time)),
            ("changed", instant(template.update_time)),
        ]
    )
    if not whole:
        return head
    parts: list[RenderableType] = [head]
    for name, text in (("text", template.content.text), ("html", template.content.html)):
        if text:
            parts += [Text(f"\n{name}", style="bold"), Text(printable(text))]
    return Group(*parts)


def content_fields(content: sender_pb2.MessageContent) -> list[tuple[str, str]]:
    """Return who and what, without the text itself."""
    parts = [name for name in ("text", "html") if getattr(content, name)]
    return [
        ("from", mailbox_text(content.from_address)),
        ("subject", content.subject),
        ("reply to", _mailboxes(content.reply_to)),
        ("cc", _mailboxes(content.cc)),
        ("bcc", _mailboxes(content.bcc)),
        ("headers", "\n".join(f"{one.name}: {one.value}" for one in content.headers)),
        ("parts", " and ".join(parts)),
        ("attached", ", ".join(_attachment(one) for one in content.attachments)),
    ]


def mailbox_text(mailbox: sender_pb2.Mailbox) -> str:
    """Return "Ada Lovelace <ada@example.org>", or the address alone."""
    return f"{mailbox.display_name} <{mailbox.address}>" if mailbox.display_name else mailbox.address


def _mailboxes(mailboxes: Sequence[sender_pb2.Mailbox]) -> str:
    return ", ".join(map(mailbox_text, mailboxes))


def _attachment(attachment: sender_pb2.Attachment) -> str:
    if not attachment.content:
        return attachment.filename
    return f"{attachment.filename} ({size(len(attachment.content))})"
