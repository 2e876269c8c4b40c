"""What is plain takes a shorter way; it says and gives exactly what the long way does."""

import pytest

from mailer.message import address
from mailer.message.address import Address, parse_address
from mailer.message.problems import AddressProblem
from tests.unit.message import hostile

ADDRESSES = [*"aZ09.-_+=?@", "ada", "Ada", "@", ".", "mail.example", "example.com", "x" * 30, "y" * 63, "xn--bcher-kva"]
AWKWARD = ["..", "--", "=?", " ", "\n", "\0", "é", "ı", "１", ",", "<", '"', "(a)", "[1.2.3.4]", "7"]


def outcome(text: str) -> Address | str:
    try:
        return parse_address(text)
    except AddressProblem as problem:
        return str(problem)


def test_an_address_that_is_plain_is_what_the_rules_make_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        *hostile.texts(20_000, fragments=ADDRESSES, most=8),
        *hostile.texts(5_000, fragments=ADDRESSES + AWKWARD),
        *(f"{text}@{text}.example" for text in hostile.texts(5_000, fragments=ADDRESSES, most=3)),
        *(f"{'x' * local}@{'y' * domain}.example" for local in range(60, 67) for domain in range(60, 66)),
    ]
    plain = [text for text in given if address._PLAIN_ADDRESS.fullmatch(text)]
    assert 500 < len(plain) < len(given) / 2
    short = [outcome(text) for text in given]
    monkeypatch.setattr(address, "_PLAIN_LENGTH", -1)
    assert short == [outcome(text) for text in given]
