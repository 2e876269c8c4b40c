"""The judge: what was seen, as figures, and every promise that they break. Pure."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from chaos.backup.diary import Written

Span = tuple[float, float]  # from, to


@dataclass(slots=True)
class Observed:
    """Everything that is known after an attack, or in its midst."""

    seed: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    creates: list[Span] = field(default_factory=list)
    locks: list[float] = field(default_factory=list)  # seconds, one for each restore that has happened
    repeated_creates: int = 0  # answered in another life than the one that was asked first
    repeated_restores: int = 0
    verified: int = 0
    bad_listed: set[str] = field(default_factory=set)
    leftovers: list[str] = field(default_factory=list)
    mixed: int = 0
    lost: dict[str, int] = field(default_factory=dict)  # by where it is missing
    looks: int = 0
    writes: Sequence[Written] = ()
    copies: Mapping[str, int] = field(default_factory=dict)
    suppressed: int = 0
    unfinished: int = 0  # campaigns
    surprises: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out; the names are those of the last line of `make chaos-backup`."""

    kills: int
    restores: int
    mixed_reads: int  # transactions that saw parts of two states
    acknowledged_lost: int  # rows that are not where they were promised to be
    bad_listed: int  # snapshots that were listed and are not sound
    leftovers: int  # files that outlived the next start
    writer_p99_ms_during_create: float
    restore_write_lock_s: float  # the longest
    seed: int
    creates: int
    snapshots_verified: int
    repeated_creates: int
    repeated_restores: int
    acknowledged: int
    reads: int
    messages: int  # that the SMTP server has
    duplicates: int
    suppressions: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures, and every promise that they break."""

    figures: Figures
    broken: tuple[str, ...] = ()

    @property
    def last_line(self) -> str:
        """Return the figures as the last line shows them."""
        return json.dumps(asdict(self.figures))


def judge(observed: Observed) -> Verdict:
    """Count, and compare with what is promised."""
    figures = Figures(
        kills=observed.kills.total(),
        restores=len(observed.locks),
        mixed_reads=observed.mixed,
        acknowledged_lost=sum(observed.lost.values()),
        bad_listed=len(observed.bad_listed),
        leftovers=len(observed.leftovers),
        writer_p99_ms_during_create=round(1000 * _p99_during(observed.creates, observed.writes), 1),
        restore_write_lock_s=round(max(observed.locks, default=0.0), 3),
        seed=observed.seed,
        creates=len(observed.creates),
        snapshots_verified=observed.verified,
        repeated_creates=observed.repeated_creates,
        repeated_restores=observed.repeated_restores,
        acknowledged=len(observed.writes),
        reads=observed.looks,
        messages=len(observed.copies),
        duplicates=sum(observed.copies.values()) - len(observed.copies),
        suppressions=observed.suppressed,
    )
    lost = [f"{count} in {where}" for where, count in observed.lost.items() if count]
    checks = {
        "a transaction saw a mix of two states": figures.mixed_reads == 0,
        f"acknowledged writes are lost: {', '.join(lost)}": figures.acknowledged_lost == 0,
        f"a snapshot is listed and bad: {', '.join(sorted(observed.bad_listed))}": figures.bad_listed == 0,
        f"files outlived the next start: {', '.join(sorted(set(observed.leftovers)))}": figures.leftovers == 0,
        "somebody got a second copy": figures.duplicates == 0,
        "campaigns did not come to their end": observed.unfinished == 0,
        "nobody read": figures.reads > 0,
        "nobody wrote": figures.acknowledged > 0,
        "nothing was sent": figures.messages > 0,
    }
    return Verdict(figures, (*(promise for promise, is_kept in checks.items() if not is_kept), *observed.surprises))


def _p99_during(spans: Sequence[Span], writes: Sequence[Written]) -> float:
    """Return the 99th percentile of how long writes took that were under way in one of the spans."""
    ordered = sorted(writes, key=lambda one: one.began)
    seconds: list[float] = []
    for began, ended in spans:
        seconds += [one.ended - one.began for one in ordered if one.began <= ended and one.ended >= began]
    seconds.sort()
    return seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)] if seconds else 0.0
