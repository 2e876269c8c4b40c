"""What is plain takes a shorter way; it says and gives exactly what the long way does."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from random import Random

import pytest

from mailer.message import address, headers, transfer
from mailer.message.address import Address, parse_address
from mailer.message.characters import CONTROLS
from mailer.message.content import MAX_SUBJECT, Content, Header
from mailer.message.mime import compile_message
from mailer.message.problems import MessageProblem
from mailer.message.template import Mode, compile_quoted, compile_template
from mailer.message.values import HEADER, text
from tests.unit.message import hostile
from tests.unit.message.test_mime import check_the_wire

ADDRESSES = [*"aZ09.-_+=?@", "ada", "Ada", "@", ".", "mail.example", "example.com", "x" * 30, "y" * 63, "xn--bcher-kva"]
AWKWARD = ["..", "--", "=?", " ", "\n", "\0", "é", "ı", "１", ",", "<", '"', "(a)", "[1.2.3.4]", "7"]
TAILS = ["", "=", ".", " ", "&", "é", "\n", "\n.", " \n", "=\n", ".=", "<>"]
TEXTS = [*hostile.texts(5_000), *(f"{'x' * length}{tail}" for length in range(66, 78) for tail in TAILS), "\ud800"]
OTHERS = [None, True, 0, 5.0, 1.25, [], ["a"], {"a": 1}]
PIECES = [
    *("{{ a }}", "{{ b }}", "{{ a|upper }}", "{{ a ~ b }}", "{{ c.d }}", "{{ e|default('-') }}", "{{ a if b else c }}"),
    *("{{ missing }}", "{{ b|round }}", "{{ 'k' }}", "\n", " \n", "\n.", "words", "=", "é", "<p>", "&", "x" * 75),
]


def outcome(function: Callable[..., object], *arguments: object) -> object:
    """Return what comes out of it, or what is said when it is refused."""
    try:
        return function(*arguments)
    except MessageProblem as problem:
        return str(problem)


def test_an_address_that_is_plain_is_what_the_rules_make_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        *hostile.texts(20_000, fragments=ADDRESSES, most=8),
        *hostile.texts(5_000, fragments=ADDRESSES + AWKWARD),
        *(f"{text}@{text}.example" for text in hostile.texts(5_000, fragments=ADDRESSES, most=3)),
        *(f"{'x' * local}@{'y' * domain}.example" for local in range(60, 67) for domain in range(60, 66)),
    ]
    named = [Address(text, name) for text in given for name in ("", "Ada", "a\nb")]
    plain = [text for text in given if address._PLAIN_ADDRESS.fullmatch(text)]
    assert 500 < len(plain) < len(given) / 2
    short = [(outcome(parse_address, *one), outcome(one.canonical)) for one in named]
    monkeypatch.setattr(address, "_PLAIN_LENGTH", -1)
    assert short == [(outcome(parse_address, *one),) * 2 for one in named]


def test_a_text_without_anything_to_encode_is_quoted_by_the_same_rules() -> None:
    long = hostile.texts(3_000, fragments=["=", "é", "x" * 9, "ab", " ", ".", "\n", "x" * 60], most=30)
    for given in [*TEXTS[:-1], *long]:
        lines = given.replace("\r", "")
        assert transfer.quoted_piece(lines) == quoted_by_the_rules(lines)


def quoted_by_the_rules(lines: str) -> str:
    if not lines:
        return ""
    encoded = "".join(
        chr(octet) if octet in b"\n" or (32 <= octet < 127 and octet not in b"=") else f"={octet:02X}"
        for octet in lines.encode()
    ).replace(" \n", "=20\n")
    if encoded.startswith("."):
        encoded = "=2E" + encoded[1:]
    encoded = re.sub(r"(.{71,73}(?<!=)(?<!=.))(?=.)", "\\1=\n", encoded).replace("\n.", "\n=2E").replace("\n", "\r\n")
    return encoded if lines.endswith("\n") else encoded + transfer.SOFT_BREAK


def test_a_value_that_is_plain_stands_in_a_header_as_it_is() -> None:
    for given in [*TEXTS, *OTHERS]:
        written = outcome(HEADER.value, given)
        expected = outcome(text, given)
        assert isinstance(expected, str)
        assert written == expected if not CONTROLS.search(expected) else "control character" in str(written)


def test_a_template_without_blocks_gives_what_it_gives_inside_a_block() -> None:
    random = Random(3)
    for _ in range(700):
        source = "".join(["a", *random.choices(PIECES, k=random.randrange(9)), "z"])
        values = {name: random.choice([*TEXTS, *OTHERS]) for name in "abce"} | {"c": {"d": random.choice(TEXTS)}}
        for render in (as_text, as_html, as_header):
            assert outcome(render, source, values) == outcome(render, f"{{% if 1 %}}{source}{{% endif %}}", values)


def as_text(source: str, values: Mapping[str, object]) -> str:
    return compile_quoted(source, Mode.TEXT).render(values)


def as_html(source: str, values: Mapping[str, object]) -> str:
    return compile_quoted(source, Mode.HTML).render(values)


def as_header(source: str, values: Mapping[str, object]) -> str:
    return compile_template(source.replace("\n", " "), Mode.HEADER).render(values)


def test_the_fields_of_a_message_are_those_that_the_rules_make_one_by_one() -> None:
    sender, random = Address("news@example.com", "The Shop"), Random(4)
    content = Content(from_address=sender, subject="{{ a }}!", text="{{ a }}\n.", headers=(Header("X-A", "{{ a }}"),))
    program = compile_message(content)
    taken = 0
    for given in TEXTS:
        name = random.choice(["", "Ada", *TEXTS])
        zone = timezone(timedelta(minutes=random.randrange(-720, 720)))
        date = datetime(2026, 1, 1, tzinfo=zone) + timedelta(
            microseconds=random.randrange(10 ** random.randrange(1, 15))
        )
        to = Address(random.choice(["ada@mail.example", "Ada@MAIL.example", "zoë@bücher.example"]), name)
        try:
            message = program.render(to, {"a": given}, message_id="<k@example.com>", date=date)
        except MessageProblem:
            assert isinstance(outcome(expected_fields, sender, to, given, date), str)
            continue
        taken += 1
        check_the_wire(message)
        assert message.data.partition(b"\r\n\r\n")[0] == expected_fields(sender, to, given, date)
    assert taken > 500


def expected_fields(sender: Address, to: Address, value: str, date: datetime) -> bytes:
    if CONTROLS.search(value) or len(f"{value}!".strip()) > MAX_SUBJECT:
        raise MessageProblem("not a subject")
    fields = [
        headers.address_field("From", [sender]),
        headers.address_field("To", [parse_address(*to)]),
        headers.field("Subject", f"{value}!".strip()),
        f"Date: {format_datetime(date.astimezone(UTC).replace(microsecond=0))}",
        "Message-ID: <k@example.com>",
        headers.field("X-A", value.strip()) if value.strip() else "",
        "MIME-Version: 1.0",
        'Content-Type: text/plain; charset="utf-8"',
        "Content-Transfer-Encoding: quoted-printable",
    ]
    return "\r\n".join(field for field in fields if field).encode()
