"""MAIL, RCPT and DATA: the commands go out, together where the server allows it, and the answers come back in order."""

from services.sender.replies import Stage
from services.sender.smtp.answers import CLOSING, Answers
from services.sender.smtp.endpoint import Timeouts
from services.sender.smtp.envelope import Envelope
from services.sender.smtp.wire import Wire

DATA = b"DATA\r\n"


async def take_answers(wire: Wire, envelope: Envelope, timeouts: Timeouts) -> Answers:
    """Take the answers to commands that were written together: all of them, unless the server closes meanwhile."""
    wire.stage = Stage.MAIL
    answers = Answers(wire.take_reply() or await wire.reply(timeouts.mail), [])
    if answers.mail.code == CLOSING:
        return answers
    wire.stage = Stage.RCPT
    for _ in envelope.recipients:
        reply = wire.take_reply() or await wire.reply(timeouts.rcpt)
        answers.recipients.append(reply)
        if reply.code == CLOSING:
            return answers
    wire.stage = Stage.DATA
    answers.data = wire.take_reply() or await wire.reply(timeouts.data)
    return answers


async def ask_one_by_one(wire: Wire, envelope: Envelope, timeouts: Timeouts, *, with_size: bool) -> Answers:
    """Say each command after the answer to the one before, and stop where nothing could be sent any more."""
    wire.stage = Stage.MAIL
    _ask(wire, envelope.mail_command(with_size=with_size))
    answers = Answers(await wire.reply(timeouts.mail), [])
    if not answers.mail.is_positive:
        return answers
    wire.stage = Stage.RCPT
    for command in envelope.rcpt_commands():
        _ask(wire, command)
        answers.recipients.append(await wire.reply(timeouts.rcpt))
        if answers.refusal:
            return answers
    wire.stage = Stage.DATA
    _ask(wire, DATA)
    answers.data = await wire.reply(timeouts.data)
    return answers


def _ask(wire: Wire, command: bytes) -> None:
    wire.expect(1)
    wire.write(command)
