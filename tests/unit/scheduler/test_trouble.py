"""What an error of the sender means for a run."""

from datetime import timedelta
from random import Random

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from mailer.errors import ResourceExhausted
from services.scheduler.trouble import MOST_BUGS, Backoff, Patience, Refused, Waits, judge

DETAILS = "grpc-status-details-bin"


def error(code: grpc.StatusCode, status: bytes = b"") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata((DETAILS, status)) if status else Metadata(), "said so")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_means_wait_or_refused(code: grpc.StatusCode) -> None:
    assert isinstance(judge(error(code)), Waits | Refused)


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED],
)
def test_what_may_pass_is_waited_for(code: grpc.StatusCode) -> None:
    assert isinstance(judge(error(code)), Waits)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.UNIMPLEMENTED]
)
def test_what_never_works_asks_a_person(code: grpc.StatusCode) -> None:
    assert isinstance(judge(error(code)), Refused)


def test_a_bug_that_is_met_every_time_asks_a_person() -> None:
    patience = Patience()
    bug = error(grpc.StatusCode.INTERNAL)
    assert all(isinstance(patience.judge(bug), Waits) for _ in range(MOST_BUGS - 1))
    assert isinstance(patience.judge(error(grpc.StatusCode.UNAVAILABLE)), Waits)
    assert all(isinstance(patience.judge(bug), Waits) for _ in range(MOST_BUGS - 1))
    trouble = patience.judge(bug)
    assert isinstance(trouble, Refused)
    assert f"{MOST_BUGS} times in a row: the sender failed with a bug" in trouble.reason


@pytest.mark.parametrize(("asked", "waits"), [(0.5, 0.5), (0.0, 0.05), (3600.0, 60.0)])
def test_the_sender_says_how_long_but_not_without_bounds(asked: float, waits: float) -> None:
    full = ResourceExhausted("full", reason="QUEUE_FULL", retry_after=timedelta(seconds=asked))
    trouble = judge(error(grpc.StatusCode.RESOURCE_EXHAUSTED, full.to_status().SerializeToString()))
    assert isinstance(trouble, Waits)
    assert trouble.seconds == waits


def test_pauses_grow_to_a_bound_and_begin_again_after_a_success() -> None:
    backoff = Backoff(Random(1), first=0.2, longest=5.0)
    pauses = [backoff.pause() for _ in range(10)]
    assert 0.15 <= pauses[0] <= 0.25
    assert pauses[3] > pauses[0]
    assert max(pauses) <= 6.25
    backoff.reset()
    assert backoff.pause() <= 0.25
