"""Contents on their way in: converted whole, and every problem found under its own path."""

from mailer.message_wire import read_content
from mailer.v1 import sender_pb2
from mailer.validation import Violations


def a_message() -> sender_pb2.MessageContent:
    return sender_pb2.MessageContent(
        from_address=sender_pb2.Mailbox(address="News@Bücher.example", display_name="Bücher"),
        subject="Hello {{ name }}",
        text="Dear {{ name }}, {{ address }}",
        cc=[sender_pb2.Mailbox(address="boss@Example.org")],
        headers=[sender_pb2.Header(name="X-Campaign", value="{{ code }}")],
        attachments=[sender_pb2.Attachment(filename="a.txt", content=b"hi", content_type="text/plain")],
    )


def test_a_good_content_comes_in_with_canonical_addresses() -> None:
    violations = Violations()
    content = read_content(a_message(), violations)
    assert content is not None
    assert not violations
    assert content.from_address.address == "News@xn--bcher-kva.example"
    assert content.from_address.display_name == "Bücher"
    assert [one.address for one in content.cc] == ["boss@example.org"]
    assert content.required_variables == {"name", "code"}
    assert content.attachments[0].content == b"hi"


def test_every_problem_is_named_by_its_path() -> None:
    message = a_message()
    message.from_address.address = ""
    message.subject = "Hello {{ name"
    message.cc.add(address="a@x, b@x")
    message.headers.add(name="Bcc", value="x")
    message.attachments[0].filename = "../../etc/passwd"
    violations = Violations()
    assert read_content(message, violations, field="template.content") is None
    assert {violation.field for violation in violations} == {
        "template.content.from_address.address",
        "template.content.subject",
        "template.content.cc[1].address",
        "template.content.headers[1].name",
        "template.content.attachments[0].filename",
    }
