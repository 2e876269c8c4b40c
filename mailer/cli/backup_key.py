"""`mailer backup new-key`: a key that encrypts snapshots."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure
from mailer.cli.session import Session
from mailer.snapshot_key import SnapshotKey

NewFile = Annotated[Path, typer.Argument(metavar="FILE", help="Where to put it; nothing may lie there.")]


def new_key(context: typer.Context, file: NewFile) -> None:
    """Make a key that encrypts snapshots, in a file that only its owner can read.

    Keep a copy of it apart from this machine and from the snapshots: without it nobody can open them.

    Example: mailer backup new-key /etc/mailer/backup.key
    """
    session = Session(context)
    key = SnapshotKey.generate()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Failure(
            f"{file} is there already: name a new file. To rotate, put the new key above the old ones in it.",
            ExitCode.USAGE,
        ) from None
    except OSError as error:
        raise Failure(f"{file} cannot be made: {error.strerror}.", ExitCode.USAGE) from None
    with os.fdopen(handle, "w") as text:
        text.write(f"# Key {key.id} encrypts snapshots. Keep a copy apart from this machine and from the snapshots.\n")
        text.write(f"{key.to_text()}\n")
        text.flush()
        os.fsync(text.fileno())
    if session.out.as_json:
        session.out.document({"file": str(file), "key_id": key.id})
        return
    session.out.print(f"Key {key.id} is in {file}.")
    session.out.note(f"Set MAILER_BACKUP_ENCRYPTION_KEY_FILE={file} and start the backup service again.")
