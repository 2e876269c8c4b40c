"""A file name comes out of a reader as it went in."""

from email import message_from_bytes
from email.policy import default

from hypothesis import assume, example, given
from hypothesis import strategies as st

from mailer.message.attachment import Attachment

NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("aä😀%\"'; ;*="), min_size=1, max_size=120)


def part_of(attachment: Attachment) -> bytes:
    fields, body = attachment.part()
    return fields.encode("ascii") + b"\r\n\r\n" + body


@given(name=NAMES)
@example(name='Übersicht – 日本語 😀 "q" a;b%20.pdf')
@example(name="a" * 61)
@example(name="😀" * 60)
@example(name="\xa0a")
def test_a_file_name_is_read_as_it_was_given(name: str) -> None:
    attachment = Attachment(name, b"%PDF", "application/pdf")
    assume(not attachment.check())
    written = part_of(attachment)
    assert max(map(len, written.split(b"\r\n"))) <= 78
    assert message_from_bytes(written, policy=default).get_filename() == name.strip()  # as that reader does
