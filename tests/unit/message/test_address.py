import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.message.address import Address, check_address, check_display_name, mailbox_key, parse_address
from mailer.message.problems import AddressProblem

GOOD = [
    "ada@example.com",
    "ada@localhost",
    "ada.lovelace+news@mail.example.co.uk",
    "o'hara@example.com",
    "!#$%&'*+/=?^_`{|}~-@example.com",
    "a@b.c",
    "1@2b.example",
    "a" * 64 + "@example.com",
    "a@" + ".".join(["b" * 63, "c" * 63, "d" * 63, "e" * 60]),
    "a@xn--bcher-kva.example",
    "zoë@example.com",
    "用户@example.com",
    "ада@example.com",
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_address_stays_as_it_is(text: str) -> None:
    assert parse_address(text).address == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ada@EXAMPLE.Com", "Ada@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@faß.de", "ada@xn--fa-hia.de"),
        ("ada@例え。テスト", "ada@xn--r8jz45g.xn--zckzah"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
    ],
)
def test_the_canonical_form_has_a_lower_case_a_label_domain(text: str, address: str) -> None:
    assert parse_address(text).address == address
    assert parse_address(address).address == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("ada", "no @"),
        ("ada@", "domain"),
        ("@example.com", "missing name before the @"),
        ("a@b.com, c@d.com", "two addresses in one field: put each into a recipient of its own"),
        ("a@b.com;c@d.com", "two addresses"),
        ("a@b.com c@d.com", "two addresses"),
        ("a,b@c.com", "comma"),
        ("a@b.com,", "comma"),
        ("a@b@c.com", "more than one @"),
        ("a@b.com\r\nBcc: x@y", "line break"),
        ("a@b.com\n", "line break"),
        ("a\0@b.com", "control"),
        ("a\x85@b.com", "control"),
        ("a\u2028@b.com", "line break"),
        ("a@b.com\u2029", "line break"),
        ("a\t@b.com", "control"),
        ("a b@c.com", "space"),
        (" a@b.com", "space"),
        ("a\u00a0b@c.com", "space"),
        ("Ada <ada@b.com>", "display_name"),
        ("<ada@b.com>", "angle brackets"),
        ("ada(comment)@b.com", "comment"),
        ("@relay.example,@other.example:a@b.com", "source route"),
        ('"a b"@c.com', "quoted"),
        ('"a@b"@c.com', "quoted"),
        ("a\\@b.com", "quoted"),
        ("=?UTF-8?Q?=0A?=@b.com", "encoded word"),
        ("=?utf-8?q?a=40b.com=0ABcc:?=", "encoded word"),
        ("a" * 65 + "@example.com", "64 octets"),
        ("é" * 33 + "@example.com", "64 octets"),
        ("a@" + ".".join(["b" * 63, "c" * 63, "d" * 63, "e" * 61]), "254 octets"),
        ("a@" + "b" * 64 + ".com", "domain"),
        ("a" * 5000 + "@b.com", "254 octets"),
        (".a@b.com", "dot"),
        ("a.@b.com", "dot"),
        ("a..b@c.com", "dot"),
        ("a@b..com", "domain"),
        ("a@.b.com", "domain"),
        ("a@b.com.", "domain"),
        ("a@-b.com", "domain"),
        ("a@b-.com", "domain"),
        ("a@b_c.com", "domain"),
        ("a@127.0.0.1", "IP address"),
        ("a@[127.0.0.1]", "literal"),
        ("a@[IPv6:::1]", "literal"),
        ("a@i❤.ws", "international"),
        ("a@xn--zzzzzz9999.com", "international"),
        ("a\u200b@b.com", "not allowed"),
        ("a\u202e@b.com", "not allowed"),
        ("a\uff20b@c.com", "not allowed"),
        ("a\uff1cb@c.com", "not allowed"),
        ("a\ud800@b.com", "not allowed"),
        ("a@b\ud800.com", "international"),
    ],
)
def test_a_bad_address_is_refused_with_the_reason(text: str, problem: str) -> None:
    assert problem in str(check_address(text))


def test_every_problem_names_a_cure() -> None:
    for text in ["", "ada", "a@b.com, c@d.com", "a@b@c", "a@b..com", "a@b.com\r\nBcc: x@y", "a" * 65 + "@b.com"]:
        assert ": " in str(check_address(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.com", "ada@example.COM"),
        ("ada@bücher.example", "ADA@xn--bcher-kva.example"),
        ("ZOË@example.com", "zoë@example.com"),
        ("zoe\u0308@example.com", "zoë@example.com"),
    ],
)
def test_two_spellings_of_one_mailbox_have_one_key(one: str, other: str) -> None:
    assert mailbox_key(one) == mailbox_key(other) == parse_address(one).key


def test_different_mailboxes_have_different_keys() -> None:
    assert mailbox_key("ada@example.com") != mailbox_key("ada+1@example.com")


def test_only_a_non_ascii_local_part_needs_smtputf8() -> None:
    assert parse_address("zoë@example.com").needs_smtputf8
    assert not parse_address("zoe@bücher.example").needs_smtputf8


@pytest.mark.parametrize("name", ["", "Ada Lovelace", "Zoë", 'Ada "the first"', "עדה", "Ada 🚀", "a" * 200])
def test_a_good_display_name_is_taken(name: str) -> None:
    assert parse_address("ada@example.com", name) == Address("ada@example.com", name)


@pytest.mark.parametrize(
    "name", ["Ada\r\nBcc: x@y", "Ada\n", "A\0", "A\x9b", "A\u2028B", "=?UTF-8?Q?=0A?=Bcc: x", "\ud83d", "a" * 201]
)
def test_a_bad_display_name_is_refused(name: str) -> None:
    assert check_display_name(name)
    with pytest.raises(AddressProblem):
        parse_address("ada@example.com", name)


@given(st.text(max_size=40) | st.from_regex(r"[a-z\W]{1,10}@[a-z\W]{1,10}", fullmatch=True))
def test_what_is_accepted_is_one_line_and_stable(text: str) -> None:
    try:
        address = parse_address(text).address
    except AddressProblem:
        return
    assert parse_address(address).address == address
    assert address.count("@") == 1
    assert len(address.splitlines()) == 1
    assert not set(address) & set(' ,;:<>()[]"\\\r\n')
