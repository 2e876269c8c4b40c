"""Bytes from a server become replies. No I/O, and fast: most lines have been seen before."""

from collections import deque

from services.sender.replies import Reply

MAX_REPLY_BYTES = 65_536
"""Longest reply, all lines together, that is still taken for one."""

_REMEMBERED_LINES = 64
_ENDS_CODE = b" -\r"
_CODES = {b"%d" % code: code for code in range(200, 600)}


class ReplyReader:
    """Cuts bytes into replies, in whatever pieces they come. Stops for ever at the first thing that is none."""

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self.replies: deque[Reply] = deque()
        self.garbage = ""
        """The start of what is no reply; empty while everything is fine."""
        self._partial = bytearray()
        self._lines: list[str] = []
        self._code = 0
        self._size_bytes = 0  # of the lines of an unfinished reply
        self._known: dict[bytes, Reply] = {}

    @property
    def unfinished(self) -> str:
        """Return the start of a reply that is not complete; empty between replies."""
        if not (self._lines or self._partial):
            return ""
        return (self._lines[0] if self._lines else _shown(self._partial)) or "?"

    def feed(self, data: bytes) -> None:
        """Take more bytes; complete replies are added to `replies`."""
        if self._partial:
            self._partial += data
            if b"\n" not in data:
                self._check_size(len(self._partial))
                return
            data = bytes(self._partial)
            self._partial.clear()
        start = 0
        while not self.garbage and (stop := data.find(b"\n", start)) >= 0:
            line = data[start:stop]
            start = stop + 1
            known = None if self._lines else self._known.get(line)
            if known:
                self.replies.append(known)
            else:
                self._take(line)
        if start < len(data):
            self._partial += data[start:]
            self._check_size(len(self._partial))

    def _take(self, line: bytes) -> None:
        code, mark = _CODES.get(line[:3]), line[3:4]
        if code is None or mark not in _ENDS_CODE or (self._lines and code != self._code):
            self.garbage = _shown(line) or "an empty line"
            return
        self._check_size(len(line) + 1)
        self._lines.append(line[4:].rstrip(b"\r").decode("utf-8", "replace"))
        if mark == b"-":
            self._code = code
            self._size_bytes += len(line) + 1
            return
        reply = Reply(code, tuple(self._lines))
        if len(self._lines) == 1 and len(self._known) < _REMEMBERED_LINES:
            self._known[line] = reply
        self._lines.clear()
        self._size_bytes = 0
        if not self.garbage:
            self.replies.append(reply)

    def _check_size(self, more: int) -> None:
        if self._size_bytes + more > MAX_REPLY_BYTES:
            self.garbage = f"a reply of more than {MAX_REPLY_BYTES} bytes"


def _shown(line: bytes | bytearray) -> str:
    text = line[:200].decode("utf-8", "replace").strip()
    return "".join(character if character.isprintable() else "?" for character in text)
