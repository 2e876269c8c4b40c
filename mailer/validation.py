"""Checks that every request goes through: all that is wrong is collected and answered at once."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from mailer.errors import FieldViolation, InvalidArgument

M = TypeVar("M", bound=Message)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_NAMED_AT_MOST = 20


class Violations:
    """Collects wrong fields, so that the caller hears of all of them and not only of the first."""

    def __init__(self, found: Iterable[FieldViolation] = ()) -> None:
        """Start with what was found before."""
        self._found = list(found)

    def add(self, field: str, description: str) -> None:
        """Note a wrong field (path as in the request) and its cure."""
        self._found.append(FieldViolation(field, description))

    def __iter__(self) -> Iterator[FieldViolation]:
        """Go through what was found."""
        return iter(self._found)

    def __bool__(self) -> bool:
        """Say whether anything was found."""
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise InvalidArgument with everything found so far."""
        if self._found:
            raise InvalidArgument(self._found)


def check_request_id(request_id: str, violations: Violations, *, field: str = "request_id") -> None:
    """Note a request_id that is given but cannot be one; an empty one means the caller wants none."""
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        violations.add(field, "use 1 to 128 printable ASCII characters without spaces, such as a UUID")


def updated_paths(
    mask: FieldMask,
    violations: Violations,
    *,
    updatable: Collection[str],
    output_only: Collection[str] = (),
    field: str = "update_mask",
) -> frozenset[str]:
    """Return the paths to change; a mask that is missing, unknown or output-only paths are violations."""
    wanted = frozenset(mask.paths)
    if not wanted:
        violations.add(field, f"name the fields to change, any of: {', '.join(sorted(updatable))}")
    for path in sorted(wanted - frozenset(updatable)):
        if path in output_only or path.split(".")[0] in output_only:
            violations.add(field, f"{path} is set by the server and cannot be changed: leave it out")
        else:
            violations.add(field, f"there is no field {path} to change; use any of: {', '.join(sorted(updatable))}")
    return wanted & frozenset(updatable)


def parse(raw: bytes, decode: Callable[[bytes], M]) -> M:
    """Return the message; bytes that are none, and fields that this server does not know, are refused.

    An unknown field is a request that means more than we understand; doing half of it would be worse than
    saying so.
    """
    try:
        message = decode(raw)
    except DecodeError:
        raise InvalidArgument(
            (), reason="MALFORMED_MESSAGE", message="The request is not a valid message of this method."
        ) from None
    # Comparing sizes is far cheaper than walking every message that has nothing to hide.
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        _refuse_unknown(decode(raw))
    return message


def require_known_fields(message: Message) -> None:
    """Raise InvalidArgument when the message, or one nested in it, has fields unknown to this server."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        _refuse_unknown(message)


def _refuse_unknown(message: Message) -> None:
    violations = [
        FieldViolation(path, "is not known to this server: remove it, or talk to a newer one")
        for path, _ in zip(_unknown_paths(message, ""), range(_NAMED_AT_MOST), strict=False)
    ]
    raise InvalidArgument(violations, reason="UNKNOWN_FIELDS")


def _unknown_paths(message: Message, prefix: str) -> Iterator[str]:
    """Yield where the unknown fields are; they have no name here, so they go by their number."""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"{prefix}#{unknown[index].field_number}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        path = f"{prefix}{descriptor.name}"
        if descriptor.message_type.GetOptions().map_entry:
            if descriptor.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    yield from _unknown_paths(value[key], f"{path}[{key}].")
        elif descriptor.is_repeated:
            for index, item in enumerate(value):
                yield from _unknown_paths(item, f"{path}[{index}].")
        else:
            yield from _unknown_paths(value, f"{path}.")
