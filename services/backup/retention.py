"""Which snapshots stay: a pure decision that gives its reasons."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

PRE_RESTORE_KEPT_FOR = timedelta(days=7)
"""A state that a restore replaced stays at least so long, whatever the policy says."""

LONGEST_WITHIN = timedelta(days=36525)
"""A hundred years: nobody means more."""

NEWEST_VERIFIED = "newest verified"
"""The reason of the one snapshot that never goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules that add up: a snapshot kept by any rule stays."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta = timedelta()

    @property
    def is_empty(self) -> bool:
        """Say whether no rule is set: such a policy would remove nearly everything, so callers refuse it."""
        return self == Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the decision needs to know of a snapshot."""

    snapshot_id: str
    created_time: datetime
    verified: bool
    """Proven to be whole. Only such a one counts as kept: a rule is not satisfied by a doubtful copy."""
    pinned: bool = False
    pre_restore: bool = False
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a snapshot stays, and why; no reasons means that it goes."""

    snapshot_id: str
    reasons: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Say whether it stays."""
        return bool(self.reasons)


_Period = Callable[[datetime], tuple[int, ...]]
_PERIODS: tuple[tuple[str, str, _Period], ...] = (
    ("keep_hourly", "hourly", lambda at: (at.year, at.month, at.day, at.hour, at.fold)),
    ("keep_daily", "daily", lambda at: (at.year, at.month, at.day)),
    ("keep_weekly", "weekly", lambda at: at.isocalendar()[:2]),
    ("keep_monthly", "monthly", lambda at: (at.year, at.month)),
    ("keep_yearly", "yearly", lambda at: (at.year,)),
)


def decide(policy: Policy, candidates: Iterable[Candidate], *, now: datetime, zone: tzinfo = UTC) -> list[Verdict]:
    """Return a verdict for every candidate, newest first; days and weeks begin as in the zone.

    Raises ValueError for an empty policy. Whatever the policy says, these stay: the newest verified snapshot
    and everything newer, pinned ones, one in use, recent pre-restore ones, those dated in the future; and all of
    them while none is verified.
    """
    if policy.is_empty:
        raise ValueError("a policy without any rule keeps nothing: set at least one")
    ordered = sorted(candidates, key=lambda one: (one.created_time, one.snapshot_id), reverse=True)
    # A snapshot from the future (the clock was wrong) would take the places of all that are to come.
    verified = [one for one in ordered if one.verified and one.created_time <= now]
    reasons: dict[str, list[str]] = {one.snapshot_id: [] for one in ordered}
    for one in ordered:
        reasons[one.snapshot_id] += _floors(one, verified, now)
    for snapshot_id, reason in (*_last(policy, verified), *_periodic(policy, verified, zone)):
        reasons[snapshot_id].append(reason)
    for one in ordered:
        if one.created_time <= now and now - one.created_time < policy.keep_within:
            reasons[one.snapshot_id].append("within")
    return [Verdict(one.snapshot_id, tuple(reasons[one.snapshot_id])) for one in ordered]


def _floors(one: Candidate, verified: Sequence[Candidate], now: datetime) -> Iterable[str]:
    """Yield why a snapshot stays whatever the policy says."""
    if one.pinned:
        yield "pinned"
    if one.in_use:
        yield "in use"
    if one.created_time > now:
        yield "dated in the future"
    if one.pre_restore and now - one.created_time < PRE_RESTORE_KEPT_FOR:
        yield "state before a recent restore"
    if not verified:
        yield "no snapshot is verified"
    elif one == verified[0]:
        yield NEWEST_VERIFIED
    elif not one.verified and one.created_time >= verified[0].created_time:
        yield "newer than the newest verified"


def _last(policy: Policy, verified: Sequence[Candidate]) -> Iterable[tuple[str, str]]:
    for number, one in enumerate(verified[: policy.keep_last], start=1):
        yield one.snapshot_id, f"keep-last {number}"


def _periodic(policy: Policy, verified: Sequence[Candidate], zone: tzinfo) -> Iterable[tuple[str, str]]:
    """Yield the newest snapshot of each of the newest periods that have one."""
    for rule, name, period_of in _PERIODS:
        seen: set[tuple[int, ...]] = set()
        for one in verified:
            period = period_of(one.created_time.astimezone(zone))
            if period in seen:
                continue
            if len(seen) == getattr(policy, rule):
                break
            seen.add(period)
            yield one.snapshot_id, f"{name} {len(seen)}"
