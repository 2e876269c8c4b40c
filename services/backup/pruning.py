"""Prune: remove what a policy does not keep, from the store and from where its copies lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from services.backup.retention import NEWEST_VERIFIED, Candidate, Policy, Verdict, decide
from services.backup.snapshot import Snapshot, State, Trigger
from services.backup.vault import Vault


@dataclass(frozen=True, slots=True)
class Pruned:
    """What stays and why, and what went (or would go), newest first."""

    kept: tuple[Verdict, ...]
    removed: tuple[str, ...]
    freed_bytes: int
    removed_copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What lies off the machine: decided about together with the store, by one plan."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    own_ids: frozenset[str] | None = None
    """The only ones that may go; None: all of them."""


NO_COPIES = Copies()


def union(snapshots: Sequence[Snapshot], copies: Mapping[str, Snapshot]) -> list[Snapshot]:
    """Return all snapshots wherever they lie, newest first; of two the one that is not damaged."""
    known = dict(copies)
    for here in snapshots:
        there = known.get(here.snapshot_id)
        if there is None or there.damage or not here.damage:
            known[here.snapshot_id] = here
    return sorted(known.values(), key=lambda one: (one.created_time, one.snapshot_id), reverse=True)


def verdicts(
    policy: Policy,
    snapshots: Sequence[Snapshot],
    *,
    now: datetime,
    zone: tzinfo,
    frozen: str = "",
    copies: Copies = NO_COPIES,
) -> list[Verdict]:
    """Return which snapshots stay and why, newest first. With `frozen`, a reason, all of them do.

    One plan for both sides, so that nothing is removed here and copied again there. Neither side leans on the other:
    the newest verified one of each stays.
    """
    everywhere = union(snapshots, copies.snapshots)
    decided = decide(policy, [_candidate(snapshot) for snapshot in everywhere], now=now, zone=zone)
    newest_id = next((one.snapshot_id for one in decided if NEWEST_VERIFIED in one.reasons), "")
    further: dict[str, list[str]] = {one.snapshot_id: [] for one in everywhere}
    if copies.snapshots:
        for side, reason in ((snapshots, "in the store"), (copies.snapshots.values(), "of the copies")):
            good = [one for one in side if one.state is State.OK and one.created_time <= now]
            if good:
                newest = max(good, key=lambda one: (one.created_time, one.snapshot_id))
                if newest.snapshot_id != newest_id:
                    further[newest.snapshot_id].append(f"{NEWEST_VERIFIED} {reason}")
    here = {one.snapshot_id for one in snapshots}
    for one in everywhere:
        if one.snapshot_id not in here and not _may_go(one, copies):
            further[one.snapshot_id].append("not copied by this store")
        further[one.snapshot_id] += filter(None, (frozen,))
    return [Verdict(one.snapshot_id, (*one.reasons, *further[one.snapshot_id])) for one in decided]


def plan(
    vault: Vault, policy: Policy, *, now: datetime, zone: tzinfo, frozen: str = "", copies: Copies = NO_COPIES
) -> Pruned:
    """Return what `prune` would do."""
    snapshots = vault.snapshots()
    decided = verdicts(policy, snapshots, now=now, zone=zone, frozen=frozen, copies=copies)
    going = [one.snapshot_id for one in decided if not one.kept]
    here = {one.snapshot_id for one in snapshots}
    removed = tuple(one for one in going if one in here)
    return Pruned(
        kept=tuple(one for one in decided if one.kept),
        removed=removed,
        freed_bytes=sum(vault.packed_size(snapshot_id) for snapshot_id in removed),
        removed_copies=tuple(
            one for one in going if one in copies.snapshots and _may_go(copies.snapshots[one], copies)
        ),
    )


def prune(
    vault: Vault, policy: Policy, *, now: datetime, zone: tzinfo, frozen: str = "", copies: Copies = NO_COPIES
) -> Pruned:
    """Remove from the store what the policy does not keep; the copies are left to the caller.

    Raises Aborted (BACKUP_BUSY).
    """
    with vault.exclusive():
        vault.sweep()
        decided = plan(vault, policy, now=now, zone=zone, frozen=frozen, copies=copies)
        for snapshot_id in decided.removed:
            vault.remove(snapshot_id)
        return decided


def _may_go(copy: Snapshot, copies: Copies) -> bool:
    """Say whether a copy may be removed: it is this store's own, and its manifest says what it is."""
    own = copies.own_ids is None or copy.snapshot_id in copies.own_ids
    return own and bool(copy.packed_sha256)


def _candidate(snapshot: Snapshot) -> Candidate:
    return Candidate(
        snapshot_id=snapshot.snapshot_id,
        created_time=snapshot.created_time,
        verified=snapshot.state is State.OK,
        pinned=snapshot.pinned,
        pre_restore=snapshot.trigger is Trigger.PRE_RESTORE,
    )
