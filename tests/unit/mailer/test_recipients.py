"""Recipients as they come in: what is taken, and what is said about the others."""

from typing import Any

import pytest

from mailer.message.address import Address
from mailer.recipients import RecipientProblem, check_recipient, missing_variables, read_variables
from mailer.v1 import sender_pb2

Rejected = sender_pb2.RejectedRecipient


def recipient(address: str = "ada@example.org", shown: str = "", **variables: Any) -> sender_pb2.Recipient:
    made = sender_pb2.Recipient(address=address, display_name=shown)
    made.variables.update(variables)
    return made


def test_variables_come_back_as_they_were_given() -> None:
    values = {"n": 3, "x": 1.5, "yes": True, "nothing": None, "list": [1, {"a": "b"}], "name": "Zoë"}
    checked = check_recipient(recipient("Ada@EXAMPLE.org", "Ada", **values), required=["name"])
    read = read_variables(checked.variables, checked.address)
    assert read == {**values, "address": "Ada@example.org", "display_name": "Ada"}
    assert type(read["n"]) is int


@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        (recipient("a@b.example, c@d.example"), Rejected.REASON_INVALID_ADDRESS, "two addresses"),
        (recipient(shown="Ada\r\nBcc: eve@x.example"), Rejected.REASON_INVALID_FIELD, "line break"),
        (recipient(), Rejected.REASON_MISSING_VARIABLE, "city"),
        (recipient(city="\0"), Rejected.REASON_INVALID_FIELD, "variable city"),
        (recipient(city=float("inf")), Rejected.REASON_INVALID_FIELD, "finite"),
        (recipient(city={"k" * 101: 1}), Rejected.REASON_INVALID_FIELD, "not a usable name"),
        (recipient(city="x", address_="y" * 20_000), Rejected.REASON_TOO_LARGE, "16384"),
        (recipient(many={"y" * 20_000: float("nan")}), Rejected.REASON_TOO_LARGE, "16384"),
    ],
)
def test_what_cannot_be_taken_is_told_by_reason_and_cure(given: sender_pb2.Recipient, reason: int, words: str) -> None:
    with pytest.raises(RecipientProblem, match=words) as refused:
        check_recipient(given, required=["city"])
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({"person": {"name": "A", "home": {"city": ""}}}, []),
        ({"person": {"name": None, "home": {"city": None}}}, []),
        ({"person": {"nam": "A"}}, ["person.home.city", "person.name"]),
        ({"person": {"name": "A", "home": "Rome"}}, ["person.home.city"]),
        ({"person": None}, ["person.home.city", "person.name"]),
        ({"person.name": "A"}, ["person"]),
    ],
)
def test_fields_within_variables_are_required_too(variables: dict[str, Any], missing: list[str]) -> None:
    required = ["person", "person.name", "person.home.city", "address"]
    assert missing_variables(recipient(**variables).variables, required) == missing


def test_the_address_has_no_fields() -> None:
    given = recipient()
    given.variables["address"] = {"x": 1}
    assert missing_variables(given.variables, ["address.x"]) == ["address.x"]


def test_of_very_many_missing_variables_some_are_named_and_all_are_counted() -> None:
    with pytest.raises(RecipientProblem, match=r"name000, name001, .+, name009 and 290 more") as refused:
        check_recipient(recipient(), required=[f"name{number:03}" for number in range(300)])
    assert "name010" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "required"),
    [
        (recipient(), ["n" * 5000]),
        (recipient(), [f"{number}{'n' * 90}" for number in range(300)]),
        (recipient(city={"a" * 100: {"b" * 100: {"c" * 100: {"d" * 100: "\0"}}}}), []),
        (recipient("a@" + "ü" * 500 + ".example"), []),
    ],
)
def test_what_is_said_about_a_recipient_is_short_however_much_is_wrong(
    given: sender_pb2.Recipient, required: list[str]
) -> None:
    with pytest.raises(RecipientProblem) as refused:
        check_recipient(given, required)
    assert 20 < len(str(refused.value)) <= 300


def test_the_address_and_the_name_are_always_there() -> None:
    checked = check_recipient(recipient(), required=["address", "display_name"])
    assert read_variables(checked.variables, Address("ada@example.org"))["display_name"] == ""
