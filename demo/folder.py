"""The folder of a demonstration: for one at a time, and never emptied when it is somebody else's."""

import shutil
from pathlib import Path

from mailer.database.file import users_lock_path
from mailer.lockfile import LockFile

MARKER = "made-by-the-demo"


class FolderRefused(Exception):
    """The folder is not for this demonstration; `str()` says why and the cure."""


def claim(directory: Path) -> LockFile:
    """Take the folder until the lock is released, and empty it. Raises FolderRefused; nothing is removed then."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    whole = directory.resolve()
    # Beside the folder, not in it: what is emptied cannot keep a lock.
    lock = LockFile(whole.with_name(f"{whole.name}.lock"))
    if not lock.acquire():
        raise FolderRefused(f"another demo is running in {directory}: let it end, or choose another --directory")
    try:
        if directory.exists():
            _refuse_what_is_not_ours(directory)
            shutil.rmtree(directory)
        directory.mkdir()
        (directory / MARKER).touch()
    except BaseException:
        lock.release()
        raise
    return lock


def _refuse_what_is_not_ours(directory: Path) -> None:
    if not directory.is_dir():
        raise FolderRefused(f"{directory} is no folder: choose another --directory")
    if any(directory.iterdir()) and not (directory / MARKER).exists():
        raise FolderRefused(f"{directory} has files that no demo made: choose another --directory, or remove it")
    users = users_lock_path(directory / "mailer.db")
    if users.exists():
        in_use = LockFile(users)
        if not in_use.acquire():
            raise FolderRefused(f"services are running over {directory}: end them, or choose another --directory")
        in_use.release()
