from dataclasses import replace

import pytest

from mailer.message.address import Address
from mailer.message.attachment import Attachment
from mailer.message.content import Content, Header

ADA = Address("ada@example.com", "Ada")
GOOD = Content(
    from_address=ADA,
    subject="Hello {{ name }}",
    text="{{ a }} {{ b|default('x') }} {{ address }}",
    html="<b>{{ c }}</b>",
    reply_to=(Address("reply@example.com"),),
    cc=(Address("cc@bücher.example", "Zoë"),),
    bcc=(Address("bcc@example.com"),),
    headers=(Header("X-Tag", "{{ d }}"), Header("List-Unsubscribe", "<https://x.example/{{ e|urlencode }}>")),
    attachments=(Attachment("a.pdf", b"%PDF", "application/pdf"), Attachment("l.png", b"png", "image/png", "logo")),
)


def problems(**changes: object) -> dict[str, str]:
    return dict(replace(GOOD, **changes).check())  # type: ignore[arg-type]


def test_a_good_content_has_no_problem() -> None:
    assert GOOD.check() == []


def test_required_variables_are_those_of_all_templates_but_the_recipients_own() -> None:
    assert GOOD.required_variables == frozenset({"name", "a", "c", "d", "e"})
    nested = replace(GOOD, subject="{{ person.name }} {{ shop.city|default('') }}")
    assert nested.required_variables - GOOD.required_variables == {"person", "person.name"}


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        ({"from_address": Address("a@b.com, c@d.com")}, "content.from_address.address", "two addresses"),
        ({"from_address": Address("a@b.com", "A\r\nBcc: x")}, "content.from_address.display_name", "line break"),
        ({"subject": " "}, "content.subject", "without a subject"),
        ({"subject": "a\r\nBcc: x@y"}, "content.subject", "line break"),
        ({"subject": "A =?UTF-8?Q?=0A?=Bcc: x"}, "content.subject", "encoded word"),
        ({"subject": "{{ '=?UTF-8?Q?=0A?=' }}"}, "content.subject", "encoded word"),
        ({"subject": "s" * 999}, "content.subject", "998"),
        ({"subject": "{{ x"}, "content.subject", "line 1"),
        ({"text": "", "html": " \n"}, "content.text", "at least one"),
        ({"text": "a\n{{ x.y() }}"}, "content.text", "line 2: a call"),
        ({"text": "Sale ends {{ '2026-13-24'|date('%d.%m.') }}"}, "content.text", "line 1: date needs an ISO 8601"),
        ({"text": "{{ name }}\n{{ 'abc'|round }}"}, "content.text", "line 2: round needs a number"),
        ({"html": "{% if 'a' < 5 %}x{% endif %}"}, "content.html", "do not go together"),
        ({"subject": "{{ name }} {{ 5|first }}"}, "content.subject", "first and last need"),
        ({"text": "{% for x in 'a'|first %}{% endfor %}"}, "content.text", "a loop needs a list"),
        ({"html": "{% set x = 1 %}"}, "content.html", "set is not allowed"),
        ({"html": "x" * 270_000}, "content.html", "256 KiB"),
        ({"reply_to": (ADA,) * 11}, "content.reply_to", "at most 10"),
        ({"cc": (ADA, Address("no"))}, "content.cc[1].address", "no @"),
        ({"cc": (ADA, Address("ADA@example.com"))}, "content.cc[1].address", "given twice"),
        ({"bcc": (Address("a@b.com\n"),)}, "content.bcc[0].address", "line break"),
        ({"cc": tuple(Address(f"a{n}@b.com") for n in range(50))}, "content.cc", "more than 50"),
        ({"headers": (Header("Bcc", "x"),)}, "content.headers[0].name", "own fields"),
        ({"headers": (Header("X-A", "x"), Header("x-a", "y"))}, "content.headers[1].name", "twice"),
        ({"headers": (Header("X-A", "x\nBcc: y"),)}, "content.headers[0].value", "line break"),
        ({"headers": (Header("X-A", "{{ x }"),)}, "content.headers[0].value", "line 1"),
        ({"headers": (Header("List-Unsubscribe", "<https://x/ü>"),)}, "content.headers[0].value", "encode the URL"),
        ({"headers": (Header("X-A", "x" * 4001),)}, "content.headers[0].value", "4000"),
        ({"headers": tuple(Header(f"X-{n}", "x") for n in range(51))}, "content.headers", "at most 50"),
        ({"attachments": (Attachment("../x", b"x"),)}, "content.attachments[0].filename", "directory"),
        ({"attachments": (Attachment("", b"x"),)}, "content.attachments[0].filename", "without a name"),
        ({"attachments": (Attachment("\xa0.", b"x"),)}, "content.attachments[0].filename", "without a name"),
        ({"attachments": (Attachment("a\r\nX: y", b"x"),)}, "content.attachments[0].filename", "line break"),
        ({"attachments": (Attachment("é" * 200, b"x"),)}, "content.attachments[0].filename", "255"),
        ({"attachments": (Attachment("a", b"x", "text"),)}, "content.attachments[0].content_type", "media type"),
        ({"attachments": (Attachment("a", b"x", "a/b\r\nX: y"),)}, "content.attachments[0].content_type", "media type"),
        (
            {"attachments": (Attachment("a", b"x", "message/rfc822"),)},
            "content.attachments[0].content_type",
            "octet-stream",
        ),
        ({"attachments": (Attachment("a", b"x", "a/b; name=c"),)}, "content.attachments[0].content_type", "parameter"),
        ({"attachments": (Attachment("a", b""),)}, "content.attachments[0].content", "empty"),
        ({"attachments": (Attachment("a", b"x", "", "<x>"),)}, "content.attachments[0].content_id", "cid"),
        ({"html": "", "attachments": (Attachment("a", b"x", "", "x"),)}, "content.attachments[0].content_id", "no"),
        (
            {"attachments": (Attachment("a", b"x", "", "x"), Attachment("b", b"x", "", "x"))},
            "content.attachments[1].content_id",
            "two files",
        ),
        ({"attachments": (Attachment("a", b"x" * 3_145_729),)}, "content.attachments", "send a link"),
        ({"attachments": (Attachment("a", b"x"),) * 11}, "content.attachments", "at most 10"),
    ],
)
def test_each_problem_is_named_under_its_path(changes: dict[str, object], path: str, problem: str) -> None:
    found = problems(**changes)
    assert problem in found[path]
    assert ": " in found[path]


def test_all_problems_are_named_at_once() -> None:
    found = problems(subject="", text="{{", cc=(Address("x"),), headers=(Header("To", "a\nb"),))
    assert list(found) == [
        "content.subject",
        "content.text",
        "content.cc[0].address",
        "content.headers[0].name",
        "content.headers[0].value",
    ]


def test_the_path_starts_where_the_request_has_the_content() -> None:
    assert [path for path, _ in replace(GOOD, subject="").check("template.content")] == ["template.content.subject"]
