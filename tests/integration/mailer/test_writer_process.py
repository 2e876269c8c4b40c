"""The writer's process: what runs there and what does not, what comes back from it, and what it notices."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from mailer.database import (
    Database,
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    DatabaseReplaced,
)
from mailer.database.identity import renew_incarnation
from mailer.errors import InvalidArgument, ResourceExhausted
from tests.fakes import portable_tasks as tasks
from tests.fakes.clock import FakeClock
from tests.fakes.writing import HERE, at_work, is_let_go_of, opened, opened_with_things, together

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def things(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    async with opened_with_things(database_url, clock) as database:
        yield database


async def test_portable_tasks_run_there_and_others_here(things: Database) -> None:
    there = things.writer_process_id
    assert await together(things, (tasks.add, "a"), (tasks.add_here, "b"), (tasks.add, "c")) == [there, HERE, there]


async def test_the_order_of_submission_is_kept_between_both(things: Database) -> None:
    expected = [f"{number:03}" for number in range(300)]
    await together(
        things, *[(tasks.add_here if number % 7 < 3 else tasks.add, f"{number:03}") for number in range(300)]
    )
    assert await things.read(tasks.names) == expected


async def test_until_it_is_ready_the_thread_writes(database_url: str, clock: FakeClock) -> None:
    async with opened(database_url, clock) as database:
        await database.write(tasks.create)
        assert await database.write(tasks.add, "a") == HERE
        await at_work(database)
        assert await database.read(tasks.names) == ["a"]


async def test_errors_of_the_contract_arrive_with_all_they_say(things: Database) -> None:
    with pytest.raises(ResourceExhausted, match="full") as exhausted:
        await things.write(tasks.add_and_fail, "a", "exhausted")
    assert (exhausted.value.reason, exhausted.value.metadata) == ("QUEUE_FULL", {"run_id": "r"})
    assert exhausted.value.retry_after.total_seconds() == 3
    assert exhausted.value.to_status().message == "full"
    with pytest.raises(InvalidArgument) as invalid:
        await things.write(tasks.add_and_fail, "a", "invalid")
    assert [one.field for one in invalid.value.violations] == ["name"]
    assert things.healthy
    assert await things.read(tasks.names) == []


async def test_other_errors_arrive_as_what_they_are_and_name_the_line(things: Database) -> None:
    await things.write(tasks.add, "a")
    with pytest.raises(IntegrityError) as twice:
        await things.write(tasks.add, "a")
    assert isinstance(twice.value.orig, sqlite3.IntegrityError)
    with pytest.raises(LookupError, match="on purpose") as bug:
        await things.write(tasks.add_and_fail, "b", "on purpose")
    assert "in add_and_fail" in bug.value.__notes__[0]
    with pytest.raises(UnicodeEncodeError) as coded:
        await things.write(tasks.add_and_fail, "b", "unicode")
    assert str(coded.value).startswith("'ascii' codec")
    with pytest.raises(RuntimeError, match="Unpicklable"):
        await things.write(tasks.add_and_fail, "b", "unpicklable")
    assert await things.read(tasks.names) == ["a"]
    assert things.healthy


async def test_a_failing_task_undoes_itself_and_not_its_group(things: Database) -> None:
    results = await together(
        things, (tasks.add, "a"), (tasks.add_and_fail, "b", "bug"), (tasks.add, "a"), (tasks.add, "c")
    )
    assert [type(one) for one in results] == [int, LookupError, IntegrityError, int]
    assert await things.read(tasks.names) == ["a", "c"]


async def test_what_is_done_after_the_commit_is_done_there(things: Database) -> None:
    assert (await things.write(tasks.add_unfinished, "a")).by == things.writer_process_id


async def test_a_result_that_cannot_travel_is_an_error_and_nothing_is_done(things: Database) -> None:
    there = await at_work(things)
    with pytest.raises(Exception, match=r"pickle|local"):
        await things.write(tasks.add_and_return_a_function, "a")
    with pytest.raises(Exception, match=r"pickle|local"):
        await things.write(tasks.return_a_function)
    assert await things.read(tasks.names) == []
    assert await things.write(tasks.add, "b") == there


async def test_arguments_that_cannot_travel_are_written_here(things: Database) -> None:
    class Name(str):
        __slots__ = ()

    assert await things.write(tasks.add, Name("a")) == HERE
    assert await things.read(tasks.names) == ["a"]
    await at_work(things)


async def test_a_locked_database_is_busy_there_and_recovers_by_itself(
    things: Database, database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    async with opened(database_url, clock, busy_timeout=timedelta(milliseconds=50)) as impatient:
        there = await at_work(impatient)
        with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await together(impatient, (tasks.add, "a"), (tasks.add, "b"))
            assert [type(one) for one in results] == [DatabaseBusy, DatabaseBusy]
            assert results[0] is not results[1]
            assert not impatient.healthy
            other.execute("ROLLBACK")
        assert await impatient.probe()
        assert await impatient.write(tasks.add, "a") == there


async def test_a_full_file_fails_the_group_and_changes_nothing(things: Database) -> None:
    there = await at_work(things)
    assert await things.write(tasks.limit_pages, 10) == there
    results = await together(things, (tasks.add, "a"), (tasks.fill, 2), (tasks.add, "b"))
    assert [type(one) for one in results] == [DatabaseFull] * 3
    assert not things.healthy
    assert await things.read(tasks.names) == []
    assert await things.write(tasks.limit_pages, 100_000) == there
    assert await things.write(tasks.add, "a") == there
    assert things.healthy


async def test_a_restored_database_is_noticed_there(things: Database) -> None:
    noticed: list[str] = []
    things.on_replaced(lambda: noticed.append(things.incarnation))
    with closing(sqlite3.connect(things.location.path, isolation_level=None)) as other:
        other.execute("UPDATE database_identity SET incarnation = 'another'")
    results = await together(things, (tasks.add, "a"), (tasks.add, "b"))
    assert [type(one) for one in results] == [DatabaseReplaced] * 2
    assert things.incarnation == "another"
    assert await things.write(tasks.add, "c") == things.writer_process_id
    await asyncio.sleep(0)
    assert noticed == ["another"]
    assert things.healthy


async def test_a_new_incarnation_made_here_holds_there(things: Database, clock: FakeClock) -> None:
    incarnation = await things.write(renew_incarnation, clock.now())
    with pytest.raises(DatabaseReplaced):
        await things.write(tasks.add, "a")
    assert things.incarnation == incarnation
    assert await things.write(tasks.add, "b") == things.writer_process_id


async def test_a_deleted_file_is_gone_there_and_comes_back(things: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(DatabaseGone, match="missing"):
        await things.write(tasks.add, "a")
    assert not things.healthy
    assert not path.exists()
    path.with_name("elsewhere.db").rename(path)
    assert await things.probe()
    assert await things.write(tasks.add, "a") == things.writer_process_id


async def test_both_let_go_of_a_lost_file_and_take_up_its_successor(
    things: Database, tmp_path: Path, clock: FakeClock
) -> None:
    other = await Database.open(f"sqlite:///{tmp_path}/other.db", clock=clock)
    await other.write(tasks.create)
    await other.write(tasks.add_here, "new")
    await other.close()
    path = things.location.path
    await things.write(tasks.add, "old")
    path.unlink()
    assert not await things.probe()
    assert is_let_go_of(path), "whoever restores the file does not wait for either process"
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()  # noqa: ASYNC240
    other.location.path.rename(path)
    assert await things.probe()
    assert things.incarnation == other.incarnation
    assert await things.write(tasks.add, "newer") == things.writer_process_id
    assert await things.read(tasks.names) == ["new", "newer"]


async def test_a_file_that_this_process_misses_first_is_let_go_of_by_the_next_probe(things: Database) -> None:
    path = things.location.path
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(DatabaseGone):
        await things.read(tasks.names)
    assert not await things.probe()
    assert is_let_go_of(path)


async def test_marks_of_processes_that_are_long_gone_are_forgotten(things: Database) -> None:
    with closing(sqlite3.connect(things.location.path)) as other:
        for number in range(100):
            other.execute("INSERT INTO database_writers (writer_id, last_group) VALUES (?, 1)", (f"old {number}",))
        other.commit()
        await things.write(tasks.add, "a")
        assert other.execute("SELECT count(*) FROM database_writers").fetchone()[0] == 64


def can_mount() -> bool:
    unshare = shutil.which("unshare")
    mount = ["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return unshare is not None and not subprocess.run([unshare, *mount], check=False, capture_output=True).returncode


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace of its own")
def test_on_a_full_disk_it_writes_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.integration.mailer.small_disk", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report == {
        "refused": [True, True],
        "healthy": [False, False, True],
        "kept": ["before"],
        "same": True,
        "names": ["before", "after"],
    }
