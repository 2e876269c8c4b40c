"""What a copy of the database must hold, by what was acknowledged in which era."""

import pytest

from chaos.backup.diary import Written
from chaos.backup.history import History
from chaos.backup.tables import Content, Numbers


def rows(first: int, last: int) -> Numbers:
    return Numbers(first, last, last - first + 1)


@pytest.fixture
def history() -> History:
    """Return one in which w wrote 0 to 4, then a snapshot with 0 to 2 was restored, and w wrote 5 and 6."""
    history = History("old")
    for number in range(5):
        history.note("w", Written(number, "old", 0, 0))
    history.begin("new", {("old", "w"): rows(0, 2)})
    for number in (5, 6):
        history.note("w", Written(number, "new", 0, 0))
    return history


WHOLE = {("old", "w"): rows(0, 2), ("new", "w"): rows(5, 6)}


def test_nothing_is_missing_where_all_is_there(history: History) -> None:
    content = Content(era="new", ledger=WHOLE, facts={"w": rows(0, 6)})
    assert history.missing(content, history.known()) == 0


def test_what_was_not_acknowledged_may_be_there(history: History) -> None:
    ledger = WHOLE | {("new", "w"): rows(5, 7), ("new", "v"): rows(0, 0)}
    content = Content(era="new", ledger=ledger, facts={"w": rows(0, 7), "v": rows(0, 0)})
    assert history.missing(content, history.known()) == 0


@pytest.mark.parametrize(
    ("ledger", "count"),
    [
        (WHOLE | {("new", "w"): rows(5, 5)}, 1),
        (WHOLE | {("new", "w"): rows(6, 6)}, 1),
        ({("old", "w"): rows(0, 2)}, 2),
        ({("new", "w"): rows(5, 6)}, 3),
        (WHOLE | {("old", "w"): Numbers(0, 2, 2)}, 1),
        (WHOLE | {("old", "w"): rows(0, 4)}, 2),
        (WHOLE | {("older", "w"): rows(0, 0)}, 1),
    ],
    ids=["the last", "the first", "the era", "what it began with", "one between", "came back", "from nowhere"],
)
def test_each_row_that_is_missing_or_has_come_back_is_counted(
    history: History, ledger: dict[tuple[str, str], Numbers], count: int
) -> None:
    content = Content(era="new", ledger=ledger, facts={"w": rows(0, 6)})
    assert history.missing(content, history.known()) == count


@pytest.mark.parametrize(("facts", "count"), [({}, 7), ({"w": rows(0, 5)}, 1), ({"w": Numbers(0, 6, 6)}, 1)])
def test_facts_outlive_every_restore(history: History, facts: dict[str, Numbers], count: int) -> None:
    assert history.missing(Content(era="new", ledger=WHOLE, facts=facts), history.known()) == count


def test_the_state_before_a_restore_holds_its_whole_era_and_nothing_of_the_next(history: History) -> None:
    known = history.known(before="new")
    whole = Content(era="old", ledger={("old", "w"): rows(0, 4)}, facts={"w": rows(0, 4)})
    early = Content(era="old", ledger={("old", "w"): rows(0, 3)}, facts={"w": rows(0, 3)})
    assert history.missing(whole, known) == 0
    assert history.missing(early, known) == 2
