"""What the answers to MAIL, RCPT and DATA say together."""

import pytest

from services.sender.replies import Reply
from services.sender.smtp import Envelope
from services.sender.smtp.answers import Answers

CASES = [
    # MAIL, RCPT ..., DATA -> what keeps the message back, is the connection still good
    ("250 ok", ["250 ok"], "354 go", "", None),
    ("200 ok", ["251 ok"], "354 go", "", None),
    ("250 ok", ["250 ok", "550 no"], "354 go", "", None),
    ("250 ok", ["550 no"], "503 need RCPT", "RCPT: 550 no", True),
    ("250 ok", ["550 no"], "554 no valid recipients", "RCPT: 550 no", True),
    ("250 ok", ["550 no"], None, "RCPT: 550 no", True),
    ("250 ok", ["550 no", "250 ok"], "354 go", "RCPT: 550 no", False),
    ("250 ok", ["550 no"], "354 go", "RCPT: 550 no", False),
    ("250 ok", ["550 no"], "250 what", "DATA: 250 what", False),
    ("250 ok", ["450 wait"], "503 need RCPT", "RCPT: 450 wait", True),
    ("250 ok", ["250 ok"], "451 later", "DATA: 451 later", True),
    ("250 ok", ["250 ok"], "554 no", "DATA: 554 no", True),
    ("250 ok", ["250 ok"], "503 what", "DATA: 503 what", False),
    ("250 ok", ["250 ok"], "250 what", "DATA: 250 what", False),
    ("250 ok", ["350 what"], None, "RCPT: 350 what", False),
    ("350 what", [], None, "MAIL: 350 what", False),
    ("550 no", [], None, "MAIL: 550 no", True),
    ("503 what", [], None, "MAIL: 503 what", False),
    ("550 no", ["503 need MAIL"], "503 need MAIL", "MAIL: 550 no", True),
    ("550 no", ["503 need MAIL"], "354 go", "MAIL: 550 no", False),
    ("550 no", ["250 ok"], "503 what", "DATA: 503 what", True),
    ("550 no", ["250 ok"], "354 go", "DATA: 354 go", False),
    ("421 bye", [], None, "MAIL: 421 bye", False),
    ("250 ok", ["421 bye"], None, "RCPT: 421 bye", False),
    ("250 ok", ["250 ok", "421 bye"], None, "RCPT: 421 bye", False),
    ("250 ok", ["550 no"], "421 bye", "DATA: 421 bye", False),
    ("250 ok", ["250 ok"], "421 bye", "DATA: 421 bye", False),
]


@pytest.mark.parametrize(("mail", "recipients", "data", "refusal", "is_orderly"), CASES)
def test_the_first_answer_that_decides_is_named_and_the_connection_judged(
    mail: str, recipients: list[str], data: str | None, refusal: str, is_orderly: bool | None
) -> None:
    answers = Answers(Reply.parse(mail), list(map(Reply.parse, recipients)), Reply.parse(data) if data else None)
    assert str(answers.refusal or "") == refusal
    if is_orderly is not None:
        assert answers.is_orderly is is_orderly


def test_refused_recipients_are_told_by_their_place() -> None:
    envelope = Envelope("news@example.org", ("a@b.c", "d@e.f", "g@h.i"))
    replies = [Reply(250), Reply(550, ("no",)), Reply(250)]
    refused = Answers(Reply(250), replies, Reply(354)).refused(envelope)
    assert [(one.index, one.address, one.reply.code) for one in refused] == [(1, "d@e.f", 550)]
