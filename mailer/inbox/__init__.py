"""A mail inbox for development and the demo: real SMTP, and every accepted message a file.

It plays any number of SMTP accounts in one process. It delivers nothing to anybody, accepts every recipient
and belongs on loopback or in a private network. What it answered 250 to is on disk, so it can judge what was
sent:

    inbox = Inbox(directory, SystemClock())
    first, second = inbox.add("first"), inbox.add("second", delay=0.05)
    async with inbox:
        ...                                            # send to first.port and second.port
        first.fail(until=clock.now() + timedelta(seconds=3))
    accepted = [entry for entry in read_journal(directory) if entry.event is Event.ACCEPTED]
"""

from mailer.inbox.inbox import Inbox, run
from mailer.inbox.journal import Entry, Event, read_journal
from mailer.inbox.listener import Listener

__all__ = ["Entry", "Event", "Inbox", "Listener", "read_journal", "run"]
