"""Who sends to whom, and the message as it travels between DATA and the final dot."""

import re
from dataclasses import dataclass, field

_UNSAFE = re.compile(r"[\x00-\x20\x7f<>]")


@dataclass(slots=True)
class Envelope:
    """The envelope of one message. The first recipient is the one that counts: without it nothing is sent.

    `size_bytes` is the size of the message with CRLF line ends, before dots are doubled; 0 means it is not known yet.
    `is_plain` leaves out every parameter that the message does not need. Raises ValueError for an address that could
    not stand between angle brackets.
    """

    sender: str
    recipients: tuple[str, ...]
    size_bytes: int = 0
    is_plain: bool = False
    needs_smtputf8: bool = field(repr=False, compare=False, default=False)
    """Whether only a server with SMTPUTF8 (RFC 6531) can take it: always with such an address in the envelope."""

    def __post_init__(self) -> None:
        """Refuse what would be another command."""
        if not self.recipients:
            raise ValueError("an envelope needs a recipient")
        addresses = self.sender + "".join(self.recipients)
        if _UNSAFE.search(addresses):
            raise ValueError("an address contains a control character, a space or an angle bracket")
        if not addresses.isascii():
            self.needs_smtputf8 = True

    def mail_command(self, *, with_size: bool) -> bytes:
        """Return the MAIL command."""
        size = f" SIZE={self.size_bytes}" if with_size and self.size_bytes and not self.is_plain else ""
        utf8 = " SMTPUTF8" if self.needs_smtputf8 else ""
        return f"MAIL FROM:<{self.sender}>{size}{utf8}\r\n".encode()

    def rcpt_commands(self) -> list[bytes]:
        """Return the RCPT commands, in the order of the recipients."""
        return [f"RCPT TO:<{address}>\r\n".encode() for address in self.recipients]


def dot_stuffed(message: bytes) -> bytes:
    """Return the message as it travels: a dot at the start of a line is doubled (RFC 5321 4.5.2), the end is CRLF.

    Raises ValueError for a bare CR or LF: servers disagree about them, and some take one for the end of the message.
    """
    lines = message.count(b"\r\n")
    if message.count(b"\n") != lines or message.count(b"\r") != lines:
        raise ValueError("a message has a bare CR or LF")
    stuffed = message.replace(b"\n.", b"\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
