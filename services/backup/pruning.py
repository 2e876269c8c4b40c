"""Prune: remove what a policy does not keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from services.backup.retention import Candidate, Policy, Verdict, decide
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.vault import Vault


@dataclass(frozen=True, slots=True)
class Pruned:
    """What stays and why, and what went (or would go), newest first."""

    kept: tuple[Verdict, ...]
    removed: tuple[str, ...]
    freed_bytes: int


def verdicts(
    policy: Policy, snapshots: Sequence[Snapshot], *, now: datetime, zone: tzinfo, frozen: str = ""
) -> list[Verdict]:
    """Return which snapshots stay and why, newest first. With `frozen`, a reason, all of them do."""
    decided = decide(policy, [_candidate(snapshot) for snapshot in snapshots], now=now, zone=zone)
    return [Verdict(one.snapshot_id, (*one.reasons, *filter(None, (frozen,)))) for one in decided]


def plan(vault: Vault, policy: Policy, *, now: datetime, zone: tzinfo, frozen: str = "") -> Pruned:
    """Return what `prune` would do."""
    decided = verdicts(policy, vault.snapshots(), now=now, zone=zone, frozen=frozen)
    removed = tuple(one.snapshot_id for one in decided if not one.kept)
    return Pruned(
        kept=tuple(one for one in decided if one.kept),
        removed=removed,
        freed_bytes=sum(vault.packed_size(snapshot_id) for snapshot_id in removed),
    )


def prune(vault: Vault, policy: Policy, *, now: datetime, zone: tzinfo, frozen: str = "") -> Pruned:
    """Remove what the policy does not keep. Raises Aborted (BACKUP_BUSY)."""
    with vault.exclusive():
        vault.sweep()
        decided = plan(vault, policy, now=now, zone=zone, frozen=frozen)
        for snapshot_id in decided.removed:
            vault.remove(snapshot_id)
        return decided


def _candidate(snapshot: Snapshot) -> Candidate:
    return Candidate(
        snapshot_id=snapshot.snapshot_id,
        created_time=snapshot.created_time,
        verified=snapshot.state is State.OK,
        pinned=snapshot.pinned,
        pre_restore=snapshot.trigger is Trigger.PRE_RESTORE,
    )
