"""Renders messages where they are claimed: beside the event loop, which has enough to do, and many in a row.

It is done ahead, not for good: what is not rendered here, or cannot be, is rendered when its turn comes.
"""

from collections.abc import Callable, Sequence

from mailer.message.mime import RenderedMessage
from services.sender.outbox import Claimed
from services.sender.shelf import Program, Shelf

MOST_BYTES = 4 * 1024 * 1024
"""So much is rendered of one claim: claims of large messages would fill the memory."""


class Press:
    """Renders, by contents that it keeps."""

    def __init__(self) -> None:
        """Start without a content."""
        self._shelf = Shelf()

    def learn(self, content_hashes: Sequence[str], read: Callable[[str], bytes | None]) -> None:
        """Take contents that may be new; `read` returns the content with a hash as it is stored."""
        for content_hash in content_hashes:
            if self._shelf.find(content_hash) is None:
                try:
                    self._shelf.load(content_hash, read(content_hash))
                except LookupError:
                    continue  # the feeder meets it again, and says so

    def render(self, claims: Sequence[Claimed]) -> list[RenderedMessage | None]:
        """Return the messages of these deliveries, None for each that is left to whoever sends it."""
        room = MOST_BYTES
        messages: list[RenderedMessage | None] = []
        for one in claims:
            program = self._shelf.find(one.content_hash)
            message = _rendered(program, one) if program is not None and room > 0 else None
            room -= len(message.data) if message is not None else 0
            messages.append(message)
        return messages


def _rendered(program: Program, claimed: Claimed) -> RenderedMessage | None:
    try:
        return program.render(claimed)
    except Exception:  # noqa: BLE001 (whatever it is comes again where it can be booked)
        return None
