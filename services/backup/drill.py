"""The restore drill: the newest good snapshot is restored into a scratch file and looked at."""

from mailer.errors import DataLoss, FailedPrecondition
from services.backup.create import require_space
from services.backup.job import Job
from services.backup.proof import NotSound, prove
from services.backup.snapshot import Snapshot, State
from services.backup.stage import Stages
from services.backup.vault import Vault


def drill(vault: Vault, stages: Stages, job: Job) -> Snapshot:
    """Return the snapshot that was restored on trial, up to today's schema.

    Raises FailedPrecondition (there is none, no space, or it cannot be restored) and DataLoss (it is damaged).
    """
    newest = next((one for one in vault.snapshots() if one.state is State.OK), None)
    if newest is None:
        raise FailedPrecondition("There is no good snapshot to try: create one.", reason="NO_SNAPSHOT")
    require_space(vault.directory, newest.plain_size_bytes)
    with stages.staged(newest, job) as stage:
        try:
            prove(stage, job)
        except NotSound as error:
            raise DataLoss(
                f"Snapshot {newest.snapshot_id} does not make a sound database: {error}.",
                reason="DRILL_FAILED",
                metadata={"snapshot_id": newest.snapshot_id},
            ) from error
    return newest
