"""Delivery options: every problem is named, good ones pass."""

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from mailer.delivery_options import check_options
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import to_duration

Options = sender_pb2.DeliveryOptions
Retry = sender_pb2.RetryPolicy


def wrong_fields(options: sender_pb2.DeliveryOptions) -> set[str]:
    violations = Violations()
    check_options(options, violations)
    return {violation.field for violation in violations}


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE, account_ids=["a"]),
        Options(expire_after=to_duration(timedelta(days=30))),
        Options(retry_policy=Retry(delays=[to_duration(timedelta(minutes=5))], quick_attempt_count=10)),
        Options(retry_policy=Retry(retry_on=["550", "5.7.1", "4xx"])),
    ],
)
def test_good_options_pass(options: sender_pb2.DeliveryOptions) -> None:
    assert wrong_fields(options) == set()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(policy=7), "options.policy"),  # type: ignore[arg-type]
        (Options(expire_after=Duration()), "options.expire_after"),
        (Options(expire_after=Duration(seconds=-5)), "options.expire_after"),
        (Options(expire_after=Duration(seconds=2**60)), "options.expire_after"),
        (Options(account_ids=["a", ""]), "options.account_ids[1]"),
        (Options(account_ids=["a"] * 1001), "options.account_ids"),
        (Options(retry_policy=Retry(delays=[Duration(seconds=0)])), "options.retry_policy.delays[0]"),
        (Options(retry_policy=Retry(delays=[Duration(seconds=60)] * 51)), "options.retry_policy.delays"),
        (Options(retry_policy=Retry(quick_attempt_count=11)), "options.retry_policy.quick_attempt_count"),
        (Options(retry_policy=Retry(retry_on=["550", "250"])), "options.retry_policy.retry_on[1]"),
    ],
)
def test_what_is_wrong_is_named(options: sender_pb2.DeliveryOptions, field: str) -> None:
    assert wrong_fields(options) == {field}
