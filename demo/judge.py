"""The judge: counts what arrived in the inbox, and compares it with who should have got it and with the books."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mailer.inbox import Event, read_journal
from mailer.message.address import mailbox_key


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the inbox has, told apart by what should be there."""

    sent: int  # recipients who have a message
    everybody: frozenset[str]  # whoever has one, on the list or not
    duplicates: int  # copies beyond the first
    strangers: int  # messages to people who were not on the list
    missing: frozenset[str]  # recipients without a message
    first_byte_time: datetime | None  # first SMTP command after the campaign was due


@dataclass(frozen=True, slots=True)
class Books:
    """What the sender has written down about the run."""

    sent: frozenset[str]  # who has a message, delivery by delivery
    others: frozenset[str]  # who is listed as failed, unknown or the like
    sent_count: int  # the campaign's own count


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
        everybody=frozenset(copies),
        duplicates=sum(count - 1 for count in copies.values()),
        strangers=len(copies.keys() - wanted),
        missing=frozenset(wanted - copies.keys()),
        first_byte_time=first,
    )


def mistakes(figures: Mapping[str, object], arrived: Arrived, books: Books) -> list[str]:
    """Return what is wrong with the figures, and where books and inbox differ, one line each."""
    due_to_first_byte = figures["due_to_first_byte_ms"]
    checks = {
        "recipients and rejected lines do not add up to the list": (
            figures["recipients"] == 500 and figures["rejected"] == 3
        ),
        "not everybody got it": figures["sent"] == figures["recipients"],
        "something failed": figures["failed"] == 0,
        "something is uncertain": figures["unknown"] == 0,
        "somebody got it twice": figures["duplicates"] == 0,
        "somebody got it who is not on the list": arrived.strangers == 0,
        "a message is lost": figures["lost"] == 0,
        "the books say that somebody has it, and the inbox does not": books.sent <= arrived.everybody,
        "the inbox has a message that the books do not call sent": arrived.everybody <= books.sent,
        "the campaign does not count what its deliveries say": books.sent_count == len(books.sent),
        "no circuit opened": figures["circuit_opened"] != 0,
        "a circuit did not close again": figures["circuit_closed"] != 0,
        "the first byte took a second or more": (
            isinstance(due_to_first_byte, float) and 0 <= due_to_first_byte < 1000
        ),
        "the snapshot is not listed": figures["snapshot"] != "",
        "the snapshot is not verified": figures["snapshot_verified"] is True,
    }
    return [mistake for mistake, is_right in checks.items() if not is_right]
