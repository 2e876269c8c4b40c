import json
from datetime import timedelta

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc.aio import AioRpcError, Metadata
from grpc_status import rpc_status

from mailer import errors
from mailer.client import details_of, is_repeatable, readable, service_config
from mailer.errors import FieldViolation, MailerError
from mailer.v1 import backup_pb2, scheduler_pb2, sender_pb2

SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
SENDER = sender_pb2.DESCRIPTOR.services_by_name["Sender"]
BACKUP = backup_pb2.DESCRIPTOR.services_by_name["Backup"]


def received(error: MailerError) -> AioRpcError:
    """Return the error as a client sees it."""
    status = rpc_status.to_status(error.to_status())
    return AioRpcError(status.code, Metadata(), Metadata(*status.trailing_metadata), status.details)


def plain(code: grpc.StatusCode, message: str = "") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), message)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (received(errors.NotFound("There is no run r-1.")), "There is no run r-1."),
        (
            received(
                errors.InvalidArgument([FieldViolation("name", "must not be empty"), FieldViolation("zone", "?")])
            ),
            "name: must not be empty; zone: ?",
        ),
        (
            received(errors.ResourceExhausted("Too much.", reason="FULL", retry_after=timedelta(seconds=1.5))),
            "Too much; try again in 1.5 s.",
        ),
        (received(errors.Unavailable("The database is busy.", reason="DATABASE_BUSY")), "The database is busy."),
        (plain(grpc.StatusCode.UNAVAILABLE, "failed to connect to ipv4:..."), "cannot be reached"),
        (plain(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), "did not answer in time"),
        (plain(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "older version"),
        (plain(grpc.StatusCode.INTERNAL, "boom"), "log has the traceback"),
        (plain(grpc.StatusCode.CANCELLED), "cancelled."),
    ],
)
def test_every_error_is_one_sentence(error: AioRpcError, sentence: str) -> None:
    text = readable(error, target="the sender")
    assert sentence in text
    assert text.endswith((".", "?"))
    assert "\n" not in text


def test_details_are_taken_apart() -> None:
    error = errors.FailedPrecondition("Paused.", reason="RUN_PAUSED", metadata={"run_id": "r"})
    details = details_of(received(error))
    assert (details.code, details.message, details.reason, details.metadata) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Paused.",
        "RUN_PAUSED",
        {"run_id": "r"},
    )


def test_details_of_another_server_are_no_trap() -> None:
    broken = AioRpcError(grpc.StatusCode.UNKNOWN, Metadata(), Metadata(("grpc-status-details-bin", b"\xff\xff")), "odd")
    assert details_of(broken).reason == ""


@pytest.mark.parametrize("service", [SCHEDULER, SENDER, BACKUP])
def test_only_what_is_safe_is_retried_and_only_on_unavailable(service: ServiceDescriptor) -> None:
    config = json.loads(service_config([service]))
    (methods,) = config["methodConfig"]
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert methods["retryPolicy"]["maxAttempts"] <= 5
    assert "timeout" not in methods
    retried = {name["method"] for name in methods["name"]}
    for method in service.methods:
        has_id = "request_id" in method.input_type.fields_by_name
        reads = method.name.startswith(("Get", "List", "Preview", "Plan"))
        assert (method.name in retried) == (has_id or reads)


def test_sending_is_repeatable_because_it_carries_a_request_id() -> None:
    assert is_repeatable(SENDER.methods_by_name["SendBatch"])
    assert not is_repeatable(SENDER.methods_by_name["DeleteAccount"])
