"""The judge: what the SMTP server has, against what the books say. Pure."""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from chaos.record import Event, Kind

_NOTICE_SECONDS = 0.2  # by which the harness may hear of a death later than the SMTP server does
_WAITING = frozenset({"PENDING", "CLAIMED", "DOT_INTENT", "DEFERRED"})
_LISTED = _WAITING | {"FAILED", "UNKNOWN"}


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books say about one message."""

    state: str
    is_flagged: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that is known after an attack."""

    policy: str
    given: Collection[str]  # addresses that are owed a message
    events: Collection[Event]  # of the SMTP server
    booked: Mapping[str, Booked]  # by address
    kills: int = 0
    deaths: Sequence[float] = ()  # instants at which senders died, in order
    recoveries: Sequence[float] = ()  # seconds from a start to the first message
    surprises: Sequence[str] = ()  # what else must not happen


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out; the names are those of the last line of `make chaos`."""

    policy: str
    kills: int
    messages: int
    accepted: int  # messages that the server has, copies not counted
    lost: int  # neither accepted nor listed as failed, unknown or waiting
    duplicates: int  # copies beyond the first
    falsely_sent: int  # booked as sent, and the server does not have them
    unknown: int
    unknown_bound: int  # connections that were open at each kill, and those that the server itself cut at the dot
    stuck: int  # still waiting at the end
    recovery_max_s: float  # from a start to the first accepted message


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures, and every promise that they break."""

    figures: Figures
    broken: tuple[str, ...] = field(default=())

    @property
    def last_line(self) -> str:
        """Return the figures as the last line shows them."""
        return json.dumps(asdict(self.figures))


def judge(observed: Observed, *, most_connections: int, recovery_seconds: float) -> Verdict:
    """Compare. A sender had at most `most_connections`, and may take less than `recovery_seconds` to recover."""
    digests: defaultdict[str, list[str]] = defaultdict(list)
    for event in observed.events:
        if event.kind is Kind.ACCEPTED:
            digests[event.address].append(event.digest)
    copies = {address: len(found) for address, found in digests.items()}
    states = {address: one.state for address, one in observed.booked.items()}
    figures = Figures(
        policy=observed.policy,
        kills=observed.kills,
        messages=len(observed.given),
        accepted=len(copies),
        lost=sum(address not in copies and states.get(address) not in _LISTED for address in observed.given),
        duplicates=sum(copies.values()) - len(copies),
        falsely_sent=sum(state == "SENT" and address not in copies for address, state in states.items()),
        unknown=sum(state == "UNKNOWN" for state in states.values()),
        unknown_bound=_interrupted(observed, most_connections),
        stuck=sum(state in _WAITING for state in states.values()),
        recovery_max_s=round(max(observed.recoveries, default=0.0), 2),
    )
    checks = {
        "messages are lost": figures.lost == 0,
        "a message is booked as sent that the server does not have": figures.falsely_sent == 0,
        "a message is booked as failed that the server has": not any(
            state == "FAILED" and address in copies for address, state in states.items()
        ),
        "messages are stuck": figures.stuck == 0,
        "somebody got mail who was not on the list": not copies.keys() - set(observed.given),
        "the books have a message that nobody gave": not states.keys() - set(observed.given),
        "two copies of a message differ": all(len(set(found)) == 1 for found in digests.values()),
        "it took too long to go on after a kill": figures.recovery_max_s < recovery_seconds,
    }
    if observed.policy == "at_most_once":
        checks |= {
            "AT_MOST_ONCE: a message was sent twice": figures.duplicates == 0,
            "AT_MOST_ONCE: more is unknown than was open": figures.unknown <= figures.unknown_bound,
        }
    else:
        flagged = {address for address, one in observed.booked.items() if one.is_flagged}
        twice = {address for address, count in copies.items() if count > 1}
        checks |= {
            "AT_LEAST_ONCE: a message is unknown": figures.unknown == 0,
            "AT_LEAST_ONCE: more copies than dots in flight": figures.duplicates <= figures.unknown_bound,
            "AT_LEAST_ONCE: a copy is not flagged": twice <= flagged,
        }
    broken = [promise for promise, is_kept in checks.items() if not is_kept]
    return Verdict(figures, (*broken, *observed.surprises))


def both(verdicts: Collection[Verdict]) -> Verdict:
    """Return several verdicts as one: sums, and the longest recovery."""
    figures = [asdict(verdict.figures) for verdict in verdicts]
    sums = {name: sum(one[name] for one in figures) for name in figures[0] if isinstance(figures[0][name], int)}
    recovery = max(verdict.figures.recovery_max_s for verdict in verdicts)
    broken = tuple(promise for verdict in verdicts for promise in verdict.broken)
    return Verdict(Figures(policy="both", recovery_max_s=recovery, **sums), broken)


def _interrupted(observed: Observed, most_connections: int) -> int:
    """Return how many connections ended in such a way that nobody may know what became of their message.

    A sender that lives closes connections without a goodbye, too, so what is lost counts for the death before it.
    """
    lost = Counter(
        bisect_right(observed.deaths, event.time + _NOTICE_SECONDS)
        for event in observed.events
        if event.kind is Kind.LOST
    )
    at_deaths = sum(min(count, most_connections) for death, count in lost.items() if death)
    return at_deaths + sum(event.kind is Kind.CUT for event in observed.events)
