"""The marks of dots: what another process reads of them, at whatever instant their own has ended."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.database.types import to_microseconds
from services.sender import dots
from services.sender.dots import AcceptedDot, Dots, read_dots
from services.sender.replies import Reply

NOW = datetime(2026, 11, 26, 9, 30, 0, 123456, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the marks are."""
    return tmp_path / "worker.dots"


def test_nothing_is_in_doubt_before_a_dot_is_written(path: Path) -> None:
    Dots(path)
    record = read_dots(path)
    assert record is not None
    assert (set(record.in_doubt), list(record.accepted)) == (set(), [])


def test_a_written_dot_is_in_doubt(path: Path) -> None:
    Dots(path).write(KEY, 3)
    record = read_dots(path)
    assert record is not None
    assert set(record.in_doubt) == {(KEY, 3)}


def test_an_accepted_message_is_known_with_the_words_of_its_server(path: Path) -> None:
    dot = Dots(path).write(KEY, 3)
    assert dot is not None
    dot.accepted(Reply(250, ("2.0.0 Ok: queued as 4F3à",)), to_microseconds(NOW))
    record = read_dots(path)
    assert record is not None
    assert list(record.accepted) == [AcceptedDot(KEY, 3, 250, "2.0.0", "Ok: queued as 4F3à", NOW)]
    assert not record.in_doubt


def test_words_longer_than_their_place_are_cut(path: Path) -> None:
    dot = Dots(path).write(KEY, 1)
    assert dot is not None
    dot.accepted(Reply(250, ("ü" * 400,)), to_microseconds(NOW))
    record = read_dots(path)
    assert record is not None
    assert [one.reply_text.rstrip("�") for one in record.accepted] == ["ü" * 50]


def test_a_refused_dot_is_no_doubt(path: Path) -> None:
    dot = Dots(path).write(KEY, 1)
    assert dot is not None
    dot.refused()
    record = read_dots(path)
    assert record is not None
    assert (set(record.in_doubt), list(record.accepted)) == (set(), [])


def test_a_booked_dot_is_forgotten_and_its_place_used_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dots, "MOST_DOTS", 1)
    marks = Dots(path)
    first = marks.write(KEY, 1)
    assert first is not None
    first.accepted(Reply(250, ("a long answer",)), to_microseconds(NOW))
    first.booked()
    assert marks.write("another", 2) is not None
    record = read_dots(path)
    assert record is not None
    assert set(record.in_doubt) == {("another", 2)}
    assert not record.accepted


def test_a_dot_for_which_there_is_no_place_may_not_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dots, "MOST_DOTS", 1)
    marks = Dots(path)
    assert marks.write(KEY, 1) is not None
    assert marks.write(KEY, 2) is None


def test_marks_of_an_earlier_start_of_the_machine_are_not_believed(path: Path) -> None:
    Dots(path).write(KEY, 1)
    content = bytearray(path.read_bytes())
    content[20] ^= 1  # within the identity of the start
    path.write_bytes(content)
    assert read_dots(path) is None


def test_without_a_file_nothing_is_known(path: Path) -> None:
    assert read_dots(path) is None


def test_its_room_on_the_disk_is_taken_at_once(path: Path) -> None:
    Dots(path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    Dots(path)
    assert path.stat().st_mode & 0o777 == 0o600
