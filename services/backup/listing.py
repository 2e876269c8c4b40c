"""List: all snapshots wherever they lie, and what is known of each."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

from services.backup.encryption import Keys
from services.backup.offsite import Offsite
from services.backup.pruning import verdicts
from services.backup.retention import Policy
from services.backup.shown import Copy, Shown
from services.backup.snapshot import Snapshot


def show(
    snapshots: Sequence[Snapshot], policy: Policy, *, now: datetime, zone: tzinfo, keys: Keys, offsite: Offsite
) -> list[Shown]:
    """Return the snapshots of the store and those that lie only off the machine, newest first."""
    copies = offsite.seen()
    here = {one.snapshot_id: offsite.copy_of(one) for one in snapshots}
    everywhere = [*snapshots, *(one for one in copies.snapshots.values() if one.snapshot_id not in here)]
    decided = verdicts(policy, snapshots, now=now, zone=zone, copies=copies)
    reasons = {verdict.snapshot_id: verdict.reasons for verdict in decided}
    return [
        Shown(
            snapshot=one,
            keep_reasons=reasons[one.snapshot_id],
            copy=here.get(one.snapshot_id, Copy.ONLY_COPY),
            locked=not keys.can_open(one),
        )
        for one in sorted(everywhere, key=lambda one: (one.created_time, one.snapshot_id), reverse=True)
    ]
