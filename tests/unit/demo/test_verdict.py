"""The demo's verdict: books and inbox must say the same."""

from demo.judge import Arrived, Books, mistakes

EVERYBODY = frozenset(f"p{number}@x" for number in range(500))
FIGURES = {
    "recipients": 500,
    "rejected": 3,
    "sent": 500,
    "failed": 0,
    "unknown": 0,
    "duplicates": 0,
    "lost": 0,
    "circuit_opened": 1,
    "circuit_closed": 1,
    "due_to_first_byte_ms": 12.5,
    "snapshot": "s",
    "snapshot_verified": True,
}


def arrived(everybody: frozenset[str] = EVERYBODY) -> Arrived:
    return Arrived(
        sent=len(everybody & EVERYBODY),
        everybody=everybody,
        duplicates=0,
        strangers=len(everybody - EVERYBODY),
        missing=EVERYBODY - everybody,
        first_byte_time=None,
    )


def books(sent: frozenset[str] = EVERYBODY, *, count: int = 500) -> Books:
    return Books(sent=sent, others=frozenset(), sent_count=count)


def test_figures_that_are_all_right_have_no_mistake() -> None:
    assert mistakes(FIGURES, arrived(), books()) == []


def test_a_message_that_the_books_do_not_know_is_a_mistake() -> None:
    found = mistakes(FIGURES, arrived(), books(EVERYBODY - {"p1@x"}, count=499))
    assert found == ["the inbox has a message that the books do not call sent"]


def test_a_message_that_only_the_books_know_is_a_mistake() -> None:
    found = mistakes(FIGURES, arrived(EVERYBODY - {"p1@x"}), books())
    assert found == ["the books say that somebody has it, and the inbox does not"]


def test_a_message_to_a_stranger_is_called_that() -> None:
    found = mistakes(FIGURES, arrived(EVERYBODY | {"stranger@x"}), books())
    assert "somebody got it who is not on the list" in found
    assert "somebody got it twice" not in found


def test_a_count_that_is_not_the_number_of_its_deliveries_is_a_mistake() -> None:
    assert mistakes(FIGURES, arrived(), books(count=501)) == ["the campaign does not count what its deliveries say"]
