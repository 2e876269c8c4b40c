"""One attempt: one conversation about one message, in the order that makes the book exact.

Render whole, then MAIL, RCPT, DATA and the body, and no dot. The intent goes to disk while the envelope is on its way.
Only when it is there is the dot written; what the server answers to that is the only thing that counts as accepted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from mailer.message.mime import RenderedMessage
from services.sender.failpoints import Window, reached
from services.sender.replies import Event, Incident, Stage
from services.sender.smtp import Conversation, Envelope, Outcome


@dataclass(slots=True)
class Attempted:
    """What an attempt came to.

    `was_intended`: the intent is on disk. `lost_claim`: it was refused. `was_stopped`: its run was, before the dot.
    """

    incident: Incident
    was_intended: bool = False
    lost_claim: bool = False
    was_stopped: bool = False
    refused_copies: tuple[str, ...] = ()


def envelope_of(message: RenderedMessage, *, is_plain: bool) -> Envelope:
    """Return the envelope of a message; `is_plain` leaves out what it can do without."""
    return Envelope(
        sender=message.envelope_from,
        recipients=message.envelope_to,
        size_bytes=len(message.data),
        is_plain=is_plain,
        needs_smtputf8=message.needs_smtputf8,
    )


async def attempt(
    conversation: Conversation,
    message: RenderedMessage,
    envelope: Envelope,
    *,
    intent: asyncio.Future[bool],
    may_finish: Callable[[], bool],
    follow: Callable[[], Envelope | None],
    answered: Callable[[Outcome], None],
) -> Attempted:
    """Offer the message to the server. The connection is closed whenever anything is not as expected.

    `intent` says whether the intent is on disk; `may_finish` is asked right before the dot, and `answered` hears at
    once what came of it. `follow`, asked while the intent is on its way, names the envelope that goes right behind it.
    Cancelled, it raises `BrokenOff`, which says how far the message had come.
    """
    try:
        if not conversation.is_addressed(envelope):
            addressed = await conversation.address(envelope)
            if addressed is not None:
                return _attempted(addressed, was_intended=await intent)
        in_one_piece = conversation.takes_in_one_piece(message.data)
        if not in_one_piece:
            early = await conversation.write(message.data)
            if early is not None:
                return _attempted(early, was_intended=await intent)
        reached(Window.AFTER_BODY)
        next_envelope = follow()
        if not await intent:
            conversation.close()
            return Attempted(Incident(Stage.BODY, event=Event.CANCELLED), lost_claim=True)
        if not may_finish():
            conversation.close()
            return Attempted(Incident(Stage.BODY, event=Event.CANCELLED), was_intended=True, was_stopped=True)
        reached(Window.BETWEEN_INTENT_AND_DOT)
        outcome = await conversation.finish(next_envelope, rest=message.data if in_one_piece else b"")
        answered(outcome)
        reached(Window.BETWEEN_REPLY_AND_COMMIT)
        return _attempted(outcome, was_intended=True)
    except asyncio.CancelledError as cancelled:
        # The intent may be on its way to the disk, and the result that is booked next comes behind it; if it still
        # waits, it would come after the result, so it is taken back.
        intent.cancel()
        conversation.close()
        raise BrokenOff(Attempted(conversation.interruption())) from cancelled


class BrokenOff(asyncio.CancelledError):
    """An attempt was cancelled; `attempted` is what has to be booked about it."""

    def __init__(self, attempted: Attempted) -> None:
        """Take what it came to."""
        super().__init__()
        self.attempted = attempted


def _attempted(outcome: Outcome, *, was_intended: bool) -> Attempted:
    copies = tuple(f"{one.address}: {one.reply}" for one in outcome.refused if one.index)
    return Attempted(outcome.incident, was_intended=was_intended, refused_copies=copies)
