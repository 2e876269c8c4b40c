"""Recipients as they come in over the wire: checked alike wherever they arrive; their variables as Python values."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.struct_pb2 import Struct, Value

from mailer.message.address import Address, check_display_name, parse_address
from mailer.message.problems import AddressProblem
from mailer.message.variables import ALWAYS_THERE, MAX_DEPTH, MAX_NAME, check_variables
from mailer.v1 import sender_pb2

MOST_VARIABLE_BYTES = 16 * 1024
MOST_DESCRIPTION = 300
"""Characters: an answer about a thousand wrong recipients must fit into one gRPC message."""
_NAMED, _NAMED_CHARACTERS = 10, 170

Reason = sender_pb2.RejectedRecipient.Reason


class RecipientProblem(ValueError):
    """One recipient cannot be taken; `str()` of it says why and what to do, in at most MOST_DESCRIPTION characters."""

    def __init__(self, reason: "Reason.ValueType", description: str) -> None:
        """Keep the reason for programs beside the sentence for people."""
        super().__init__(shortened(description, MOST_DESCRIPTION))
        self.reason = reason


class CheckedRecipient(NamedTuple):
    """A recipient that can be taken: its address in canonical form, and its variables as they travel."""

    address: Address
    variables: bytes


def check_recipient(recipient: sender_pb2.Recipient, required: Collection[str]) -> CheckedRecipient:
    """Return the recipient checked; `required` is what its templates need. Raises RecipientProblem."""
    try:
        address = parse_address(recipient.address)
    except AddressProblem as problem:
        raise RecipientProblem(sender_pb2.RejectedRecipient.REASON_INVALID_ADDRESS, str(problem)) from None
    display_name = recipient.display_name
    if display_name:
        wrong = check_display_name(display_name)
        if wrong:
            raise RecipientProblem(sender_pb2.RejectedRecipient.REASON_INVALID_FIELD, wrong)
        address = Address(address.address, display_name)
    variables = recipient.variables
    serialized = variables.SerializeToString(deterministic=True)
    # First of all, for whatever is said about variables takes longer the more there are.
    if len(serialized) > MOST_VARIABLE_BYTES:
        raise RecipientProblem(
            sender_pb2.RejectedRecipient.REASON_TOO_LARGE,
            f"its variables have {len(serialized)} bytes, at most {MOST_VARIABLE_BYTES} are taken: shorten them",
        )
    if not _has_all(variables.fields, required):
        _refuse_missing(variables, required)
    if not _are_usable(variables.fields):
        _refuse_unusable(variables)
    return CheckedRecipient(address, serialized)


def _has_all(fields: Mapping[str, Value], required: Iterable[str]) -> bool:
    """Say whether all is there; only names are looked for, with a field like person.name the answer is no."""
    for name in required:  # noqa: SIM110 - twice as fast as all()
        if name not in fields or "." in name:
            return False
    return True


def _refuse_missing(variables: Struct, required: Iterable[str]) -> None:
    missing = missing_variables(variables, required)
    if missing:
        raise RecipientProblem(
            sender_pb2.RejectedRecipient.REASON_MISSING_VARIABLE,
            f"add to its variables, or give defaults in the templates that need it: {named(missing)}",
        )


def _are_usable(fields: Mapping[str, Value], depth: int = 1) -> bool:
    """Say whether `check_variables` cannot complain of these, which lie `depth` deep."""
    for name in fields:
        value = fields[name]
        text = value.string_value  # as protobuf has it, it has no lone surrogates
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME or "\0" in text:
            return False
        if not text and not _is_usable(value, depth):
            return False
    return True


def _is_usable(value: Value, depth: int) -> bool:
    match value.WhichOneof("kind"):
        case "string_value":
            return "\0" not in value.string_value
        case "number_value":
            return math.isfinite(value.number_value)
        case "struct_value":
            return depth < MAX_DEPTH and _are_usable(value.struct_value.fields, depth + 1)
        case "list_value":
            return depth < MAX_DEPTH and all(_is_usable(item, depth + 1) for item in value.list_value.values)
        case _:
            return True


def _refuse_unusable(variables: Struct) -> None:
    problems = check_variables(_values(variables))
    if problems:
        found = "; ".join(f"variable {path}: {problem}" for path, problem in problems[:3])
        raise RecipientProblem(sender_pb2.RejectedRecipient.REASON_INVALID_FIELD, found)


def missing_variables(variables: Struct, required: Iterable[str]) -> list[str]:
    """Return what a recipient with these variables lacks of what its templates need, sorted.

    `required` is as in `Content.required_variables`; of person and person.name, only person is said to be missing.
    """
    missing = {path for path in required if _lacks(variables, path)}
    return sorted(path for path in missing if "." not in path or path.partition(".")[0] not in missing)


def _lacks(variables: Struct, path: str) -> bool:
    first, *others = path.split(".")
    if first in ALWAYS_THERE:
        return bool(others)  # they are texts, which have no fields
    fields = variables.fields
    for name in (first, *others):
        if name not in fields:
            return True
        fields = fields[name].struct_value.fields  # none unless it is an object
    return False


def named(variables: Sequence[str]) -> str:
    """Return the first names, and how many there are beside them, in at most 200 characters."""
    shown: list[str] = []
    for name in variables[:_NAMED]:
        if len(", ".join([*shown, name])) > _NAMED_CHARACTERS and shown:
            break
        shown.append(shortened(name, _NAMED_CHARACTERS))
    more = len(variables) - len(shown)
    return f"{', '.join(shown)} and {more} more" if more else ", ".join(shown)


def shortened(text: str, length: int) -> str:
    """Return the text, cut to so many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_variables(serialized: bytes, address: Address) -> dict[str, Any]:
    """Return the variables of a recipient for its templates, with its address and name among them."""
    values = _values(Struct.FromString(serialized))
    values["address"] = address.address
    values["display_name"] = address.display_name
    return values


def _values(struct: Struct) -> dict[str, Any]:
    fields = struct.fields
    values = {}
    for name in fields:  # items() of protobuf takes longer
        value = fields[name]
        values[name] = value.string_value or _plain(value)
    return values


def _plain(value: Value) -> Any:
    """Return a protobuf value as JSON-like Python; whole numbers come back as the integers they were."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= 2**53 else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _values(value.struct_value)
        case "list_value":
            return [item.string_value or _plain(item) for item in value.list_value.values]
        case _:
            return None
