import email
import re
from email import policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.message.address import Address, check_display_name
from mailer.message.headers import address_field, check_name, check_value, field
from mailer.message.problems import RenderProblem

# What a header value may hold: no controls, no lone surrogates; encoded words are filtered out below.
VALUES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("a =?_é🚀שׁ"), min_size=1, max_size=200
)


def parsed(header: str) -> email.message.EmailMessage:
    message = email.message_from_bytes(header.encode() + b"\r\n\r\n", policy=policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return message


@pytest.mark.parametrize("name", ["X-Campaign", "List-Unsubscribe", "List-Unsubscribe-Post", "Precedence", "X-1"])
def test_a_campaign_may_set(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("From", "to", "CC", "Bcc", "Subject", "DATE", "Message-ID", "MIME-Version", "Reply-To", "Sender"),
        *("Content-Type", "content-x", "Return-Path", "Received", "DKIM-Signature", "Resent-To", "ARC-Seal"),
        *("", "X Y", "X:Y", "X\r\nBcc", "Ünder", "-x", "X" * 71, "X\n", "x.y", "=?utf-8?q?x?="),
    ],
)
def test_a_campaign_may_not_set(name: str) -> None:
    assert ": " in str(check_name(name))


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nBcc: x@y",
        "a\n",
        "a\rb",
        "\x00",
        "a\x1fb",
        "a\x7f",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "\ud800",
        "A =?UTF-8?Q?=0A?=Bcc: x",
        "=?utf-8?b?Cg==?=",
        "=?x?Q??=",
        "a" * 4001,
    ],
)
def test_a_hostile_value_is_refused(value: str) -> None:
    assert check_value(value)
    for name in ("Subject", "List-Unsubscribe", "X-A"):
        with pytest.raises(RenderProblem):
            field(name, value)


@given(VALUES)
def test_any_other_value_comes_back_from_the_parser(value: str) -> None:
    value = value.strip()
    if check_value(value) or not value:
        return
    header = field("Subject", value)
    message = parsed(header)
    assert message.keys() == ["Subject"]
    assert message["Subject"] == value or " ".join(str(message["Subject"]).split()) == " ".join(value.split())
    assert header.isascii()
    assert all(len(line) <= 998 for line in header.split("\r\n"))


@given(VALUES.filter(lambda value: not value.isascii()))
def test_encoded_lines_are_at_most_78(value: str) -> None:
    if check_value(value):
        return
    assert all(len(line) <= 78 for line in field("Subject", value).split("\r\n"))


def test_words_are_folded_at_78() -> None:
    header = field("Subject", "word " * 60 + "end")
    assert all(len(line) <= 78 for line in header.split("\r\n"))
    assert parsed(header)["Subject"] == "word " * 60 + "end"


def test_a_long_unsubscribe_url_stays_as_it_is() -> None:
    url = f"<https://example.com/u?t={'x' * 300}=?&a==?b>"
    assert field("List-Unsubscribe", url) == f"List-Unsubscribe: {url}"
    assert field("List-Unsubscribe", f"{url}, <mailto:u@example.com>").endswith(">,\r\n <mailto:u@example.com>")


@pytest.mark.parametrize("value", ["<https://example.com/ü>", f"<https://example.com/{'x' * 1000}>"])
def test_a_url_that_no_line_can_hold_is_refused(value: str) -> None:
    with pytest.raises(RenderProblem, match="encode the URL"):
        field("List-Unsubscribe", value)


def test_a_word_longer_than_any_line_is_encoded() -> None:
    header = field("X-Token", "t" * 2000)
    assert max(map(len, header.split("\r\n"))) <= 78
    assert parsed(header)["X-Token"] == "t" * 2000


def test_what_looks_like_half_an_encoded_word_stays_text() -> None:
    assert parsed(field("Subject", "what =?this is"))["Subject"] == "what =?this is"


def shown_name(header: str) -> str:
    """Decode by RFC 2047; the address parser of Python 3.11 puts blanks between neighbouring encoded words."""
    phrase = header.removeprefix("To: ").rpartition("<")[0].strip()
    if phrase.startswith('"'):
        return re.sub(r"\\(.)", r"\1", phrase[1:-1])
    return str(make_header(decode_header(phrase)))


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=80)


@given(NAMES | st.text('ab"\\(),:;<>@[]. é', max_size=80))
def test_any_display_name_comes_back_from_the_parser(name: str) -> None:
    name = " ".join(name.split(" ")).strip()
    if check_display_name(name):
        return
    header = address_field("To", [Address("ada@example.com", name)])
    message = parsed(header)
    assert message.keys() == ["To"]
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.com"]
    assert " ".join(shown_name(header).split()) == " ".join(name.split())


@pytest.mark.parametrize(
    "name", ["עדה לאבלייס", "Ада Лавлейс " * 10, "Ada 👩‍💻", "Ada, Countess", 'A "B" \\ C', "a" * 200]
)
def test_a_name_of_any_script_comes_back_exactly(name: str) -> None:
    header = address_field("To", [Address("ada@example.com", name.strip())])
    assert shown_name(header) == name.strip()
    assert all(len(line) <= 78 for line in header.split("\r\n"))


def test_several_addresses_stand_on_lines_of_their_own() -> None:
    header = address_field("Cc", [Address("a@x.example", "A"), Address("b@x.example")])
    assert header == "Cc: A <a@x.example>,\r\n b@x.example"
