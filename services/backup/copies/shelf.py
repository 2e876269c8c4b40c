"""The snapshots at a place: as in the store a pair of files, and without its manifest there is no snapshot."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from services.backup.copies.place import Lying, Place
from services.backup.job import Job, Phase
from services.backup.pack import damaged
from services.backup.snapshot import ManifestDamaged, Snapshot, is_snapshot_id, time_in_id
from services.backup.vault import LARGEST_MANIFEST_BYTES, MANIFEST, PACKED


class Shelf:
    """Keeps snapshots at a place. Methods block, and raise what a place raises."""

    def __init__(self, place: Place) -> None:
        """Take the place; nothing is asked yet."""
        self._place = place
        self._read: dict[str, tuple[Lying, Snapshot]] = {}

    def sweep(self) -> None:
        """Remove what killed uploads left. Only while nobody else uploads."""
        self._place.sweep()

    def look(self) -> dict[str, Snapshot]:
        """Return what lies there by its id: whole ones, and as damaged those that somebody has damaged.

        Manifests are read once, and again when they have changed.
        """
        names = self._place.names()
        ids = [name.removesuffix(MANIFEST) for name in names if name.endswith(MANIFEST)]
        found = {}
        for snapshot_id in filter(is_snapshot_id, ids):
            lying, known = names[snapshot_id + MANIFEST], self._read.get(snapshot_id)
            if known is None or known[0] != lying:
                known = (lying, self._manifest(snapshot_id, lying))
            found[snapshot_id] = known
        self._read = found
        return {snapshot_id: _beside(snapshot, names) for snapshot_id, (_, snapshot) in found.items()}

    def store(self, snapshot: Snapshot, packed: Path, job: Job) -> None:
        """Copy a snapshot's packed file; `commit` makes it one that is listed."""

        def moved(size: int) -> None:
            job.step(Phase.COPYING, size, snapshot.packed_size_bytes)

        try:
            source = packed.open("rb")
        except FileNotFoundError as error:
            raise damaged(snapshot, "its packed copy is missing") from error
        with source:
            self._place.put(
                snapshot.snapshot_id + PACKED,
                source,
                size_bytes=snapshot.packed_size_bytes,
                sha256=snapshot.packed_sha256,
                moved=moved,
            )

    def commit(self, snapshot: Snapshot) -> None:
        """Store the manifest."""
        data = snapshot.to_json()
        self._place.put(
            snapshot.snapshot_id + MANIFEST,
            io.BytesIO(data),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            moved=_ignored,
        )

    def fetch(self, snapshot: Snapshot, target: Path, job: Job) -> None:
        """Write the packed copy of a snapshot to target. Raises DataLoss unless it is the one that was packed."""
        digest = hashlib.sha256()

        def moved(size: int) -> None:
            job.step(Phase.FETCHING, size, snapshot.packed_size_bytes)
            if size > snapshot.packed_size_bytes:
                raise damaged(snapshot, "its copy is larger than its manifest says")

        name = snapshot.snapshot_id + PACKED
        with target.open("wb") as file:
            self._place.get(name, _Hashing(file, digest), moved=moved)  # type: ignore[arg-type]
        if digest.hexdigest() != snapshot.packed_sha256:
            raise damaged(snapshot, "its copy does not match its SHA-256")

    def remove(self, snapshot_id: str) -> None:
        """Remove a snapshot, manifest first: half a removal leaves no snapshot."""
        self._place.remove(snapshot_id + MANIFEST)
        self.discard(snapshot_id)
        self._read.pop(snapshot_id, None)

    def discard(self, snapshot_id: str) -> None:
        """Remove a packed copy that has no manifest."""
        self._place.remove(snapshot_id + PACKED)

    def _manifest(self, snapshot_id: str, lying: Lying) -> Snapshot:
        data = io.BytesIO()
        try:
            if lying.size_bytes > LARGEST_MANIFEST_BYTES:
                raise ManifestDamaged("the manifest is too large")
            self._place.get(snapshot_id + MANIFEST, data, moved=_ignored)
            return Snapshot.from_json(data.getvalue(), snapshot_id=snapshot_id)
        except ManifestDamaged as error:
            return Snapshot(snapshot_id=snapshot_id, created_time=time_in_id(snapshot_id), damage=str(error))


class _Hashing:
    """A file to write to that hashes what goes through it."""

    def __init__(self, file: BinaryIO, digest: "hashlib._Hash") -> None:
        self._file = file
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)


def _beside(snapshot: Snapshot, names: Mapping[str, Lying]) -> Snapshot:
    """Return the snapshot with the damage that shows without reading its packed copy."""
    if snapshot.damage:
        return snapshot
    packed = names.get(snapshot.snapshot_id + PACKED)
    if packed is None:
        return snapshot.with_damage("its copy is missing")
    if packed.size_bytes != snapshot.packed_size_bytes:
        return snapshot.with_damage(f"its copy has {packed.size_bytes} bytes instead of {snapshot.packed_size_bytes}")
    return snapshot


def _ignored(_: int) -> None: ...
