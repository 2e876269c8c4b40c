"""Files that are either the old or the new one after a power cut, never half of each."""

import os
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".new"
"""How the names end under which `replace_file` writes; they begin with a dot."""


def replace_file(path: Path, data: bytes) -> None:
    """Put data at path in one step, readable by the owner only, on disk when this returns.

    Two writers of one file must take turns. Raises OSError, and leaves nothing then.
    """
    beside = unfinished(path)
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move_file(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def unfinished(path: Path) -> Path:
    """Return where the data for path lies while it is being written; left behind only by a killed process."""
    return path.with_name(f".{path.name}{UNFINISHED}")


def move_file(source: Path, target: Path) -> None:
    """Rename within one file system, on disk when this returns."""
    source.replace(target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def sync_file(path: Path) -> None:
    """Return once the contents of the file are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Return once the names in the directory are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
