"""The MIME structure (RFC 2046) of a message: mixed( alternative( text, related( html, images ) ), files ).

Only the levels that are needed are there. Every body is base64 or quoted-printable, in which `=_` cannot occur:
no body can contain a boundary.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from mailer.message.attachment import Attachment
from mailer.message.body import Body
from mailer.message.content import Content


@dataclass(frozen=True, slots=True)
class Part:
    """Header lines, and the body as bytes with the recipient's bodies in between."""

    fields: str
    chunks: tuple[bytes | Body, ...]


def assemble(text: Body, html: Body | None, attachments: Iterable[Attachment], *, seed: str) -> Part:
    """Return the whole message below its own headers; boundaries are made of `seed`, letters and digits."""
    inline = [_attached(attachment) for attachment in attachments if attachment.content_id]
    files = [_attached(attachment) for attachment in attachments if not attachment.content_id]
    part = Part(text.fields, (text,))
    if html is not None:
        shown = Part(html.fields, (html,))
        if inline:
            shown = _multipart('related; type="text/html"', [shown, *inline], f"=_r{seed}")
        part = _multipart("alternative", [part, shown], f"=_a{seed}")
    return _multipart("mixed", [part, *files], f"=_m{seed}") if files else part


def seed_of(content: Content) -> str:
    """Return letters and digits that are the same for the same content and for no other."""
    return sha256(repr(content).encode(errors="backslashreplace")).hexdigest()[:32]


def _attached(attachment: Attachment) -> Part:
    fields, body = attachment.part()
    return Part(fields, (body,))


def _multipart(subtype: str, parts: Iterable[Part], boundary: str) -> Part:
    chunks: list[bytes | Body] = []
    for part in parts:
        separator = f"--{boundary}\r\n{part.fields}\r\n\r\n".encode("ascii")
        chunks += [b"\r\n" + separator if chunks else separator, *part.chunks]
    chunks.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return Part(f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"', _joined(chunks))


def _joined(chunks: Iterable[bytes | Body]) -> tuple[bytes | Body, ...]:
    """Join neighbouring bytes, so that a message is put together from few pieces."""
    joined: list[bytes | Body] = []
    for chunk in chunks:
        if isinstance(chunk, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += chunk
        else:
            joined.append(chunk)
    return tuple(joined)
