"""The stage of a restore: the snapshot unpacked and made ready, before the live database is touched."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mailer.database.engine import APPLICATION_ID
from mailer.database.errors import DatabaseUnusable
from mailer.database.migrate import OURS, Migrations, known_revisions, migrate_all
from mailer.errors import FailedPrecondition
from services.backup.connect import connected, interruptible
from services.backup.job import Job, Phase
from services.backup.live import translated
from services.backup.pack import damaged, unpack
from services.backup.proof import Contents, NotSound, pragma, prove, read_contents
from services.backup.snapshot import ENGINE, Snapshot
from services.backup.vault import Vault

_CACHE_KIB = 65536


class Stages:
    """Makes stages of snapshots, with the tables of every owner as this program knows them."""

    def __init__(self, vault: Vault, migrations: Sequence[Migrations]) -> None:
        """Take the owners' migrations in the order in which they are applied."""
        self._vault = vault
        self._migrations = tuple(migrations)

    @contextmanager
    def staged(self, snapshot: Snapshot, job: Job) -> Iterator[Path]:
        """Give a scratch file with the snapshot in it: proven by its hashes, ours, and of today's schema.

        Raises DataLoss (damaged), FailedPrecondition (another engine or application, a newer schema, no key for it).
        """
        self._refuse(snapshot)
        with self._vault.scratch("stage") as path, translated():
            unpack(self._vault.packed_path(snapshot), snapshot, path, job, keys=self._vault.keys)
            contents = _contents(snapshot, path, job)
            if contents.application_id != APPLICATION_ID:
                raise FailedPrecondition(
                    f"Snapshot {snapshot.snapshot_id} belongs to another application "
                    f"(its id is {contents.application_id:#x}).",
                    reason="NOT_A_MAILER_DATABASE",
                )
            if dict(contents.row_counts) != dict(snapshot.row_counts):
                raise damaged(snapshot, "its row counts are not those of its manifest")
            self._refuse_newer(snapshot, contents.schema_revisions)
            job.step(Phase.CHECKING)
            self._migrate(path)
            yield path

    def refuse_newer_live(self, revisions: Mapping[str, str]) -> None:
        """Refuse to replace a database that a newer version works on: it would be set back to older tables.

        Raises FailedPrecondition.
        """
        for owner, revision in self._unknown(revisions):
            raise FailedPrecondition(
                f"The database is of a newer {owner} (revision {revision}) than this backup service knows; nothing "
                "was changed. Update the backup service, then repeat this call.",
                reason="DATABASE_NEWER",
                metadata={"owner": owner, "revision": revision},
            )

    def _refuse(self, snapshot: Snapshot) -> None:
        """Refuse what can be refused by the manifest alone."""
        if snapshot.damage:
            raise damaged(snapshot, snapshot.damage)
        if snapshot.engine != ENGINE:
            raise FailedPrecondition(
                f"Snapshot {snapshot.snapshot_id} is of {snapshot.engine}, the live database is of {ENGINE}.",
                reason="WRONG_ENGINE",
            )
        self._refuse_newer(snapshot, snapshot.schema_revisions)
        self._vault.keys.require(snapshot)

    def _refuse_newer(self, snapshot: Snapshot, revisions: Mapping[str, str]) -> None:
        for owner, revision in self._unknown(revisions):
            raise FailedPrecondition(
                f"Snapshot {snapshot.snapshot_id} was written by a newer {owner} (revision {revision}): "
                "install that version first, or restore a snapshot from before the upgrade.",
                reason="SNAPSHOT_NEWER",
                metadata={"owner": owner, "revision": revision},
            )

    def _unknown(self, revisions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield owner and revision of tables that a later version of this program has made."""
        known = {owned.owner: known_revisions(owned) for owned in (OURS, *self._migrations)}
        for owner, revision in revisions.items():
            if not set(filter(None, revision.split(","))) <= known.get(owner, frozenset()):
                yield owner, revision

    def _migrate(self, path: Path) -> None:
        try:
            migrate_all(f"sqlite:///{path.resolve()}", self._migrations)
        except DatabaseUnusable as error:
            raise FailedPrecondition(
                f"The snapshot cannot be brought to today's schema: {error}", reason="SNAPSHOT_NOT_MIGRATED"
            ) from error
        with connected(path, mode="rw") as connection:
            connection.execute("PRAGMA journal_mode=DELETE")


def _contents(snapshot: Snapshot, path: Path, job: Job) -> Contents:
    """Return what the unpacked snapshot holds; one that nobody has proven yet is proven first."""
    try:
        if snapshot.verified_time is None:
            return prove(path, job)
        with connected(path, mode="immutable") as connection, interruptible(connection, job):
            return read_contents(connection)
    except (NotSound, sqlite3.DatabaseError) as error:
        raise damaged(snapshot, str(error)) from error


def rebuild(stage: Path, target: Path, page_size: int, job: Job) -> None:
    """Write the stage to target, an empty file, with pages of another size.

    The live database keeps its page size as long as it is open, and refuses pages of another one.
    """
    with translated(), connected(stage, mode="rw") as connection, interruptible(connection, job):
        connection.execute(f"PRAGMA page_size={page_size:d}")
        connection.execute("VACUUM INTO ?", (str(target),))


def page_size_of(path: Path) -> int:
    """Return the size of the pages of a database file."""
    with connected(path, mode="rw") as connection:
        return int(pragma(connection, "page_size"))


@contextmanager
def editing(stage: Path) -> Iterator[sqlite3.Connection]:
    """Open a stage for changes: fast, because a stage that is torn by a crash is thrown away."""
    with connected(stage, mode="rw") as connection:
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA foreign_keys=OFF")
        # Containers are read-only but for the data: what is temporary stays in memory.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        yield connection


def attach(stage: sqlite3.Connection, live: Path) -> None:
    """Let the stage's connection read the live database under the name `live`."""
    stage.execute("ATTACH DATABASE ? AS live", (f"{live.resolve().as_uri()}?mode=ro",))
    stage.execute(f"PRAGMA live.cache_size=-{_CACHE_KIB}")
