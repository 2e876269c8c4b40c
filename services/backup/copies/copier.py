"""Copies snapshots to a place, fetches them back, and knows what lies where. Methods block: call them in a thread."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from mailer.clock import Clock
from mailer.errors import DataLoss, FailedPrecondition, MailerError, NotFound
from mailer.log import get_logger
from services.backup.copies.book import Book, BookFile
from services.backup.copies.shelf import Shelf
from services.backup.create import require_space
from services.backup.encryption import silent_end
from services.backup.job import Job
from services.backup.live import translated
from services.backup.shown import Copy
from services.backup.snapshot import Snapshot, State
from services.backup.vault import Vault

log = get_logger(__name__)


class Copier:
    """Works between one store and one place."""

    def __init__(self, *, vault: Vault, shelf: Shelf, clock: Clock) -> None:
        """Take both sides; `open` reads what was known before."""
        self._vault = vault
        self._shelf = shelf
        self._clock = clock
        self._file = BookFile(vault.directory / "copies.json")
        self._book = Book()
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._swept = False
        self.catalogue: Mapping[str, Snapshot] | None = None
        """What lies there, as last seen; None before the first look."""

    @property
    def book(self) -> Book:
        """Return what has happened so far."""
        return self._book

    def open(self) -> None:
        """Read the book."""
        self._book = self._file.load()

    def look(self) -> Mapping[str, Snapshot]:
        """Return what lies there now. Raises what a place raises, and notes it."""
        with self._looking:
            try:
                self.catalogue = self._shelf.look()
            except MailerError as error:
                self._failed(error)
                raise
            return self.catalogue

    def copy_of(self, snapshot: Snapshot) -> Copy:
        """Return how it is with the copy of a snapshot of the store."""
        there = None if self.catalogue is None else self.catalogue.get(snapshot.snapshot_id)
        if there is not None and not there.damage:
            return Copy.COPIED
        if not self._is_copied(snapshot):
            return Copy.NONE
        return Copy.UNKNOWN if self.catalogue is None else Copy.WAITING

    def copy_all(self, job_of: Callable[[], Job]) -> bool:
        """Copy what waits, newest first; False when something could not be copied.

        Each copy gets a job of its own. What is wrong with one snapshot does not keep the others; a place that does
        not work ends the round.
        """
        try:
            with translated():
                if not self._swept:
                    self._shelf.sweep()
                    self._swept = True
                self._refuse_silent_end(self.look())
                self._clear_begun()
                failures = [error for error in map(self._try, self._waiting(), self._jobs(job_of)) if error]
        except MailerError as error:
            self._failed(error)
            return False
        if failures:
            self._failed(failures[0])
            return False
        if self._book.failure_time is not None:
            self._note(Book.went_well)
        return True

    def note_bug(self, error: Exception) -> None:
        """Note that copying ended in a way that nobody foresaw."""
        why = f"Copying ended by a bug ({type(error).__name__}); the log says more."
        self._note(lambda book: book.failed(self._clock.now(), why))

    def find(self, snapshot_id: str, job: Job) -> Snapshot:
        """Return a snapshot of the store; one that lies only at the place, or is damaged here, is fetched first.

        Only under the lock of the store. Raises InvalidArgument, NotFound, FailedPrecondition (no key for it, no space,
        a place that cannot be used), Unavailable (a place that is away) and DataLoss.
        """
        here = self._here(snapshot_id)
        if here is not None and not here.damage:
            return here
        try:
            there = self.look().get(snapshot_id)
        except MailerError:
            if here is None:
                raise
            return here
        if there is None or (there.damage and here is not None):
            return here or self._vault.get(snapshot_id)
        return self._fetch(there, job)

    def bring(self, snapshot_id: str, job: Job) -> None:
        """Fetch a snapshot that is not in the store; nothing happens when it is. Raises Aborted (BACKUP_BUSY)."""
        if self._here(snapshot_id) is None:
            with self._vault.exclusive():
                self._vault.sweep()
                self.find(snapshot_id, job)

    def remove(self, snapshot_ids: Iterable[str]) -> list[str]:
        """Remove snapshots there; returns those that are gone. What fails is noted and left to the next Prune."""
        gone: list[str] = []
        # Not beside a look: that would bring back what it saw before.
        with self._looking:
            try:
                for snapshot_id in snapshot_ids:
                    self._shelf.remove(snapshot_id)
                    gone.append(snapshot_id)
            except MailerError as error:
                self._failed(error)
            self.catalogue = {one: there for one, there in (self.catalogue or {}).items() if one not in gone}
        if gone:
            self._note(lambda book: book.disowning(gone))
        return gone

    def _is_copied(self, snapshot: Snapshot) -> bool:
        """Say whether a snapshot leaves the machine: proven, and encrypted where that is asked for."""
        return snapshot.state is State.OK and bool(snapshot.key_id or not self._vault.keys.sealing_id)

    def _refuse_silent_end(self, there: Mapping[str, Snapshot]) -> None:
        """Refuse to lay readable copies beside encrypted ones: on a new machine the key may have been forgotten."""
        problem = silent_end(self._vault.keys, there.values())
        if problem:
            raise FailedPrecondition(f"Nothing is copied off the machine: {problem}.", reason="SNAPSHOT_NOT_ENCRYPTED")

    def _waiting(self) -> list[Snapshot]:
        return [one for one in self._vault.snapshots() if self.copy_of(one) is Copy.WAITING]

    @staticmethod
    def _jobs(job_of: Callable[[], Job]) -> Iterable[Job]:
        while True:
            yield job_of()

    def _try(self, snapshot: Snapshot, job: Job) -> DataLoss | None:
        """Copy one snapshot; returns what is wrong with it."""
        self._note(lambda book: book.began(snapshot.snapshot_id))
        try:
            self._shelf.store(snapshot, self._vault.packed_path(snapshot), job)
            if self._here(snapshot.snapshot_id) is None:
                # Pruned meanwhile: what nobody wants any more is not published.
                self._discard(snapshot.snapshot_id)
                return None
            with self._looking:
                self._shelf.commit(snapshot)
                self.catalogue = {**(self.catalogue or {}), snapshot.snapshot_id: snapshot}
        except DataLoss as error:
            log.error("a snapshot cannot be copied", snapshot_id=snapshot.snapshot_id, error=error.message)
            return error
        self._note(lambda book: book.copied(snapshot.snapshot_id, self._clock.now()))
        log.info("a snapshot was copied", snapshot_id=snapshot.snapshot_id, size_bytes=snapshot.packed_size_bytes)
        return None

    def _clear_begun(self) -> None:
        """Remove what killed copies left of snapshots that the store does not have any more."""
        for snapshot_id in self._book.begun_ids:
            if self.catalogue is not None and snapshot_id in self.catalogue:
                self._note(lambda book, one=snapshot_id: book.owning(one).dropped(one))  # type: ignore[misc]
            elif self._here(snapshot_id) is None:
                self._discard(snapshot_id)

    def _discard(self, snapshot_id: str) -> None:
        self._shelf.discard(snapshot_id)
        self._note(lambda book: book.dropped(snapshot_id))

    def _fetch(self, there: Snapshot, job: Job) -> Snapshot:
        self._vault.keys.require(there)
        require_space(self._vault.directory, there.packed_size_bytes)
        with translated(), self._vault.scratch("fetched") as packed:
            self._shelf.fetch(there, packed, job)
            self._vault.take_in(there, packed)
        self._note(lambda book: book.owning(there.snapshot_id))
        log.info("a snapshot was fetched", snapshot_id=there.snapshot_id, size_bytes=there.packed_size_bytes)
        return there

    def _here(self, snapshot_id: str) -> Snapshot | None:
        with suppress(NotFound):
            return self._vault.get(snapshot_id)
        return None

    def _failed(self, error: MailerError) -> None:
        if error.reason == "STOPPING":
            return  # says nothing about the place: the next start goes on
        self._note(lambda book: book.failed(self._clock.now(), error.message))

    def _note(self, change: Callable[[Book], Book]) -> None:
        with self._lock:
            self._book = change(self._book)
            try:
                self._file.store(self._book)
            except OSError as error:
                # On a full disk, say: this process still knows it.
                log.warning("the book of the copies cannot be stored", error=str(error))
