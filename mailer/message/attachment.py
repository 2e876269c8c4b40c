"""A file that goes with every message, checked and written as a MIME part."""

import re
from dataclasses import dataclass
from urllib.parse import quote

from mailer.message.characters import CONTROLS, ENCODED_WORD, SURROGATES
from mailer.message.transfer import base64_lines

MAX_FILENAME_OCTETS = 255

_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_CONTENT_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:; ?{_WORD}={_WORD})*")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,100}")
_RESERVED_PARAMETER = re.compile(r"; ?(?:name|boundary)\b", re.IGNORECASE)
_NAMELESS = re.compile(r"[\s.]*")
_PARAMETER_CHUNK = 54  # with its name a line of at most 78


@dataclass(frozen=True, slots=True)
class Attachment:
    """`content_type` empty means application/octet-stream; `content_id` shows it in the HTML as cid:<content_id>."""

    filename: str
    content: bytes
    content_type: str = ""
    content_id: str = ""

    def check(self) -> list[tuple[str, str]]:
        """Return (field, problem with cure) for each wrong field."""
        problems = [
            ("filename", _check_filename(self.filename)),
            ("content_type", _check_content_type(self.content_type)),
        ]
        if not self.content:
            problems.append(("content", "an empty file: leave the attachment out"))
        if self.content_id and not _CONTENT_ID.fullmatch(self.content_id):
            problems.append(
                ("content_id", "not usable as cid: use up to 100 letters, digits, dots and hyphens, like logo1")
            )
        return [(field, problem) for field, problem in problems if problem]

    def part(self) -> tuple[str, bytes]:
        """Return the part's header lines and its encoded body."""
        disposition = "inline" if self.content_id else "attachment"
        lines = [
            f"Content-Type: {self.content_type or 'application/octet-stream'}",
            "Content-Transfer-Encoding: base64",
            f"Content-Disposition: {disposition};\r\n {_filename_parameter(self.filename)}",
        ]
        if self.content_id:
            lines.append(f"Content-ID: <{self.content_id}>")
        return "\r\n".join(lines), base64_lines(self.content)


def _check_filename(name: str) -> str | None:
    if _NAMELESS.fullmatch(name):
        return "a file without a name: give one, like report.pdf"
    if CONTROLS.search(name) or SURROGATES.search(name) or ENCODED_WORD.search(name):
        return "a line break, control character or encoded word in a file name: remove it"
    if "/" in name or "\\" in name:
        return "a directory in a file name: give the name alone"
    if len(name.encode()) > MAX_FILENAME_OCTETS:
        return f"a file name longer than {MAX_FILENAME_OCTETS} octets: shorten it"
    return None


def _check_content_type(content_type: str) -> str | None:
    if not content_type:
        return None
    if len(content_type) > 200 or not _CONTENT_TYPE.fullmatch(content_type):
        return "not a media type: write one like application/pdf"
    if content_type.lower().startswith(("multipart/", "message/")):
        return "a media type that cannot be attached as it is: use application/octet-stream"
    if _RESERVED_PARAMETER.search(content_type):
        return "a parameter that is written from the other fields: leave it out"
    return None


def _filename_parameter(name: str) -> str:
    """Return `filename="..."`, or what RFC 2231 makes of a name that is long or not ASCII."""
    if name.isascii() and len(name) <= 60:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'filename="{escaped}"'
    encoded = quote(name, safe="")
    if len(encoded) <= _PARAMETER_CHUNK:
        return f"filename*=utf-8''{encoded}"
    chunks = [""]
    for character in name:
        # Whole characters: readers decode each chunk by itself.
        piece = quote(character, safe="")
        if len(chunks[-1]) + len(piece) > _PARAMETER_CHUNK:
            chunks.append("")
        chunks[-1] += piece
    chunks[0] = f"utf-8''{chunks[0]}"
    return ";\r\n ".join(f"filename*{number}*={chunk}" for number, chunk in enumerate(chunks))
