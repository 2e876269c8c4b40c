"""Opening databases: new, old, newer, foreign, locked, and several processes at once."""

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mailer.database import Database, DatabaseUnusable, Migrations, migrate_all, users_lock_path
from mailer.database.migrate import migrate, schema_revisions
from mailer.lockfile import LockFile
from tests.fakes.clock import FakeClock

FIRST = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "letters_0001", None, None, None
def upgrade():
    op.create_table("letters", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))
def downgrade():
    op.drop_table("letters")
"""
SECOND = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "letters_0002", "letters_0001", None, None
def upgrade():
    op.add_column("letters", sa.Column("stamp", sa.Text))
def downgrade():
    op.drop_column("letters", "stamp")
"""
BROKEN = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "letters_0003", "letters_0002", None, None
def upgrade():
    op.execute("INSERT INTO letters (id, body) VALUES (1, 'half done')")
    op.execute("SELECT * FROM no_such_table")
"""
OPEN = """
import asyncio, sys
from pathlib import Path
from mailer.clock import SystemClock
from mailer.database import Database, Migrations
async def main():
    migrations = [Migrations("letters", Path(sys.argv[2]))]
    database = await Database.open(sys.argv[1], clock=SystemClock(), migrations=migrations)
    print(database.incarnation)
    await database.close()
asyncio.run(main())
"""


@pytest.fixture
def letters(tmp_path: Path) -> Migrations:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_letters.py").write_text(FIRST)
    return Migrations("letters", folder)


@pytest.fixture
def path(database_url: str) -> Path:
    return Path(database_url.removeprefix("sqlite:///"))


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(letters)")]


def test_a_new_database_gets_its_tables_and_its_mark(database_url: str, path: Path, letters: Migrations) -> None:
    migrate_all(database_url, [letters])
    assert columns(path) == ["id", "body"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x4D41494C,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_missing_folder_is_made_for_the_owner_alone(tmp_path: Path, letters: Migrations) -> None:
    migrate(f"sqlite:///{tmp_path}/data/mailer.db", letters.owner, letters.folder)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_only_what_is_new_is_applied(database_url: str, path: Path, letters: Migrations) -> None:
    migrate_all(database_url, [letters])
    (letters.folder / "versions" / "0002_stamp.py").write_text(SECOND)
    migrate_all(database_url, [letters])
    migrate_all(database_url, [letters])
    assert columns(path) == ["id", "body", "stamp"]


async def test_the_revisions_of_all_owners_can_be_read(
    database_url: str, letters: Migrations, clock: FakeClock
) -> None:
    database = await Database.open(database_url, clock=clock, migrations=[letters])
    assert await database.read(schema_revisions) == {"database": "database_0002", "letters": "letters_0001"}
    await database.close()


def test_a_migration_that_fails_leaves_everything_as_it_was(database_url: str, path: Path, letters: Migrations) -> None:
    migrate_all(database_url, [letters])
    (letters.folder / "versions" / "0002_stamp.py").write_text(SECOND)
    (letters.folder / "versions" / "0003_broken.py").write_text(BROKEN)
    with pytest.raises(DatabaseUnusable, match="no_such_table"):
        migrate_all(database_url, [letters])
    assert columns(path) == ["id", "body"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM letters").fetchone() == (0,)


REFERRING = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "letters_0002", "letters_0001", None, None
def upgrade():
    op.create_table("stamps", sa.Column("letter", sa.Integer, sa.ForeignKey("letters.id")))
"""


def test_references_are_checked_after_a_migration_and_not_at_every_start(
    database_url: str, path: Path, letters: Migrations
) -> None:
    migrate_all(database_url, [letters])
    (letters.folder / "versions" / "0002_stamps.py").write_text(REFERRING)
    migrate_all(database_url, [letters])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO stamps (letter) VALUES (7)")
        connection.commit()
    migrate_all(database_url, [letters])  # looks at no row: there may be millions
    third = SECOND.replace("letters_0002", "letters_0003").replace("letters_0001", "letters_0002")
    (letters.folder / "versions" / "0003_stamp.py").write_text(third)
    with pytest.raises(DatabaseUnusable, match="left broken references; nothing was changed"):
        migrate_all(database_url, [letters])
    assert columns(path) == ["id", "body"]


def test_a_newer_schema_is_refused_with_what_to_do(database_url: str, path: Path, letters: Migrations) -> None:
    newer = letters.folder / "versions" / "0002_stamp.py"
    newer.write_text(SECOND)
    migrate_all(database_url, [letters])
    newer.unlink()
    shutil.rmtree(newer.parent / "__pycache__", ignore_errors=True)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match=r"newer Mailer .*letters_0002.* install that version") as caught:
        migrate_all(database_url, [letters])
    assert len(caught.value.problems) == 1
    assert path.read_bytes() == before


@pytest.fixture(params=["text", "foreign", "marked"])
def foreign(request: pytest.FixtureRequest, path: Path) -> Iterator[Path]:
    if request.param == "text":
        path.write_text("Dear diary, this is no database at all.\n")
    else:
        with closing(sqlite3.connect(path)) as connection:
            if request.param == "marked":
                connection.execute("PRAGMA application_id=7")
            connection.execute("CREATE TABLE accounts (id INTEGER)")
            connection.commit()
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before, "nothing may be overwritten"
    assert not Path(f"{path}-wal").exists()


def test_what_is_not_ours_is_refused_and_kept(foreign: Path, letters: Migrations) -> None:
    with pytest.raises(DatabaseUnusable, match=r"^not a Mailer database: .*nothing was changed$"):
        migrate_all(f"sqlite:///{foreign}", [letters])


def test_an_empty_file_is_a_new_database(database_url: str, path: Path, letters: Migrations) -> None:
    path.touch()
    migrate_all(database_url, [letters])
    assert columns(path) == ["id", "body"]


def test_a_locked_database_is_waited_for_and_then_named(database_url: str, path: Path, letters: Migrations) -> None:
    migrate_all(database_url, [])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnusable, match="locked by another process"):
            migrate_all(database_url, [letters], busy_timeout=timedelta(milliseconds=50))


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("mysql://x/y", "not supported"),
        ("sqlite:////proc/none/mailer.db", "cannot be opened or created"),
    ],
)
def test_urls_that_cannot_be_used(url: str, hint: str) -> None:
    with pytest.raises(DatabaseUnusable, match=hint):
        migrate_all(url, [])


async def test_processes_that_start_together_do_not_collide(database_url: str, path: Path, letters: Migrations) -> None:
    (letters.folder / "versions" / "0002_stamp.py").write_text(SECOND)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, database_url, str(letters.folder), stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    answers = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len({output.split()[-1] for output, _ in answers}) == 1, "all see one incarnation"
    assert columns(path) == ["id", "body", "stamp"]


async def test_a_long_migration_elsewhere_is_waited_for(database_url: str, path: Path, letters: Migrations) -> None:
    migrate_all(database_url, [])
    with LockFile(path.with_name("mailer.db.migrating")), closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(
            asyncio.to_thread(migrate_all, database_url, [letters], busy_timeout=timedelta(milliseconds=10))
        )
        await asyncio.sleep(0.2)  # time enough to fail, were it not waiting
        other.execute("ROLLBACK")
    await waiting
    assert columns(path) == ["id", "body"]


async def test_threads_of_one_process_do_not_collide(tmp_path: Path, letters: Migrations) -> None:
    urls = [f"sqlite:///{tmp_path}/{number % 2}.db" for number in range(6)]
    await asyncio.gather(*(asyncio.to_thread(migrate_all, url, [letters]) for url in urls))
    assert columns(tmp_path / "0.db") == columns(tmp_path / "1.db") == ["id", "body"]


async def test_a_database_under_offline_restore_is_not_opened(database_url: str, clock: FakeClock) -> None:
    database = await Database.open(database_url, clock=clock)
    lock = LockFile(users_lock_path(database.location.path))
    assert not lock.acquire(), "an open database is in use"
    await database.close()
    assert lock.acquire()
    with pytest.raises(DatabaseUnusable, match="being restored"):
        await Database.open(database_url, clock=clock)
    lock.release()


def test_migrations_leave_the_logging_alone(
    database_url: str, letters: Migrations, capfd: pytest.CaptureFixture[str]
) -> None:
    migrate_all(database_url, [letters])
    assert capfd.readouterr() == ("", "")


def test_a_broken_reference_undoes_the_migration(database_url: str, path: Path, letters: Migrations) -> None:
    (letters.folder / "versions" / "0002_stamps.py").write_text(
        SECOND.replace(
            'op.add_column("letters", sa.Column("stamp", sa.Text))',
            'op.create_table("stamps", sa.Column("letter", sa.Integer, sa.ForeignKey("letters.id")))\n'
            '    op.execute("INSERT INTO stamps VALUES (99)")',
        )
    )
    with pytest.raises(DatabaseUnusable, match="broken references"):
        migrate_all(database_url, [letters])
    assert columns(path) == []


async def test_the_incarnation_stays_over_a_restart(database_url: str, clock: FakeClock) -> None:
    incarnations = set()
    for _ in range(2):
        database = await Database.open(database_url, clock=clock)
        incarnations.add(database.incarnation)
        await database.close()
    assert len(incarnations) == 1


def test_a_damaged_file_is_called_damaged_and_names_the_cure(
    database_url: str, path: Path, letters: Migrations
) -> None:
    migrate_all(database_url, [letters])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match=r"damaged.*mailer backup restore"):
        migrate_all(database_url, [letters])
    assert path.read_bytes() == before
