"""Copies in a folder: of another disk, or of another machine that is mounted here."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from services.backup.copies.place import CHUNK_BYTES, Lying, Moved, away, missing, not_the_same, refused
from services.backup.durable import UNFINISHED, move_file, sync_directory, unfinished

_PASSES = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EAGAIN}


class DirectoryPlace:
    """A folder that is there already: one made here would lie on the wrong disk while the right one is not mounted."""

    def __init__(self, directory: Path) -> None:
        """Name the folder."""
        self._directory = directory
        self._url = directory.as_uri()

    def names(self) -> dict[str, Lying]:
        """Return the files in it; names that begin with a dot are being written."""
        found = {}
        with self._translated():
            for path in self._directory.iterdir():
                # One that is removed meanwhile is not there.
                with suppress(FileNotFoundError):
                    if not path.name.startswith(".") and path.is_file():
                        stat = path.stat()
                        found[path.name] = Lying(stat.st_size, str(stat.st_mtime_ns))
        return found

    def put(self, name: str, source: BinaryIO, *, size_bytes: int, sha256: str, moved: Moved) -> None:
        """Write beside, read back from the disk, compare, rename."""
        path = self._directory / name
        beside = unfinished(path)
        with self._translated():
            try:
                handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb+") as file:
                    size = _copy(source, file, moved)
                    file.flush()
                    os.fsync(file.fileno())
                    # So that what is compared comes from the disk, not from memory.
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    file.seek(0)
                    if size != size_bytes or hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                        raise not_the_same(self._url, name)
                move_file(beside, path)
            finally:
                beside.unlink(missing_ok=True)

    def get(self, name: str, target: BinaryIO, *, moved: Moved) -> None:
        """Read a file."""
        self._require_directory()
        size = 0
        with self._opened(name) as source:
            while chunk := self._read(source):
                target.write(chunk)
                size += len(chunk)
                moved(size)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._require_directory()
        with self._translated():
            (self._directory / name).unlink(missing_ok=True)
            sync_directory(self._directory)

    def sweep(self) -> None:
        """Remove what killed uploads left."""
        with self._translated():
            for path in [*self._directory.iterdir()]:
                if path.name.startswith(".mailer_") and path.name.endswith(UNFINISHED) and path.is_file():
                    path.unlink(missing_ok=True)

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        with self._translated():
            try:
                file = (self._directory / name).open("rb")
            except FileNotFoundError:
                raise missing(self._url, name) from None
        with file:
            yield file

    def _read(self, source: BinaryIO) -> bytes:
        with self._translated():
            return source.read(CHUNK_BYTES)

    def _require_directory(self) -> None:
        if not self._directory.is_dir():
            raise refused(self._url, os.strerror(errno.ENOENT))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = str(error.strerror or error)
            raise (away if error.errno in _PASSES else refused)(self._url, why) from error


def _copy(source: BinaryIO, target: BinaryIO, moved: Moved) -> int:
    size = 0
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        size += len(chunk)
        moved(size)
    return size
