"""Content transfer encodings (RFC 2045 6.7, 6.8), made so that no line of a body starts with a dot.

Quoted-printable is written in *pieces*: each starts at the beginning of a line and ends with a line break,
hard or soft, so that pieces encoded at different times can simply be joined. That lets the literal text of
a template be encoded once per campaign and only the values once per recipient. A joined body ends with
`SOFT_BREAK` unless its text ended a line; `close_quoted` removes it.
"""

import binascii
import re

SOFT_BREAK = "=\r\n"

_ESCAPES = {octet: chr(octet) for octet in range(256)}  # all octets, for to look in vain takes longest
_ESCAPES |= {octet: f"={octet:02X}" for octet in range(256) if chr(octet) in "=\x7f" or not 32 <= octet < 127}
_ESCAPES[ord("\n")] = "\n"
# Longest run that may be followed by a soft break: 73 + a dot that becomes =2E + the "=" are the 76 allowed.
_PARTS = re.compile(r".{71,73}(?<!=)(?<!=.)(?=.)|.+")
_SHORT = 71  # so few characters are one part
_PLAIN_LINE = re.compile(r"[ !-\-/-<>-~][ -<>-~]{0,70}+")  # nothing to encode, nothing to break
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
_BASE64_LINE = 76


def quoted_piece(text: str) -> str:
    """Return the piece for a text with `\\n` line ends; the empty text is the empty piece."""
    if _PLAIN_LINE.fullmatch(text):
        return text + SOFT_BREAK
    if not text:
        return ""
    if text.isascii() and not _CONTROLS.search(text):
        encoded = text.replace("=", "=3D")
    else:
        encoded = text.encode().decode("latin-1").translate(_ESCAPES)
    encoded = encoded.replace(" \n", "=20\n")
    if encoded.startswith("."):
        encoded = "=2E" + encoded[1:]
    if len(encoded) > _SHORT:
        encoded = "\n".join(["=\n".join(_PARTS.findall(line)) for line in encoded.split("\n")])
    encoded = encoded.replace("\n.", "\n=2E").replace("\n", "\r\n")
    return encoded if text.endswith("\n") else encoded + SOFT_BREAK


def close_quoted(body: str) -> bytes:
    """Return a body of joined pieces as it stands in the message."""
    return body.removesuffix(SOFT_BREAK).encode("ascii")


def base64_lines(data: bytes) -> bytes:
    """Return base64 in lines of 76, without a final line break."""
    encoded = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join([encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE)])


def prefers_base64(text: str) -> bool:
    """Say whether base64 is clearly shorter (Cyrillic, Chinese): 3 characters an octet against 1.33."""
    size = len(text.encode())
    foreign = size - len(text.encode("ascii", "ignore"))
    return foreign * 4 > size
