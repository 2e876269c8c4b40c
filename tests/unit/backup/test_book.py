"""What a store knows of its copies."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.backup.copies.book import Book, BookFile

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_a_book_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    book = Book().began("a").began("b").copied("a", NOW).failed(NOW, "away")
    file = BookFile(tmp_path / "copies.json")
    file.store(book)
    assert file.load() == book
    assert book == Book(
        own_ids=frozenset({"a"}), begun_ids=frozenset({"b"}), success_time=NOW, failure_time=NOW, failure="away"
    )


def test_a_failure_ends_when_all_went_well() -> None:
    assert Book().failed(NOW, "away").went_well() == Book()


def test_what_was_removed_is_not_ones_own_any_more() -> None:
    assert Book(own_ids=frozenset("ab")).disowning("a").own_ids == {"b"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "own_ids": 3, "begun_ids": [], "failure": ""}']
)
def test_a_damaged_book_is_begun_anew_and_owns_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "copies.json"
    path.write_text(text)
    assert BookFile(path).load() == Book()
