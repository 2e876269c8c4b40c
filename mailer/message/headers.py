"""Header fields: which names a campaign may set, and values that can never become a second header.

The encoder is our own: the standard library of Python 3.11.7 and 3.12.1 turns
`Subject: A =?UTF-8?Q?=0A?=Bcc: x` into a real Bcc line (CVE-2024-6923) and breaks long List-Unsubscribe URLs
into encoded words.
"""

import base64
import re
from bisect import bisect_right
from collections.abc import Iterable

from mailer.message.address import Address
from mailer.message.characters import CONTROLS, ENCODED_WORD, SURROGATES
from mailer.message.problems import RenderProblem

LINE_LENGTH = 78  # RFC 5322 2.1.1: should
MAX_LINE_LENGTH = 998  # RFC 5322 2.1.1: must
MAX_VALUE_LENGTH = 4_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,69}")
_SET_BY_US = {
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "sender",
}
_SET_BY_SERVERS = {"return-path", "received", "received-spf", "delivered-to", "authentication-results"}
_SIGNATURES = {"dkim-signature", "domainkey-signature"}
_RESERVED_PREFIXES = ("content-", "resent-", "arc-")
_NEVER_ENCODED = re.compile(r"list-.*|references|in-reply-to|auto-submitted|precedence", re.IGNORECASE)

_WORD_BREAK = re.compile(r"(?<=[^ ]) (?=[^ ])")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# What stays as it is comes from RFC 2047 5 (3), the set that fits a phrase as well as plain text.
_Q = {octet: chr(octet) if re.match(r"[A-Za-z0-9!*+/-]", chr(octet)) else f"={octet:02X}" for octet in range(256)}
_Q[ord(" ")] = "_"
_ENCODED_WORD_LENGTH = 75


def check_name(name: str) -> str | None:
    """Return why a campaign may not set this header, with the cure, or None."""
    if not _NAME.fullmatch(name):
        return "not a header name: use letters, digits and hyphens, like X-Campaign"
    lower = name.lower()
    if lower in _SET_BY_US:
        return f"{name} is written from the message's own fields: remove it here"
    if lower in _SET_BY_SERVERS | _SIGNATURES or lower.startswith(_RESERVED_PREFIXES):
        return f"{name} belongs to the mail system: remove it"
    return None


def check_value(value: str) -> str | None:
    """Return why this text may not stand in a header, with the cure, or None."""
    if CONTROLS.search(value):
        return "a line break or another control character in a header: remove it"
    if ENCODED_WORD.search(value):
        return "an encoded word (=?...?=) in a header: write the characters themselves"
    if SURROGATES.search(value):
        return "half of a character (a lone surrogate) in a header: send valid UTF-8"
    if len(value) > MAX_VALUE_LENGTH:
        return f"a header longer than {MAX_VALUE_LENGTH} characters: shorten it"
    return None


def field(name: str, value: str) -> str:
    """Return `Name: value`, encoded (RFC 2047) and folded, without the final CRLF. Raises RenderProblem."""
    if len(name) + len(value) <= LINE_LENGTH - 2 and value.isascii() and value.isprintable() and "=?" not in value:
        return f"{name}: {value}"
    problem = check_value(value)
    if problem:
        raise RenderProblem(f"{name}: {problem}")
    if _NEVER_ENCODED.fullmatch(name):
        folded = _fold(name, value)
        if not value.isascii() or _longest_line(folded) > MAX_LINE_LENGTH:
            raise RenderProblem(f"{name} takes ASCII in pieces of at most {MAX_LINE_LENGTH} characters: encode the URL")
        return folded
    if value.isascii() and "=?" not in value:
        folded = _fold(name, value)
        if _longest_line(folded) <= MAX_LINE_LENGTH:
            return folded
    return f"{name}: " + "\r\n ".join(_encoded_words(value, already=len(name) + 2))


def address_field(name: str, addresses: Iterable[Address]) -> str:
    """Return an address header without the final CRLF, one address a line. The addresses are canonical."""
    return f"{name}: " + ",\r\n ".join(mailbox(address, already=len(name) + 2) for address in addresses)


def mailbox(address: Address, *, already: int = 1) -> str:
    """Return `Name <ada@example.com>`; `already` characters stand before it on its line."""
    name = address.display_name
    if not name:
        return address.address
    if len(name) <= 60 and name.isascii() and "=?" not in name:
        if not _ATOMS.fullmatch(name):
            name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        name = "\r\n ".join(_encoded_words(name, already=already))
    gap = " " if already + len(name) + len(address.address) + 3 <= LINE_LENGTH else "\r\n "
    return f"{name}{gap}<{address.address}>"


def _fold(name: str, value: str) -> str:
    """Break before words; unfolded it is the same text again (RFC 5322 2.2.3)."""
    if " " not in value:
        return f"{name}: {value}"
    lines: list[str] = []
    line = f"{name}:"
    for word in _WORD_BREAK.split(value):
        if len(line) + 1 + len(word) > LINE_LENGTH and (lines or len(line) > len(name) + 1):
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line])


def _longest_line(folded: str) -> int:
    return max(map(len, folded.split("\r\n")))


def _encoded_words(text: str, *, already: int) -> list[str]:
    """Split at characters, never inside one; `already` characters stand before the first word on its line."""
    as_q, as_b = _q_word(text), _b_word(text)
    encode, whole = (_b_word, as_b) if len(as_b) < len(as_q) else (_q_word, as_q)
    if already + len(whole) <= _ENCODED_WORD_LENGTH:
        return [whole]
    words = []
    room = max(_ENCODED_WORD_LENGTH - already, 40)
    while text:
        fits = bisect_right(range(len(text)), room, lo=1, key=lambda size: len(encode(text[: size + 1])))
        words.append(encode(text[:fits]))
        text = text[fits:]
        room = _ENCODED_WORD_LENGTH
    return words


def _b_word(text: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


def _q_word(text: str) -> str:
    return f"=?utf-8?q?{text.encode().decode('latin-1').translate(_Q)}?="
