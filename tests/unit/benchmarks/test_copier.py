"""The copies that ours is measured beside."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.copier import Steps, copy

ROWS = 2_000


@pytest.fixture
def live(tmp_path: Path) -> Path:
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE rows (data BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO rows VALUES (randomblob(?))", [(700,)] * ROWS)
        connection.execute("COMMIT")
    return path


@pytest.mark.parametrize("how", ["whole", "steps", "vacuum"])
def test_every_way_copies_all_rows(live: Path, tmp_path: Path, how: str) -> None:
    assert copy(how, live, tmp_path / "copy.db", 60)["done"] == 1
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copied:
        assert copied.execute("SELECT count(*) FROM rows").fetchone() == (ROWS,)


def test_a_copy_in_steps_is_given_up_when_its_time_is_over(live: Path, tmp_path: Path) -> None:
    figures = copy("steps", live, tmp_path / "copy.db", 0)
    assert (figures["done"], figures["restarts"]) == (0, 0)
    assert 0 < figures["furthest"] < 1


def test_a_commit_between_two_steps_makes_the_copy_begin_anew(live: Path, tmp_path: Path) -> None:
    steps, restarts = Steps(float("inf")), list[int]()
    with (
        closing(sqlite3.connect(live)) as source,
        closing(sqlite3.connect(live, isolation_level=None)) as writer,
        closing(sqlite3.connect(tmp_path / "copy.db")) as target,
    ):

        def look(status: int, remaining: int, total: int) -> None:
            steps.look(status, remaining, total)
            restarts.append(steps.restarts)
            if len(restarts) <= 3:
                writer.execute("INSERT INTO rows VALUES (NULL)")

        source.backup(target, pages=100, progress=look)
    assert restarts[:5] == [0, 1, 2, 3, 3]
