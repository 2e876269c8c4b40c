from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2

from mailer import errors
from mailer.errors import FieldViolation, InvalidArgument, MailerError, ResourceExhausted


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument([FieldViolation("name", "must not be empty")]), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists("x"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.FailedPrecondition("x", reason="PAUSED"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Aborted("x", reason="STALE"), grpc.StatusCode.ABORTED),
        (errors.PermissionDenied("x", reason="ROLE"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.Unavailable("x", reason="AWAY"), grpc.StatusCode.UNAVAILABLE),
        (errors.DataLoss("x", reason="CHECKSUM"), grpc.StatusCode.DATA_LOSS),
        (
            ResourceExhausted("x", reason="FULL", retry_after=timedelta(seconds=3)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
)
def test_every_error_carries_its_code_reason_and_domain(error: MailerError, code: grpc.StatusCode) -> None:
    status = error.to_status()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.domain, info.reason) == (code.value[0], "mailer.v1", error.reason)


def test_all_wrong_fields_travel() -> None:
    wrong = [FieldViolation(f"field_{index}", "is wrong") for index in range(5)]
    error = InvalidArgument(wrong)
    bad = error_details_pb2.BadRequest()
    assert error.to_status().details[1].Unpack(bad)
    assert [one.field for one in bad.field_violations] == [one.field for one in wrong]
    assert error.message.endswith("and 2 more")


def test_a_full_queue_says_when_to_come_again() -> None:
    error = ResourceExhausted("The queue is full.", reason="QUEUE_FULL", retry_after=timedelta(seconds=2.5))
    retry = error_details_pb2.RetryInfo()
    assert error.to_status().details[1].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (2, 500_000_000)


def test_metadata_travels() -> None:
    info = error_details_pb2.ErrorInfo()
    status = errors.NotFound("No run r.", reason="RUN_NOT_FOUND", metadata={"run_id": "r"}).to_status()
    status.details[0].Unpack(info)
    assert dict(info.metadata) == {"run_id": "r"}
