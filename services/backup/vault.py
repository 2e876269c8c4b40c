"""The store: one directory of packed copies and manifests. The files are the catalogue.

`<id>.db.zst` is a packed copy, `<id>.json` its manifest. The rename of the manifest is the commit point:
without a manifest there is no snapshot, whatever else lies there.
"""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from mailer.errors import Aborted, CannotStart, FieldViolation, InvalidArgument, NotFound
from mailer.lockfile import LockFile
from services.backup.durable import UNFINISHED, move_file, replace_file, sync_directory
from services.backup.encryption import NO_KEYS, Keys
from services.backup.snapshot import ManifestDamaged, Snapshot, is_snapshot_id, make_id, time_in_id
from services.backup.workroom import Workroom

PACKED = ".db.zst"
MANIFEST = ".json"
_MARK = ".halfway"
"""Ends the names, in work/, that tell which copies are being published or removed."""
LARGEST_MANIFEST_BYTES = 4 * 1024 * 1024


def cannot_use(directory: Path, error: OSError) -> CannotStart:
    """Return why a service cannot start that finds no use for its directory."""
    return CannotStart(
        f"cannot use {error.filename or directory}: {error.strerror}; check its folder, or set MAILER_BACKUP_STORE_DIR"
    )


class Vault:
    """Keeps snapshots. Methods block on the disk: call them in a thread."""

    def __init__(self, directory: Path, keys: Keys = NO_KEYS) -> None:
        """Name the directory, which `open` makes, and the keys of the snapshots in it."""
        self.directory = directory
        self.keys = keys
        self._work_directory = directory / "work"
        self._work = Workroom(self._work_directory)

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Be the only service of this store while the block runs. Raises CannotStart.

        Two would overwrite each other's settings, and both take the snapshots of the schedule.
        """
        lock = LockFile(self.directory / "service.lock")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_first = lock.acquire()
        except OSError as error:
            raise cannot_use(self.directory, error) from error
        if not is_first:
            raise CannotStart(
                f"another backup service works on {self.directory}: end it, or set MAILER_BACKUP_STORE_DIR to another"
                " folder"
            )
        try:
            yield
        finally:
            lock.release()

    def open(self) -> None:
        """Make the directories, for the owner only, and sweep what a killed process left."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self._work.open()
        try:
            with self.exclusive():
                self.sweep()
        except Aborted:
            # Another process is at work, so its files are no leftovers; whoever comes next sweeps.
            return

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store against every other Create, Prune and Restore of any process. Raises Aborted."""
        lock = LockFile(self.directory / "store.lock")
        if not lock.acquire():
            raise Aborted("Another backup operation is at work. Try again when it has finished.", reason="BACKUP_BUSY")
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> list[str]:
        """Remove what a killed operation left and return the names. Only under `exclusive`."""
        left = []
        # A copy without a manifest may be on its way back from elsewhere: only marked ones are ours to remove.
        for mark in self._work_directory.glob(f"*{_MARK}"):
            snapshot_id = mark.name.removesuffix(_MARK)
            packed = self._packed(snapshot_id)
            if is_snapshot_id(snapshot_id) and not self._manifest(snapshot_id).exists() and packed.is_file():
                left.append(packed)
        with self._manifests():
            left += [path for path in self.directory.glob(f".mailer_*{UNFINISHED}") if path.is_file()]
            for path in left:
                path.unlink(missing_ok=True)
        if left:
            sync_directory(self.directory)
        return [path.name for path in left] + self._work.sweep()

    def new_id(self, now: datetime) -> str:
        """Return an id that nothing in the store has."""
        while True:
            snapshot_id = make_id(now, suffix=secrets.token_hex(4))
            if not (self._manifest(snapshot_id).exists() or self._packed(snapshot_id).exists()):
                return snapshot_id

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """Give an empty file on the file system of the store, which is gone after the block."""
        return self._work.scratch(name)

    def publish(self, snapshot: Snapshot, packed: Path) -> None:
        """Make a packed copy that is on disk already into a snapshot. Only under `exclusive`.

        Raises OSError, and leaves nothing then: on a full disk a copy without a manifest would take up what is needed.
        """
        # Checked at the one place that all come through: better none than one that can be read by anybody.
        if snapshot.key_id != self.keys.sealing_id:
            raise RuntimeError("a snapshot that is not encrypted as the settings say must not be published")
        self.take_in(snapshot, packed)

    def take_in(self, snapshot: Snapshot, packed: Path) -> None:
        """Do the same with one that was published before, and comes back as it was. Only under `exclusive`."""
        self._mark(snapshot.snapshot_id)
        try:
            move_file(packed, self._packed(snapshot.snapshot_id))
            replace_file(self._manifest(snapshot.snapshot_id), snapshot.to_json())
        except OSError:
            with suppress(OSError):
                self.remove(snapshot.snapshot_id)
            raise
        self._unmark(snapshot.snapshot_id)

    def record(self, snapshot: Snapshot) -> bool:
        """Write what is now known about a snapshot; False when it was removed meanwhile."""
        with self._manifests():
            if not self._manifest(snapshot.snapshot_id).is_file():
                return False
            replace_file(self._manifest(snapshot.snapshot_id), snapshot.to_json())
            return True

    def remove(self, snapshot_id: str) -> None:
        """Remove a snapshot, manifest first: half a removal leaves no snapshot. Only under `exclusive`."""
        # On a full disk removing is the cure: then a copy may be left behind by a crash.
        with suppress(OSError):
            self._mark(snapshot_id)
        with self._manifests():
            self._manifest(snapshot_id).unlink(missing_ok=True)
            sync_directory(self.directory)
            packed = self._packed(snapshot_id)
            if packed.is_file() or packed.is_symlink():
                packed.unlink()
                sync_directory(self.directory)
        self._unmark(snapshot_id)

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots, newest first; files that are not ours are passed over, damage is a state."""
        # Not by glob: that finds nothing where the directory is gone or cannot be read, and raises nothing.
        names = [path.stem for path in self.directory.iterdir() if path.suffix == MANIFEST]
        found = [self._read(name) for name in names if is_snapshot_id(name)]
        return sorted(
            (snapshot for snapshot in found if snapshot is not None),
            key=lambda snapshot: (snapshot.created_time, snapshot.snapshot_id),
            reverse=True,
        )

    def get(self, snapshot_id: str) -> Snapshot:
        """Return one snapshot. Raises InvalidArgument (not an id of ours) and NotFound."""
        if not is_snapshot_id(snapshot_id):
            raise InvalidArgument(
                [FieldViolation("snapshot_id", "must be an id from List, like mailer_20261224T020000Z-0a1b2c3d")]
            )
        snapshot = self._read(snapshot_id)
        if snapshot is None:
            raise NotFound(f"There is no snapshot {snapshot_id}.", metadata={"snapshot_id": snapshot_id})
        return snapshot

    def packed_path(self, snapshot: Snapshot) -> Path:
        """Return where the packed copy of a snapshot of this store lies."""
        return self._packed(snapshot.snapshot_id)

    def packed_size(self, snapshot_id: str) -> int:
        """Return the bytes a snapshot takes up; 0 when its copy is missing."""
        packed = self._packed(snapshot_id)
        return packed.stat().st_size if packed.is_file() else 0

    def _read(self, snapshot_id: str) -> Snapshot | None:
        """Return a snapshot with the damage that shows without reading its copy; None if there is none."""
        path = self._manifest(snapshot_id)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                snapshot = Snapshot.from_json(file.read(LARGEST_MANIFEST_BYTES), snapshot_id=snapshot_id)
        except FileNotFoundError:
            return None
        except (ManifestDamaged, OSError) as error:
            return Snapshot(snapshot_id=snapshot_id, created_time=time_in_id(snapshot_id), damage=str(error))
        return snapshot if snapshot.damage else snapshot.with_damage(self._visible_damage(snapshot))

    def _visible_damage(self, snapshot: Snapshot) -> str:
        if not self._packed(snapshot.snapshot_id).is_file():
            return "the packed copy is missing"
        size = self.packed_size(snapshot.snapshot_id)
        if size == snapshot.packed_size_bytes:
            return ""
        return f"the packed copy has {size} bytes instead of {snapshot.packed_size_bytes}"

    def _mark(self, snapshot_id: str) -> None:
        """Note, on disk when this returns, that a copy may lie there without its manifest for a while."""
        (self._work_directory / f"{snapshot_id}{_MARK}").touch(mode=0o600)
        sync_directory(self._work_directory)

    def _unmark(self, snapshot_id: str) -> None:
        (self._work_directory / f"{snapshot_id}{_MARK}").unlink(missing_ok=True)

    @contextmanager
    def _manifests(self) -> Iterator[None]:
        """Hold off others who rewrite or remove manifests, for an instant: Verify works beside Prune."""
        with LockFile(self.directory / "manifests.lock"):
            yield

    def _packed(self, snapshot_id: str) -> Path:
        return self.directory / f"{snapshot_id}{PACKED}"

    def _manifest(self, snapshot_id: str) -> Path:
        return self.directory / f"{snapshot_id}{MANIFEST}"
