"""Files that are being made: gone when their maker is done with them, and swept when it died.

Each lies in a folder of its own with a lock that the kernel drops when the maker dies. So a sweep takes nothing
from those who are at work, in this process or in another.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailer.lockfile import LockFile

_LOCK = "lock"


class Workroom:
    """A directory for files in the making, on the file system of the store."""

    def __init__(self, directory: Path) -> None:
        """Name the directory; `open` makes it."""
        self._directory = directory

    def open(self) -> None:
        """Make the directory, for the owner only."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give an empty file for the owner only; afterwards it is gone, with what SQLite put beside it."""
        folder, lock = self._own_folder(name)
        try:
            path = folder / name
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    def sweep(self) -> list[str]:
        """Remove what makers left that have died; returns the names."""
        swept = []
        for path in self._directory.iterdir():
            # A link is removed, not followed: what it points at is not ours.
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            elif not self._remove_ownerless(path):
                continue
            swept.append(path.name)
        return swept

    def _own_folder(self, name: str) -> tuple[Path, LockFile]:
        while True:
            folder = self._directory / f"{name}-{secrets.token_hex(4)}"
            folder.mkdir(mode=0o700)
            lock = LockFile(folder / _LOCK)
            try:
                if lock.acquire():
                    return folder, lock
            except FileNotFoundError:
                pass  # swept in the instant before it was locked: take another

    def _remove_ownerless(self, folder: Path) -> bool:
        lock = LockFile(folder / _LOCK)
        try:
            if not lock.acquire():
                return False
        except FileNotFoundError:
            return False  # its maker was faster
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        return True
