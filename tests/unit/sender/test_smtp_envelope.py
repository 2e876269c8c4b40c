"""Envelopes, the message as it travels, and what a server says about itself."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp import Envelope, Extensions, dot_stuffed

LINES = st.lists(st.text("ab.", max_size=5).map(str.encode), max_size=20)


def unstuffed(body: bytes) -> bytes:
    """Return what a server makes of it (RFC 5321 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"", body)


@given(LINES)
def test_a_server_gets_back_exactly_what_was_stuffed(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    body = dot_stuffed(message)
    assert unstuffed(body) == (message or b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + body


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (b"", b"\r\n"),
        (b"a", b"a\r\n"),
        (b".", b"..\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n"),
        (b"a.b\r\n", b"a.b\r\n"),
    ],
)
def test_dots_at_the_start_of_a_line_are_doubled(message: bytes, body: bytes) -> None:
    assert dot_stuffed(message) == body


@pytest.mark.parametrize("message", [b"a\n", b"a\r", b"a\r\r\n", b"a\n\r\n", b"a\n.\n", b"\r\n\n.\r\n", b"a\r.\r\n"])
def test_a_bare_line_end_is_refused_because_servers_disagree_about_it(message: bytes) -> None:
    with pytest.raises(ValueError, match="bare"):
        dot_stuffed(message)


@pytest.mark.parametrize(
    "address", ["a@b.c>\r\nRCPT TO:<d@e.f", "a@b.c\r", "a@b.c\n", "a b@c.d", "<a@b.c>", "a@b.c\x00", "a@b.c> SIZE=1"]
)
def test_an_address_cannot_be_another_command(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Envelope("news@example.org", (address,))
    with pytest.raises(ValueError, match="address"):
        Envelope(address, ("ada@example.org",))


def test_an_envelope_without_recipients_is_none() -> None:
    with pytest.raises(ValueError, match="recipient"):
        Envelope("news@example.org", ())


def test_the_commands_carry_only_what_the_message_needs() -> None:
    envelope = Envelope("news@example.org", ("a@b.c", "d@e.f"), size_bytes=1234)
    assert envelope.mail_command(with_size=True) == b"MAIL FROM:<news@example.org> SIZE=1234\r\n"
    assert envelope.mail_command(with_size=False) == b"MAIL FROM:<news@example.org>\r\n"
    assert envelope.rcpt_commands() == [b"RCPT TO:<a@b.c>\r\n", b"RCPT TO:<d@e.f>\r\n"]
    plain = Envelope("", ("ü@b.c",), size_bytes=1234, is_plain=True)
    assert plain.mail_command(with_size=True) == b"MAIL FROM:<> SMTPUTF8\r\n"


@pytest.mark.parametrize(
    ("parameters", "limit"), [("1000", 1000), ("0", None), ("", None), ("many", None), ("-1", None), ("²", None)]
)
def test_a_size_limit_is_believed_only_when_it_is_one(parameters: str, limit: int | None) -> None:
    extensions = Extensions.parse({"size": parameters})
    assert (extensions.has_size, extensions.size_limit) == (True, limit)


def test_extensions_are_recognised_in_any_case() -> None:
    extensions = Extensions.parse({"pipelining": "", "SmtpUtf8": "", "x-own": " a b "})
    assert (extensions.has_pipelining, extensions.has_smtputf8, extensions.has_size) == (True, True, False)
    assert extensions.keywords == {"PIPELINING": "", "SMTPUTF8": "", "X-OWN": "a b"}
