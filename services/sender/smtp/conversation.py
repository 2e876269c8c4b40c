"""The SMTP conversation on an open connection: stage by stage, with every reply matched to its command.

What makes it exact: the final dot is written apart, by `finish`, so that whatever happens before is certainly not
an acceptance; and the connection is closed after anything unexpected, so that no reply meets the wrong command.

What makes it fast: where the server offers PIPELINING (RFC 2920), MAIL, RCPT and DATA travel together, and those
of the next message may follow right behind the dot of this one.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from services.sender.failpoints import Window, reached
from services.sender.replies import Event, Incident, Reply, Stage
from services.sender.smtp.answers import CLOSING, Answers
from services.sender.smtp.endpoint import Timeouts
from services.sender.smtp.envelope import Envelope, dot_stuffed
from services.sender.smtp.exchange import DATA, ask_one_by_one, take_answers
from services.sender.smtp.extensions import Extensions
from services.sender.smtp.outcomes import (
    Accepted,
    NotAccepted,
    Outcome,
    ReadyForDot,
    RefusedRecipient,
    Uncertain,
)
from services.sender.smtp.wire import Ended, Wire

CHUNK_BYTES = 65_536
"""A message is written in pieces of this size, each with its own deadline; a smaller one in one piece."""

_DOT = b".\r\n"

T = TypeVar("T")


class Conversation:
    """One authenticated connection, used for one message after the other, by one task at a time.

    Ask `is_usable` before each message. Whatever is raised out of a method here, a cancel above all, has closed
    the connection; `interruption` then says how far the message had come.
    """

    def __init__(self, wire: Wire, extensions: Extensions, timeouts: Timeouts, *, tls_version: str = "") -> None:
        """Take a connection on which nothing is under way."""
        self.extensions = extensions
        self.tls_version = tls_version
        self._wire = wire
        self._timeouts = timeouts
        self._opened: Envelope | None = None  # its commands are written, their answers not taken
        self._is_resetting = False  # RSET is written, its answer not taken
        self._refused: tuple[RefusedRecipient, ...] = ()
        self._has_accepted = False  # a message, on this connection

    @classmethod
    def take_over(cls, transport: asyncio.Transport, extensions: Extensions, timeouts: Timeouts) -> Self:
        """Make the transport of an open connection ours. Nothing may be in flight on it."""
        wire = Wire(asyncio.get_running_loop())
        wire.connection_made(transport)
        transport.set_protocol(wire)
        tls = transport.get_extra_info("ssl_object")
        return cls(wire, extensions, timeouts, tls_version=tls.version() if tls else "")

    @property
    def stage(self) -> Stage:
        """Return where the conversation stands, or stood when it was broken off."""
        return self._wire.stage

    @property
    def is_usable(self) -> bool:
        """Say whether the next message may begin here."""
        return self._wire.stage is Stage.IDLE and self._wire.end is None

    def interruption(self) -> Incident:
        """Return what became of the message whose `begin`, `finish` or `send` did not return.

        A reply to the dot that had come already counts: it is the truth.
        """
        reply = self._wire.take_reply() if self.stage is Stage.DOT else None
        return Incident(self.stage, reply) if reply else Incident(self.stage, event=Event.CANCELLED)

    async def begin(
        self, envelope: Envelope, message: bytes, *, is_stuffed: bool = False
    ) -> ReadyForDot | NotAccepted | Uncertain:
        """Say MAIL, RCPT and DATA and write the message, but not the final dot.

        The message has CRLF line ends (ValueError otherwise); `is_stuffed` says it comes from `dot_stuffed`.
        Uncertain only when the server accepts before it was asked to, which no sane server does.
        """
        return await self._guarded(self._begin(envelope, message if is_stuffed else dot_stuffed(message)))

    def is_addressed(self, envelope: Envelope) -> bool:
        """Say whether the server waits for the message: its envelope went ahead, and was answered with yes.

        That is what happens nearly always; with anything else `address` deals, as if this had not been asked.
        """
        wire = self._wire
        if (self._opened is not envelope and self._opened != envelope) or self._is_resetting:
            return False
        if wire.stage is not Stage.IDLE or wire.end is not None or not self.extensions.has_pipelining:
            return False
        if not wire.take_welcome(len(envelope.recipients)):
            return False
        self._opened, self._refused = None, ()
        reached(Window.AFTER_ENVELOPE)
        wire.stage = Stage.BODY
        return True

    async def address(self, envelope: Envelope) -> NotAccepted | Uncertain | None:
        """Say MAIL, RCPT and DATA: the first half of `begin`. None: the server waits for the message."""
        return await self._guarded(self._address(envelope))

    async def write(self, stuffed: bytes) -> NotAccepted | Uncertain | None:
        """Write the message, but not the final dot: the second half of `begin`. None: the dot may follow."""
        begun = await self._guarded(self._write(stuffed))
        return None if isinstance(begun, ReadyForDot) else begun

    def takes_in_one_piece(self, stuffed: bytes) -> bool:
        """Say whether message and dot may be written as one: a short one, where one was accepted before.

        It saves a write, which is much of what a message costs. The price: a server that is lost between the two leaves
        a doubt that writing them apart might have spared. So it is not for a server that has not shown yet that it
        takes messages.
        """
        return self._has_accepted and len(stuffed) <= CHUNK_BYTES

    async def finish(self, next_envelope: Envelope | None = None, *, rest: bytes = b"") -> Outcome:
        """Write the final dot and wait for the answer, up to ten minutes.

        `rest` is what of the message was not written yet; see `takes_in_one_piece`.
        With `next_envelope`, and where the server offers PIPELINING, its commands follow right behind the dot:
        then `begin`, `address` or `send` has to come next with the same envelope, or the connection be closed.
        """
        try:
            return await self._finish(next_envelope, rest)
        except Ended as ended:
            return self._interrupted(ended)
        except BaseException:
            self.close()
            raise

    async def send(
        self,
        envelope: Envelope,
        message: bytes,
        *,
        is_stuffed: bool = False,
        next_envelope: Envelope | None = None,
    ) -> Outcome:
        """Do `begin` and `finish` in one, for a caller who has nothing to do between message and dot.

        A short message goes out together with its dot. A loss from there on is Uncertain.
        """
        body = message if is_stuffed else dot_stuffed(message)
        return await self._guarded(self._send(envelope, body, next_envelope))

    async def open(self, envelope: Envelope) -> None:
        """Write the commands of the next message without waiting; `begin` or `send` takes their answers.

        Where the server does not offer PIPELINING, or would not take the envelope, nothing happens.
        """
        if self.is_usable and self._opened is None:
            await self._wire.hear()
            self._wire.write(self._commands(envelope))

    async def noop(self) -> Incident:
        """Ask whether the server is still there: its reply, or what happened instead."""
        return await self._ask(Stage.NOOP, b"NOOP\r\n")

    async def quit(self) -> None:
        """Say goodbye and close. What the server answers changes nothing."""
        if self.is_usable and self._opened is None:
            await self._ask(Stage.QUIT, b"QUIT\r\n")
        self.close()

    def close(self) -> None:
        """Close at once. A message whose dot was not written is certainly not accepted."""
        self._wire.abort(Event.CANCELLED)

    # The steps

    async def _begin(self, envelope: Envelope, body: bytes) -> ReadyForDot | NotAccepted | Uncertain:
        return await self._address(envelope) or await self._write(body)

    async def _address(self, envelope: Envelope) -> NotAccepted | Uncertain | None:
        refusal = await self._open(envelope)
        if refusal:
            return refusal
        reached(Window.AFTER_ENVELOPE)
        self._wire.stage = Stage.BODY
        return None

    async def _write(self, body: bytes) -> ReadyForDot | NotAccepted | Uncertain:
        wire = self._wire
        if len(body) > CHUNK_BYTES or wire.has_reply:
            await self._write_in_pieces(body)
        elif wire.write(body) and wire.is_full:
            await wire.drain(self._timeouts.write)
        if wire.has_reply or wire.end:
            return self._early(await wire.reply(self._timeouts.write))
        return ReadyForDot(self._refused)

    async def _write_in_pieces(self, body: bytes) -> None:
        """Write until the end, or until the server says something: it does not want the rest."""
        view = memoryview(body)
        for start in range(0, len(body), CHUNK_BYTES):
            await self._wire.hear()
            if self._wire.has_reply or not self._wire.write(view[start : start + CHUNK_BYTES]):
                return
            await self._wire.drain(self._timeouts.write)

    async def _finish(self, next_envelope: Envelope | None, rest: bytes = b"") -> Outcome:
        if self.stage is not Stage.BODY:
            raise RuntimeError("no message waits for its dot")
        if not self._wire.is_quiet:
            await self._wire.hear()
        if self._wire.has_reply or self._wire.end:
            return self._early(await self._wire.reply(self._timeouts.write))
        return await self._write_dot(rest + _DOT, next_envelope)

    async def _send(self, envelope: Envelope, body: bytes, next_envelope: Envelope | None) -> Outcome:
        if len(body) > CHUNK_BYTES:
            ready = await self._begin(envelope, body)
            return await self._finish(next_envelope) if isinstance(ready, ReadyForDot) else ready
        refusal = await self._open(envelope)
        if refusal:
            return refusal
        self._wire.stage = Stage.BODY
        if self._wire.has_reply:
            return self._early(await self._wire.reply(self._timeouts.write))
        return await self._write_dot(body + _DOT, next_envelope)

    async def _open(self, envelope: Envelope) -> NotAccepted | None:
        """Come to 354 and return None, or return why not."""
        wire = self._wire
        if wire.stage is not Stage.IDLE or (self._opened is not None and self._opened != envelope):
            raise RuntimeError(f"another message is under way, at {wire.stage}")
        self._refused = ()
        obstacle = self.extensions.obstacle_to(envelope)
        if obstacle:
            return NotAccepted(Incident(Stage.MAIL, event=obstacle))
        if self._opened is None:
            await wire.hear()
            wire.write(self._commands(envelope))
        if wire.end and not wire.has_reply:
            return NotAccepted(Incident(Stage.IDLE, event=wire.end, detail=wire.last_words))
        self._opened = None
        refusal = await self._reset_answer() if self._is_resetting else None
        if refusal:
            return NotAccepted(refusal)
        if self.extensions.has_pipelining:
            answers = await take_answers(wire, envelope, self._timeouts)
        else:
            with_size = self.extensions.has_size
            answers = await ask_one_by_one(wire, envelope, self._timeouts, with_size=with_size)
        if answers.are_welcome:
            return None
        self._refused = answers.refused(envelope)
        refusal = answers.refusal
        return self._leave(refusal, answers) if refusal else None

    def _commands(self, envelope: Envelope) -> bytes:
        """Return what can be written at once for this message, and expect the answers."""
        if not self.extensions.has_pipelining or self.extensions.obstacle_to(envelope):
            return b""
        self._opened = envelope
        self._wire.expect(2 + len(envelope.recipients))
        return b"".join((envelope.mail_command(with_size=self.extensions.has_size), *envelope.rcpt_commands(), DATA))

    def _leave(self, refusal: Incident, answers: Answers) -> NotAccepted:
        """End a transaction before its message: the connection stays if nothing about it is in doubt."""
        self._wire.stage = Stage.IDLE
        if not answers.is_orderly:
            self.close()
        elif answers.has_transaction:
            # Its answer is taken before the next message: nobody waits for it now.
            self._is_resetting = True
            self._wire.expect(1)
            self._wire.write(b"RSET\r\n")
        return NotAccepted(refusal, self._refused)

    async def _reset_answer(self) -> Incident | None:
        self._is_resetting = False
        self._wire.stage = Stage.RSET
        reply = await self._wire.reply(self._timeouts.mail)
        self._wire.stage = Stage.IDLE
        if reply.is_positive:
            return None
        self.close()
        return Incident(Stage.RSET, reply)

    def _early(self, reply: Reply) -> NotAccepted | Uncertain:
        """Take a reply that came before the dot: it is the answer, and the rest of the message is not wanted."""
        self.close()
        self._wire.stage = Stage.IDLE
        incident = Incident(Stage.BODY, reply)
        return Uncertain(incident, self._refused) if reply.is_positive else NotAccepted(incident, self._refused)

    async def _write_dot(self, last: bytes, next_envelope: Envelope | None) -> Outcome:
        wire = self._wire
        wire.write_dot(last + self._commands(next_envelope) if next_envelope else last)
        reply = await wire.reply(self._timeouts.dot)
        wire.stage = Stage.IDLE
        incident = Incident(Stage.DOT, reply)
        if reply.is_positive:
            self._has_accepted = True
            return Accepted(incident, self._refused)
        if reply.code < 400 or reply.code == CLOSING:
            self.close()
        return NotAccepted(incident, self._refused) if reply.code >= 400 else Uncertain(incident, self._refused)

    async def _guarded(self, steps: Coroutine[Any, Any, T]) -> T | NotAccepted | Uncertain:
        """Turn the end of the connection into a value, by the stage at which it came; close on anything else."""
        try:
            return await steps
        except Ended as ended:
            return self._interrupted(ended)
        except BaseException:
            self.close()
            raise

    def _interrupted(self, ended: Ended) -> NotAccepted | Uncertain:
        stage, self._wire.stage = self._wire.stage, Stage.IDLE
        incident = Incident(stage, event=ended.event, detail=self._wire.last_words)
        result = Uncertain if stage is Stage.DOT else NotAccepted
        return result(incident, self._refused)

    async def _ask(self, stage: Stage, command: bytes) -> Incident:
        wire = self._wire
        try:
            await wire.hear()
            refusal = await self._reset_answer() if self._is_resetting else None
            if refusal:
                return refusal
            wire.stage = stage
            wire.expect(1)
            wire.write(command)
            reply = await wire.reply(self._timeouts.farewell)
        except Ended as ended:
            return Incident(stage, event=ended.event, detail=wire.last_words)
        except BaseException:
            self.close()
            raise
        if reply.code == CLOSING:
            self.close()
        wire.stage = Stage.IDLE
        return Incident(stage, reply)
