import email
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.message import headers
from mailer.message.address import Address
from mailer.message.attachment import Attachment
from mailer.message.content import Content, Header
from mailer.message.message_id import message_id
from mailer.message.mime import RenderedMessage, compile_message
from mailer.message.problems import AddressProblem, MessageProblem, RenderProblem

DATE = datetime(2026, 11, 23, 12, 30, 15, 999, tzinfo=UTC)
ADA = Address("ada@example.org", "Ada Lovelace")
PLAIN = Content(
    from_address=Address("news@example.com", "The Shop"), subject="Hello {{ name }}", text="Hi {{ name }}\n"
)
RICH = replace(
    PLAIN,
    html="<p>Hi {{ name }}</p><img src='cid:logo'>",
    reply_to=(Address("reply@example.com"), Address("second@example.com", "Zwei")),
    cc=(Address("cc@bücher.example", "Çe Çe"),),
    bcc=(Address("hidden@example.com"),),
    headers=(
        Header("X-Name", "{{ name }}"),
        Header("X-Empty", "{{ nothing|default('') }}"),
        Header("List-Unsubscribe", "<https://x.example/u?{{ name|urlencode }}" + "t" * 200 + ">"),
    ),
    attachments=(
        Attachment("bericht für Ada.pdf", bytes(range(256)) * 10, "application/pdf"),
        Attachment("logo.png", b"\x89PNG", "image/png", "logo"),
        Attachment("data.csv", b"a,b\r\n.\r\n", "text/csv; charset=utf-8"),
    ),
)


def render(content: Content = PLAIN, recipient: Address = ADA, /, **variables: object) -> RenderedMessage:
    return compile_message(content).render(recipient, variables, message_id="<key@example.com>", date=DATE)


def parsed(message: RenderedMessage) -> EmailMessage:
    result = email.message_from_bytes(message.data, policy=policy.default)
    assert isinstance(result, EmailMessage)
    assert not result.defects
    return result


def words(message: EmailMessage, kind: str = "plain") -> str:
    body = message.get_body((kind,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content()).replace("\r\n", "\n")


def shape(part: EmailMessage) -> object:
    if part.is_multipart():
        return {part.get_content_type(): [shape(child) for child in part.iter_parts()]}  # type: ignore[arg-type]
    return part.get_content_type()


def check_the_wire(message: RenderedMessage) -> None:
    lines = message.data.split(b"\r\n")
    assert message.data.endswith(b"\r\n")
    assert not [line for line in lines if line.startswith(b".") or b"\n" in line or b"\r" in line]
    assert max(map(len, lines)) <= 998
    assert message.needs_smtputf8 or message.data.isascii()


def test_a_plain_message_comes_back_as_it_was_written() -> None:
    message = render(name="Ada")
    check_the_wire(message)
    result = parsed(message)
    assert result.items() == [
        ("From", "The Shop <news@example.com>"),
        ("To", "Ada Lovelace <ada@example.org>"),
        ("Subject", "Hello Ada"),
        ("Date", "Mon, 23 Nov 2026 12:30:15 +0000"),
        ("Message-ID", "<key@example.com>"),
        ("MIME-Version", "1.0"),
        ("Content-Type", 'text/plain; charset="utf-8"'),
        ("Content-Transfer-Encoding", "quoted-printable"),
    ]
    assert words(result) == "Hi Ada\n"
    assert (message.envelope_from, message.envelope_to) == ("news@example.com", ("ada@example.org",))


def test_a_rich_message_has_every_part_in_its_place() -> None:
    message = render(RICH, name="Zoë")
    check_the_wire(message)
    result = parsed(message)
    assert shape(result) == {
        "multipart/mixed": [
            {
                "multipart/alternative": [
                    "text/plain",
                    {"multipart/related": ["text/html", "image/png"]},
                ]
            },
            "application/pdf",
            "text/csv",
        ]
    }
    assert words(result) == "Hi Zoë\n"
    assert words(result, "html") == "<p>Hi Zoë</p><img src='cid:logo'>"
    pdf, csv = result.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content()) == ("bericht für Ada.pdf", bytes(range(256)) * 10)
    assert (csv.get_filename(), csv.get_payload(decode=True)) == ("data.csv", b"a,b\r\n.\r\n")
    [logo] = [part for part in result.walk() if part.get_content_type() == "image/png"]
    assert logo["Content-ID"] == "<logo>"
    assert logo.get_content_disposition() == "inline"
    assert logo.get_payload(decode=True) == b"\x89PNG"


def test_the_headers_of_a_rich_message() -> None:
    result = parsed(render(RICH, name="Zoë"))
    assert result.keys() == [
        *("From", "Reply-To", "Cc", "To", "Subject", "Date", "Message-ID", "X-Name", "List-Unsubscribe"),
        *("MIME-Version", "Content-Type"),
    ]
    assert result["Subject"] == "Hello Zoë"
    assert result["X-Name"] == "Zoë"
    assert [str(address) for address in result["Reply-To"].addresses] == [
        "reply@example.com",
        "Zwei <second@example.com>",
    ]
    assert [(cc.addr_spec, cc.display_name) for cc in result["Cc"].addresses] == [("cc@xn--bcher-kva.example", "Çe Çe")]
    assert parsedate_to_datetime(result["Date"]) == DATE.replace(microsecond=0)


def test_a_long_unsubscribe_url_is_one_unbroken_line() -> None:
    assert f"\r\nList-Unsubscribe: <https://x.example/u?Ada{'t' * 200}>\r\n".encode() in render(RICH, name="Ada").data


def test_bcc_is_in_the_envelope_and_nowhere_else() -> None:
    message = render(RICH, name="Ada")
    assert message.envelope_to == ("ada@example.org", "cc@xn--bcher-kva.example", "hidden@example.com")
    assert b"hidden" not in message.data


def test_nobody_is_in_the_envelope_twice() -> None:
    content = replace(PLAIN, cc=(Address("ADA@example.org"), Address("b@x.example")), bcc=(Address("B@x.example"),))
    assert render(content, ADA, name="A").envelope_to == ("ada@example.org", "b@x.example")


def test_a_html_message_gets_a_text_of_its_own() -> None:
    content = replace(PLAIN, text="", html="<p>Hi <b>{{ name }}</b></p>{% if x is defined %}<p>x</p>{% endif %}")
    result = parsed(render(content, name="<Ada>"))
    assert shape(result) == {"multipart/alternative": ["text/plain", "text/html"]}
    assert words(result).rstrip() == "Hi <Ada>"
    awkward = replace(content, html="<p {% if x is defined %}id='x'{% endif %}>Hi {{ name }}</p>")
    assert words(parsed(render(awkward, name="Zoë"))) == "Hi Zoë\n"


def test_other_alphabets_travel_as_base64() -> None:
    content = replace(PLAIN, text="Привет, {{ name }}!\nПока\n")
    message = render(content, name="Ада")
    check_the_wire(message)
    assert b"Content-Transfer-Encoding: base64" in message.data
    assert words(parsed(message)) == "Привет, Ада!\nПока\n"


@pytest.mark.parametrize("text", [".", ".\n.\n..\n", "x" * 5000, "a \nb\t\n", "{{ name }}", "\n", "\u2028", "=20", "a"])
def test_awkward_texts_arrive(text: str) -> None:
    message = render(replace(PLAIN, text=text or "x", html="<p>.</p>"), name="." * 200)
    check_the_wire(message)
    if text.strip():
        assert words(parsed(message)) == text.replace("{{ name }}", "." * 200)


def test_line_ends_of_values_become_those_of_mail() -> None:
    assert words(parsed(render(replace(PLAIN, subject="s"), name="a\r\nb\rc\nd"))) == "Hi a\nb\nc\nd\n"
    cyrillic = replace(PLAIN, subject="s", text="Привет {{ name }}\n")
    assert words(parsed(render(cyrillic, name="a\r\nb\rc\nd"))) == "Привет a\nb\nc\nd\n"


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert render(RICH, name="Ada") == render(RICH, name="Ada")


def test_the_date_is_written_in_utc() -> None:
    date = datetime(2026, 3, 1, 4, 5, 6, tzinfo=timezone(timedelta(hours=5)))
    message = compile_message(PLAIN).render(ADA, {"name": "A"}, message_id="<key@example.com>", date=date)
    assert b"\r\nDate: Sat, 28 Feb 2026 23:05:06 +0000\r\n" in message.data


def test_another_content_has_other_boundaries() -> None:
    boundaries = {parsed(render(replace(RICH, subject=subject), name="A")).get_boundary() for subject in "ab"}
    assert len(boundaries) == 2


def test_the_recipient_is_a_variable_of_every_template() -> None:
    content = replace(PLAIN, subject="For {{ display_name }}", text="{{ address }}\n")
    result = parsed(render(content, address="other", display_name="other"))
    assert result["Subject"] == "For Ada Lovelace"
    assert words(result) == "ada@example.org\n"


def test_an_international_domain_is_sent_as_a_labels() -> None:
    message = render(PLAIN, Address("ada@BÜCHER.example"), name="A")
    assert message.envelope_to == ("ada@xn--bcher-kva.example",)
    assert b"To: ada@xn--bcher-kva.example\r\n" in message.data
    assert not message.needs_smtputf8


def test_a_local_part_beyond_ascii_needs_smtputf8() -> None:
    message = render(PLAIN, Address("zoë@bücher.example", "Zoë"), name="A")
    check_the_wire(message)
    assert message.needs_smtputf8
    assert message.envelope_to == ("zoë@xn--bcher-kva.example",)
    assert "<zoë@xn--bcher-kva.example>\r\n".encode() in message.data
    assert render(replace(PLAIN, bcc=(Address("é@x.example"),)), name="A").needs_smtputf8


@pytest.mark.parametrize(
    "value", ["a\r\nBcc: x@y", "a\nb", "a\rb", "\0", "a\x85b", "a\u2028b", "A =?UTF-8?Q?=0A?=Bcc: x@y", "\ud800"]
)
@pytest.mark.parametrize("field", ["subject", "headers"])
def test_no_value_becomes_a_header_of_its_own(field: str, value: str) -> None:
    subject, header = ("{{ x }}", "tag") if field == "subject" else ("Hello", "{{ x }}")
    with pytest.raises(RenderProblem):
        render(replace(PLAIN, subject=subject, headers=(Header("X-A", header),)), x=value, name="Ada")


def test_a_header_that_slipped_through_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "field", lambda name, value: f"{name}: {value}")
    content = replace(PLAIN, headers=(Header("X-A", "{{ a }}{{ b }}"),))
    program = compile_message(content)
    monkeypatch.setattr(program, "_headers", [("X-A", type("Hostile", (), {"render": lambda *_: "a\r\nBcc: x"})())])
    with pytest.raises(RenderProblem, match="header of its own"):
        program.render(ADA, {"name": "A"}, message_id="<k@x.example>", date=DATE)


@pytest.mark.parametrize(
    "recipient", [Address("a@b.com\r\nBcc: x@y"), Address("a@b.com, c@d.com"), Address("a@b.com", "A\nBcc: x")]
)
def test_an_unchecked_recipient_is_checked(recipient: Address) -> None:
    with pytest.raises(AddressProblem):
        render(PLAIN, recipient, name="A")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "subject: line 1|the variable 'name' is missing"),
        ({"name": ["a"]}, "cannot be written"),
        ({"name": "x" * 2000}, "longer than 998"),
    ],
)
def test_values_that_do_not_fit_are_named(variables: dict[str, object], problem: str) -> None:
    with pytest.raises(RenderProblem, match=problem):
        render(PLAIN, ADA, **variables)


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(RenderProblem, match="subject: empty"):
        render(replace(PLAIN, subject="{{ name }}"), name=" ")


def test_a_bad_content_is_not_compiled() -> None:
    with pytest.raises(MessageProblem, match=r"content\.subject: .*; content\.cc\[0\]\.address: "):
        compile_message(replace(PLAIN, subject="", cc=(Address("x"),)))


def test_mistakes_of_the_caller_are_loud() -> None:
    program = compile_message(PLAIN)
    with pytest.raises(ValueError, match="time zone"):
        program.render(ADA, {"name": "A"}, message_id="<k@x.example>", date=DATE.replace(tzinfo=None))
    for bad in ("k@x", "<k@x>\r\nBcc: y", "<>", "<a b@c>"):
        with pytest.raises(ValueError, match="Message-ID"):
            program.render(ADA, {"name": "A"}, message_id=bad, date=DATE)


def test_a_message_id_is_made_of_key_and_domain() -> None:
    assert message_id("0a1b.2", Address("news@example.com")) == "<0a1b.2@example.com>"
    for bad in ("", "a b", "a>", "a\r\n", ".a", "a" * 65):
        with pytest.raises(ValueError, match="delivery key"):
            message_id(bad, Address("news@example.com"))


def test_the_preview_is_what_the_reader_sees() -> None:
    preview = compile_message(RICH).preview(ADA, {"name": "Zoë"})
    assert preview.subject == "Hello Zoë"
    assert preview.text == "Hi Zoë\n"
    assert preview.html == "<p>Hi Zoë</p><img src='cid:logo'>"


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(deadline=None)
@given(name=ANY | st.text('a é\n\r.={}<>:,"\\', max_size=60), display_name=ANY)
def test_any_value_arrives_or_is_refused(name: str, display_name: str) -> None:
    content = replace(RICH, cc=(), headers=(Header("X-Name", "{{ name }}"),))
    try:
        message = render(content, Address("ada@example.org", display_name), name=name)
    except (RenderProblem, AddressProblem):
        return
    check_the_wire(message)
    result = parsed(message)
    expected = ["From", "Reply-To", "To", "Subject", "Date", "Message-ID", "X-Name", "MIME-Version", "Content-Type"]
    assert result.keys() == (expected if name.strip() else [key for key in expected if key != "X-Name"])
    assert [address.addr_spec for address in result["To"].addresses] == ["ada@example.org"]
    assert words(result) == f"Hi {name}\n".replace("\r\n", "\n").replace("\r", "\n")
    assert re.sub(r"\s+", " ", str(result["Subject"])) == re.sub(r"\s+", " ", f"Hello {name}".strip())
