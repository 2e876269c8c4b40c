"""Batches: bounded by bytes, and the same bytes every time."""

from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mailer.v1 import sender_pb2
from services.scheduler.batches import cut, request_for, weight
from services.scheduler.campaign_states import RunState
from services.scheduler.recipients import Recipient
from services.scheduler.runs import Run


def recipient(position: int, size: int = 0) -> Recipient:
    variables = Struct()
    variables.update({"name": "x" * size, "b": 1, "a": [1, None]})
    return Recipient(position, f"user{position}@example.org", "Ada", variables.SerializeToString(deterministic=True))


def run(**changes: object) -> Run:
    values: dict[str, object] = {
        "run_id": "r" * 32,
        "campaign_id": "c" * 32,
        "slot_time": None,
        "state": RunState.DISPATCHING,
        "state_reason": "",
        "options": b"",
        "batch_count_limit": 500,
        "batch_byte_limit": 1000,
        "recipient_count": 1,
        "cursor": 0,
        "dispatched_count": 0,
        "rejected_count": 0,
        "handed_over": False,
        "wanted": "active",
        "told": "active",
        "counts": b"",
        "revision": 1,
        "start_time": None,
        "end_time": None,
    }
    return Run(**{**values, **changes})  # type: ignore[arg-type]


@given(sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=30), limit=st.integers(1, 10_000))
def test_a_batch_is_within_its_bytes_or_one_recipient(sizes: list[int], limit: int) -> None:
    found = [recipient(position, size) for position, size in enumerate(sizes, 1)]
    batch = cut(found, byte_limit=limit)
    assert list(batch) == found[: len(batch)]
    assert len(batch) >= 1
    assert len(batch) == 1 or sum(map(weight, batch)) <= limit
    if len(batch) < len(found):
        assert sum(map(weight, found[: len(batch) + 1])) > limit


@given(size=st.integers(0, 3000))
def test_the_weight_is_never_less_than_the_bytes_on_the_wire(size: int) -> None:
    one = recipient(7, size)
    without = request_for(run(), sender_pb2.MessageContent(), []).ByteSize()
    assert request_for(run(), sender_pb2.MessageContent(), [one]).ByteSize() - without <= weight(one)


def test_a_repeated_batch_is_byte_identical() -> None:
    batch = [recipient(1), recipient(2)]
    first, again = (
        request_for(run(cursor=41), sender_pb2.MessageContent(subject="Hi"), batch).SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    )
    assert first == again


def test_the_request_id_follows_from_where_the_batch_begins() -> None:
    assert request_for(run(cursor=41), sender_pb2.MessageContent(), []).request_id == "r" * 32 + ":41"
