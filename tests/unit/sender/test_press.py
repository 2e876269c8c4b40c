"""Messages rendered where they are claimed."""

from datetime import UTC, datetime

from google.protobuf.struct_pb2 import Struct

from mailer.v1 import sender_pb2
from services.sender import press
from services.sender.outbox import Claimed
from services.sender.press import Press

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
CONTENT = sender_pb2.MessageContent(
    from_address=sender_pb2.Mailbox(address="news@example.org"), subject="For {{ name }}", text="Hello {{ name }}."
)


def stored(content: sender_pb2.MessageContent) -> bytes:
    return content.SerializeToString(deterministic=True)


def claimed(number: int, *, name: str | None = "Ada", content_hash: str = "letter") -> Claimed:
    variables = Struct()
    if name is not None:
        variables["name"] = name
    address = f"p{number}@example.net"
    return Claimed(
        id=number,
        token=1,
        delivery_key=f"{number:032d}",
        run_id="run",
        campaign_id="",
        content_hash=content_hash,
        address=address,
        canonical=address,
        display_name="",
        variables=variables.SerializeToString(),
        attempt_count=0,
        rule="",
        rule_count=0,
        rule_since=None,
        create_time=NOW,
        expire_time=NOW,
    )


def knowing(content: sender_pb2.MessageContent = CONTENT) -> Press:
    found = Press()
    found.learn(["letter"], {"letter": stored(content)}.get)
    return found


def test_each_message_is_the_one_of_its_recipient() -> None:
    messages = knowing().render([claimed(1), claimed(2, name="Bob")])
    assert [message and message.envelope_to for message in messages] == [("p1@example.net",), ("p2@example.net",)]
    assert all(message is not None for message in messages)
    assert b"Subject: For Bob" in (messages[1].data if messages[1] else b"")


def test_what_cannot_be_rendered_is_left_to_whoever_sends_it() -> None:
    messages = knowing().render([claimed(1, name=None), claimed(2), claimed(3, content_hash="unknown")])
    assert [message is not None for message in messages] == [False, True, False]


def test_a_content_is_read_once_and_one_that_is_gone_is_met_again() -> None:
    asked: list[str] = []

    def read(content_hash: str) -> bytes | None:
        asked.append(content_hash)
        return stored(CONTENT) if content_hash == "letter" else None

    learner = Press()
    learner.learn(["letter", "gone"], read)
    learner.learn(["letter", "gone"], read)
    assert asked == ["letter", "gone", "gone"]


def test_large_messages_are_rendered_only_up_to_a_size() -> None:
    large = sender_pb2.MessageContent()
    large.CopyFrom(CONTENT)
    large.text = "Hello {{ name }}. " + "x" * 70 + "\n"
    large.attachments.add(filename="large.bin", content=bytes(press.MOST_BYTES // 2))
    messages = knowing(large).render([claimed(number) for number in range(4)])
    assert [message is not None for message in messages] == [True, True, False, False]
