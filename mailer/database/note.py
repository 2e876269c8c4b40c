"""A note in memory that both processes have: what the last group came to, written down before its COMMIT.

The memory belongs to neither of them alone, so it outlives the one that wrote it.
"""

import os
import struct
import tempfile

_HEAD = struct.Struct("<QQ")


class Note:
    """One group's number and a parcel; a later one takes its place."""

    def __init__(self, descriptor: int) -> None:
        """Take the file, which is closed with `close`."""
        self.descriptor = descriptor

    @classmethod
    def new(cls) -> "Note":
        """Return an empty one."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("mailer-writer"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def write(self, group: int, parcel: bytes) -> None:
        """Write down what a group came to."""
        whole = memoryview(_HEAD.pack(group, len(parcel)) + parcel)
        written = 0
        while written < len(whole):
            written += os.pwrite(self.descriptor, whole[written:], written)

    def read(self, group: int) -> bytes | None:
        """Return what was written down about the group; None when it did not come so far."""
        head = os.pread(self.descriptor, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        number, length = _HEAD.unpack(head)
        return os.pread(self.descriptor, length, _HEAD.size) if number == group else None

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)
