"""Lock files: the kernel drops the lock when its owner dies, however it dies, and never before."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class LockFile:
    """An advisory lock (flock) on a file of its own; the file stays, the lock is what counts.

    Works between processes of one host and between two LockFiles of one process.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened yet."""
        self.path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Say whether this object holds the lock."""
        return self._handle is not None

    def acquire(self, *, shared: bool = False) -> bool:
        """Take the lock without waiting; False when somebody else holds it. Raises OSError on a bad path."""
        return self._take(fcntl.LOCK_NB, shared=shared)

    def acquire_waiting(self, *, shared: bool = False) -> None:
        """Take the lock, blocking the thread until it is free: call it in a thread."""
        self._take(0, shared=shared)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)

    def __enter__(self) -> Self:
        """Take the lock, blocking."""
        self.acquire_waiting()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        self.release()

    def _take(self, flags: int, *, shared: bool) -> bool:
        if self._handle is not None:
            return True
        # O_CLOEXEC: a child process must not keep the lock alive after its parent has died.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | flags)
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True


def is_owner_gone(path: Path) -> bool:
    """Say whether nobody holds the lock file: its owner has died or left, or it never existed.

    A stopped process (SIGSTOP) still holds its lock. The test takes the lock for an instant, so an owner that
    starts in that instant must retry: owners use names of their own, never shared ones.
    """
    if not path.exists():
        return True
    lock = LockFile(path)
    if not lock.acquire(shared=True):
        return False
    lock.release()
    return True
