"""Recipients with plain variables are checked and read a shorter way, which says and gives what the long one does."""

import json
import math
from random import Random
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value

from mailer import recipients
from mailer.message.address import Address
from mailer.recipients import CheckedRecipient, RecipientProblem, check_recipient, read_variables
from mailer.v1 import sender_pb2
from tests.unit.message import hostile

NUMBERS = [0, -0.0, 1, 7, 12.5, -3, 2**53, 2**53 + 2, 1e300, math.inf, -math.inf, math.nan]
NAMES = [
    "name",
    "city",
    "n" * 100,
    "n" * 101,
    "",
    "two words",
    "a.b",
    "city.name",
    "ä",
    "a\nb",
    "\u2028",
    "\0",
    "\u200b",
]
REQUIRED = [[], ["name"], ["name", "city"], ["city.name"], ["name", "city", "city.name"], ["address"], ["address.x"]]
ADDRESSES = ["ada@mail.example", "Ada@MAIL.example", "zoë@bücher.example", "ada", ""]


def value(random: Random, texts: list[str], depth: int = 0) -> Any:
    chance = random.randrange(20)
    if chance == 0 and depth < 12:
        return [value(random, texts, depth + 1) for _ in range(random.randrange(3))]
    if chance == 1 and depth < 12:
        return {random.choice(NAMES): value(random, texts, depth + 1) for _ in range(random.randrange(3))}
    if chance == 2:
        return nested(random, random.randrange(6, 10))
    return random.choice([None, True, False, *NUMBERS, "", "x" * 17_000, *texts])


def nested(random: Random, depth: int) -> Any:
    if not depth:
        return "deep"
    return random.choice([[nested(random, depth - 1)], {"a": nested(random, depth - 1)}])


def generated(count: int) -> list[sender_pb2.Recipient]:
    random = Random(count)
    texts = list(hostile.texts(500, most=3))
    made = []
    for _ in range(count):
        recipient = sender_pb2.Recipient(
            address=random.choice(ADDRESSES), display_name=random.choice(["", "", "A\nB", "Zoë"])
        )
        names = random.choices(NAMES[:2] * 4 + NAMES, k=random.randrange(4))
        recipient.variables.update({name: value(random, texts) for name in names})
        if random.random() < 0.1:
            recipient.variables.fields["name"].SetInParent()  # a value of no kind
        made.append(recipient)
    return made


def outcome(recipient: sender_pb2.Recipient, required: list[str]) -> CheckedRecipient | tuple[int, str]:
    try:
        return check_recipient(recipient, required)
    except RecipientProblem as problem:
        return problem.reason, str(problem)


def test_a_plain_recipient_is_told_what_the_long_way_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [(recipient, required) for recipient in generated(3_000) for required in REQUIRED]
    short = [outcome(*each) for each in given]
    assert sum(isinstance(one, CheckedRecipient) for one in short) > 1_000
    assert len({one[0] for one in short if not isinstance(one, CheckedRecipient)}) == 4
    monkeypatch.setattr(recipients, "_has_all", lambda *_: False)
    monkeypatch.setattr(recipients, "_are_usable", lambda *_: False)
    assert short == [outcome(*each) for each in given]


def test_what_is_read_is_what_each_value_says_it_is() -> None:
    for recipient in generated(3_000):
        read = read_variables(recipient.variables.SerializeToString(), Address("a@b.example", "A"))
        expected = plain(recipient.variables) | {"address": "a@b.example", "display_name": "A"}
        assert json.dumps(read, sort_keys=True) == json.dumps(expected, sort_keys=True)


def plain(struct: Struct) -> dict[str, Any]:
    return {name: kind(one) for name, one in struct.fields.items()}


def kind(one: Value) -> Any:
    match one.WhichOneof("kind"):
        case "struct_value":
            return plain(one.struct_value)
        case "list_value":
            return [kind(item) for item in one.list_value.values]
        case "number_value" as name:
            number = one.number_value
            return int(number) if number.is_integer() and abs(number) <= 2**53 else number
        case None | "null_value":
            return None
        case name:
            return getattr(one, name)
