"""The folder in which accepted messages are kept, byte for byte as they arrived."""

import itertools
import os
from collections.abc import Sequence
from email.parser import BytesHeaderParser
from pathlib import Path

from mailer.clock import Clock
from mailer.inbox.journal import Entry, Event, Journal


class Mailbox:
    """Keeps messages as .eml files, and tells the journal about everything."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Use the directory, creating it when it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._journal = Journal(directory)
        self._numbers = itertools.count(1)

    def keep(
        self,
        content: bytes,
        *,
        listener: str,
        port: int,
        connection: int,
        mail_from: str,
        recipients: Sequence[str],
    ) -> Entry:
        """Store a message and return its entry; the message survives a power cut from here on.

        Blocks while the disk works. Raises OSError when the message could not be stored.
        """
        time = self._clock.now()
        name = f"{time:%Y%m%dT%H%M%S.%fZ}-{listener}-{next(self._numbers):06d}.eml"
        _write_durably(self._directory / name, content)
        entry = Entry(
            time=time,
            listener=listener,
            port=port,
            connection=connection,
            event=Event.ACCEPTED,
            mail_from=mail_from,
            recipients=tuple(recipients),
            message_id=_message_id(content),
            file=name,
            size_bytes=len(content),
        )
        self._journal.append(entry)
        return entry

    def note(self, event: Event, *, listener: str, port: int, connection: int, reply: str = "") -> None:
        """Write an event that concerns no stored message into the journal."""
        self._journal.append(
            Entry(
                time=self._clock.now(),
                listener=listener,
                port=port,
                connection=connection,
                event=event,
                reply=reply,
            )
        )

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _write_durably(path: Path, content: bytes) -> None:
    """Create the file whole: under its name there is never half a message."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _message_id(content: bytes) -> str:
    header = content.partition(b"\r\n\r\n")[0]
    return str(BytesHeaderParser().parsebytes(header).get("Message-ID", "")).strip()
