import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2

from mailer.errors import InvalidArgument
from mailer.validation import Violations, check_request_id, parse, require_known_fields, updated_paths

UNKNOWN = b"\x9a\x06\x03abc"  # field 99, three bytes


def violations_of(error: InvalidArgument) -> list[str]:
    return [violation.field for violation in error.violations]


def test_all_violations_are_raised_together() -> None:
    found = Violations()
    found.raise_if_any()
    found.add("a", "is missing")
    found.add("b", "is too long")
    with pytest.raises(InvalidArgument) as caught:
        found.raise_if_any()
    assert violations_of(caught.value) == ["a", "b"]


def test_a_message_of_known_fields_is_parsed() -> None:
    message = error_details_pb2.BadRequest(field_violations=[error_details_pb2.BadRequest.FieldViolation(field="x")])
    assert parse(message.SerializeToString(), error_details_pb2.BadRequest.FromString) == message
    require_known_fields(message)


def test_an_unknown_field_is_refused_wherever_it_hides() -> None:
    inner = error_details_pb2.BadRequest.FieldViolation(field="x").SerializeToString() + UNKNOWN
    raw = b"\x0a" + bytes([len(inner)]) + inner + UNKNOWN
    with pytest.raises(InvalidArgument) as caught:
        parse(raw, error_details_pb2.BadRequest.FromString)
    assert violations_of(caught.value) == ["#99", "field_violations[0].#99"]
    assert caught.value.reason == "UNKNOWN_FIELDS"
    with pytest.raises(InvalidArgument):
        require_known_fields(error_details_pb2.BadRequest.FromString(raw))


def test_an_unknown_field_in_the_value_of_a_map_is_refused() -> None:
    value = b"\x1a\x01v" + UNKNOWN  # string_value "v"
    entry = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    with pytest.raises(InvalidArgument) as caught:
        parse(b"\x0a" + bytes([len(entry)]) + entry, Struct.FromString)
    assert violations_of(caught.value) == ["fields[k].#99"]


def test_checking_does_not_alter_the_message() -> None:
    message = error_details_pb2.BadRequest.FromString(UNKNOWN)
    with pytest.raises(InvalidArgument):
        require_known_fields(message)
    assert message.SerializeToString() == UNKNOWN


def test_bytes_that_are_no_message_are_the_clients_error() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(b"\xff\xff\xff", error_details_pb2.BadRequest.FromString)
    assert caught.value.reason == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("request_id", ["", "a", "7f1d9c7e-0a53-4a3b-9d0e-3f3d6f6a7b11", "x" * 128])
def test_request_ids_that_are_accepted(request_id: str) -> None:
    found = Violations()
    check_request_id(request_id, found)
    assert not found


@pytest.mark.parametrize("request_id", ["x" * 129, "a b", "ä", "a\n", "\x7f"])
def test_request_ids_that_are_refused(request_id: str) -> None:
    found = Violations()
    check_request_id(request_id, found)
    assert [violation.field for violation in found] == ["request_id"]


def test_a_mask_names_what_changes() -> None:
    found = Violations()
    assert updated_paths(FieldMask(paths=["name"]), found, updatable={"name", "weight"}) == {"name"}
    assert not found


@pytest.mark.parametrize(
    ("paths", "hint"),
    [
        ([], "name the fields to change"),
        (["*"], "there is no field"),
        (["nmae"], "there is no field nmae"),
        (["create_time"], "set by the server"),
    ],
)
def test_masks_that_are_refused(paths: list[str], hint: str) -> None:
    found = Violations()
    updated_paths(FieldMask(paths=paths), found, updatable={"name"}, output_only={"create_time"})
    assert [hint in violation.description for violation in found] == [True]
