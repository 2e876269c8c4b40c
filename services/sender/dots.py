"""Which final dots are on the wire, in a file that outlives the process: a crash leaves no more doubt than there is.

An intent in the database says that a message *may* be at its dot, and is stored ahead, for many messages at once. This
file says which messages *are*: a mark is set in mapped memory right before a dot is written, and changed when its
answer comes. However the process ends, the kernel keeps the page. It does not survive the machine itself: after a
restart of that the file is not believed, and every intent is in doubt.
"""

import mmap
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path

from mailer.database.types import from_microseconds
from services.sender.replies import Reply

MOST_DOTS = 8_192
"""So many dots can be on the wire, or answered and not booked yet, in one process."""

_MAGIC = b"mailer dots 1\n"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HEADER_BYTES = 128
_MARK = struct.Struct("<i48s")  # token, delivery key
_ANSWER = struct.Struct("<HQ12s100s")  # reply code, time, enhanced code, words
_ANSWER_AT = 1 + _MARK.size
_SLOT_BYTES = _ANSWER_AT + _ANSWER.size


class _Phase(IntEnum):
    """What a mark says. It is one byte and written last, so a mark is there as a whole or not at all."""

    FREE = 0
    WRITTEN = 1
    ACCEPTED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class AcceptedDot:
    """A message that a server has taken, and what it answered."""

    delivery_key: str
    token: int
    reply_code: int
    enhanced_code: str
    reply_text: str
    time: datetime


@dataclass(frozen=True, slots=True)
class DotRecord:
    """What a process left: the claims (delivery key, token) that were at their dot, and the messages accepted."""

    in_doubt: Collection[tuple[str, int]]
    accepted: Collection[AcceptedDot]


class Dot:
    """One final dot, from right before it is written until its outcome is booked."""

    __slots__ = ("_dots", "_slot")

    def __init__(self, dots: "Dots", slot: int) -> None:
        """Use `Dots.write` instead."""
        self._dots = dots
        self._slot = slot

    def accepted(self, reply: Reply, time: int) -> None:
        """Note that the server has the message, and since when (microseconds since 1970)."""
        self._dots.note_accepted(self._slot, reply, time)

    def refused(self) -> None:
        """Note that the server certainly does not have it."""
        self._dots.note_refused(self._slot)

    def booked(self) -> None:
        """Forget it: the database knows the outcome. Call it once."""
        self._dots.forget(self._slot)


class Dots:
    """The dots of one process."""

    def __init__(self, path: Path) -> None:
        """Make the file, with all the room that it will ever need on the disk. Raises OSError."""
        size = _HEADER_BYTES + MOST_DOTS * _SLOT_BYTES
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Without it, a disk that fills up later would end the process at its next mark.
            os.posix_fallocate(handle, 0, size)
            self._map = mmap.mmap(handle, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(handle)
        header = _header()
        self._map[: len(header)] = header
        self._free = list(range(MOST_DOTS - 1, -1, -1))

    def write(self, delivery_key: str, token: int) -> Dot | None:
        """Note that the dot of a message is about to be written; None, and nothing may be, when there are too many."""
        if not self._free:
            return None
        slot = self._free.pop()
        start = _HEADER_BYTES + slot * _SLOT_BYTES
        _MARK.pack_into(self._map, start + 1, token, delivery_key.encode())
        self._map[start] = _Phase.WRITTEN
        return Dot(self, slot)

    def note_accepted(self, slot: int, reply: Reply, time: int) -> None:
        """Use `Dot.accepted` instead."""
        start = _HEADER_BYTES + slot * _SLOT_BYTES
        enhanced = reply.enhanced_text.encode()
        text = reply.text.encode("utf-8", "replace")
        _ANSWER.pack_into(self._map, start + _ANSWER_AT, reply.code, time, enhanced, text)
        self._map[start] = _Phase.ACCEPTED

    def note_refused(self, slot: int) -> None:
        """Use `Dot.refused` instead."""
        self._map[_HEADER_BYTES + slot * _SLOT_BYTES] = _Phase.REFUSED

    def forget(self, slot: int) -> None:
        """Use `Dot.booked` instead."""
        self._map[_HEADER_BYTES + slot * _SLOT_BYTES] = _Phase.FREE
        self._free.append(slot)


def read_dots(path: Path) -> DotRecord | None:
    """Return what a process that has ended left in its file; None when there is no file, or none to be believed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if not content.startswith(_header()):
        return None
    in_doubt, accepted = [], []
    for start in range(_HEADER_BYTES, len(content) - _SLOT_BYTES + 1, _SLOT_BYTES):
        phase = content[start]
        if phase not in {_Phase.WRITTEN, _Phase.ACCEPTED}:
            continue
        token, raw_key = _MARK.unpack_from(content, start + 1)
        key = _text(raw_key)
        if phase == _Phase.WRITTEN:
            in_doubt.append((key, token))
        else:
            code, time, enhanced, text = _ANSWER.unpack_from(content, start + _ANSWER_AT)
            accepted.append(AcceptedDot(key, token, code, _text(enhanced), _text(text), from_microseconds(time)))
    return DotRecord(frozenset(in_doubt), tuple(accepted))


def _header() -> bytes:
    """Return what a file of this start of the machine begins with."""
    try:
        boot_id = _BOOT_ID.read_bytes().strip()
    except OSError:
        boot_id = b""
    return _MAGIC + boot_id + b"\n"


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("utf-8", "replace")
