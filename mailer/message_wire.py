"""Between the content of a message as it travels and as it is checked and rendered."""

from collections.abc import Iterable

from mailer.message.address import Address, parse_address
from mailer.message.attachment import Attachment
from mailer.message.content import Content, Header
from mailer.v1 import sender_pb2
from mailer.validation import Violations


def read_content(
    message: sender_pb2.MessageContent, violations: Violations, *, field: str = "content"
) -> Content | None:
    """Return the content with its addresses in canonical form, or None when something is wrong with it.

    Every problem is noted in `violations` under its path, such as `content.cc[1].address`.
    """
    content = Content(
        from_address=_mailbox(message.from_address),
        subject=message.subject,
        text=message.text,
        html=message.html,
        reply_to=_mailboxes(message.reply_to),
        cc=_mailboxes(message.cc),
        bcc=_mailboxes(message.bcc),
        headers=tuple(Header(header.name, header.value) for header in message.headers),
        attachments=tuple(
            Attachment(
                filename=attachment.filename,
                content=attachment.content,
                content_type=attachment.content_type,
                content_id=attachment.content_id,
            )
            for attachment in message.attachments
        ),
    )
    problems = content.check(field)
    for path, problem in problems:
        violations.add(path, problem)
    return None if problems else _canonical(content)


def _mailbox(message: sender_pb2.Mailbox) -> Address:
    return Address(message.address, message.display_name)


def _mailboxes(messages: Iterable[sender_pb2.Mailbox]) -> tuple[Address, ...]:
    return tuple(_mailbox(message) for message in messages)


def _canonical(content: Content) -> Content:
    def canonical(addresses: Iterable[Address]) -> tuple[Address, ...]:
        return tuple(parse_address(one.address, one.display_name) for one in addresses)

    return Content(
        from_address=canonical([content.from_address])[0],
        subject=content.subject,
        text=content.text,
        html=content.html,
        reply_to=canonical(content.reply_to),
        cc=canonical(content.cc),
        bcc=canonical(content.bcc),
        headers=content.headers,
        attachments=content.attachments,
    )
