"""The judge: counts what arrived in the inbox, and compares it with who should have got it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mailer.inbox import Event, read_journal
from mailer.message.address import mailbox_key


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the inbox has, told apart by what should be there."""

    sent: int  # recipients who have a message
    duplicates: int  # copies beyond the first
    strangers: int  # messages to people who were not on the list
    missing: frozenset[str]  # recipients without a message
    first_byte_time: datetime | None  # first SMTP command after the campaign was due


def judge(inbox: Path, expected: Iterable[str], *, due: datetime) -> Arrived:
    """Read the inbox; `expected` are the addresses that are owed one message each."""
    wanted = {mailbox_key(address) for address in expected}
    copies: Counter[str] = Counter()
    first = None
    for entry in read_journal(inbox):
        if entry.event is Event.ACCEPTED:
            assert (inbox / entry.file).stat().st_size == entry.size_bytes
            copies.update(mailbox_key(recipient) for recipient in entry.recipients)
        if entry.event is Event.FIRST_COMMAND and first is None and entry.time >= due:
            first = entry.time
    return Arrived(
        sent=len(wanted & copies.keys()),
        duplicates=sum(count - 1 for count in copies.values()),
        strangers=len(copies.keys() - wanted),
        missing=frozenset(wanted - copies.keys()),
        first_byte_time=first,
    )
