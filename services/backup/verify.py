"""Verify: read a snapshot whole and prove it."""

from dataclasses import replace
from datetime import datetime

from mailer.errors import DataLoss
from services.backup.create import require_space
from services.backup.job import Job
from services.backup.live import translated
from services.backup.pack import unpack
from services.backup.proof import NotSound, prove
from services.backup.snapshot import Snapshot
from services.backup.vault import Vault


def verify(vault: Vault, snapshot: Snapshot, job: Job, *, now: datetime) -> Snapshot:
    """Return the snapshot with what is known now, and keep that in its manifest.

    Damage is a result, not an error. Raises what the job raises, and FailedPrecondition without space or without the
    snapshot's key.
    """
    vault.keys.require(snapshot)
    damage = _damage(vault, snapshot, job)
    known = replace(snapshot, damage=damage, verified_time=None if damage else now)
    # A manifest that could not be read is left as it is: somebody might mend it.
    if snapshot.packed_sha256:
        vault.record(known)
    return known


def _damage(vault: Vault, snapshot: Snapshot, job: Job) -> str:
    """Return what is wrong with a snapshot, '' when it is whole: hashes first, then what is inside."""
    if not snapshot.packed_sha256:
        return snapshot.damage or "the manifest names no hash"
    require_space(vault.directory, snapshot.plain_size_bytes)
    with translated(), vault.scratch("verify") as path:
        try:
            unpack(vault.packed_path(snapshot), snapshot, path, job, keys=vault.keys)
            contents = prove(path, job)
        except DataLoss as error:
            return error.metadata["damage"]
        except NotSound as error:
            return str(error)
    if dict(contents.row_counts) != dict(snapshot.row_counts):
        return "its row counts are not those of its manifest"
    return ""
