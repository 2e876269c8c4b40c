"""The judge: what the SMTP server has, against what the books say. Pure."""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from chaos.record import Event, Kind

RECOVERY_SECONDS = 5.0
_NOTICE_SECONDS = 0.2  # by which the harness may hear of a death later than the SMTP server does

_WAITING = frozenset({"PENDING", "CLAIMED", "DOT_INTENT", "DEFERRED"})
_LISTED = _WAITING | {"FAILED", "UNKNOWN"}


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books say about one message."""

    state: str
    is_flagged: bool


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


def judge(
    *,
    policy: str,
    kills: int,
    given: Collection[str],
    events: Collection[Event],
    booked: Mapping[str, Booked],
    deaths: Sequence[float],
    most_connections: int,
    recoveries: Collection[float],
    surprises: Collection[str] = (),
) -> Verdict:
    """Compare. `given` are the addresses that are owed a message, `surprises` what else must not happen.

    `deaths` are the instants at which senders died, in order; each had at most `most_connections`.
    """
    digests: defaultdict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.kind is Kind.ACCEPTED:
            digests[event.address].append(event.digest)
    copies = {address: len(found) for address, found in digests.items()}
    states = {address: one.state for address, one in booked.items()}
    twice = {address for address, count in copies.items() if count > 1}
    figures = Figures(
        policy=policy,
        kills=kills,
        messages=len(given),
        accepted=len(copies),
        lost=sum(address not in copies and states.get(address) not in _LISTED for address in given),
        duplicates=sum(copies.values()) - len(copies),
        falsely_sent=sum(state == "SENT" and address not in copies for address, state in states.items()),
        unknown=sum(state == "UNKNOWN" for state in states.values()),
        unknown_bound=_interrupted(events, deaths, most_connections),
        stuck=sum(state in _WAITING for state in states.values()),
        recovery_max_s=round(max(recoveries, default=0.0), 2),
    )
    refused = {address for address, state in states.items() if state == "FAILED" and address in copies}
    checks = {
        "messages are lost": figures.lost == 0,
        "a message is booked as sent that the server does not have": figures.falsely_sent == 0,
        "a message is booked as failed that the server has": not refused,
        "messages are stuck": figures.stuck == 0,
        "somebody got mail who was not on the list": not copies.keys() - set(given),
        "the books have a message that nobody gave": not booked.keys() - set(given),
        "two copies of a message differ": all(len(set(found)) == 1 for found in digests.values()),
        "it took too long to go on after a kill": figures.recovery_max_s < RECOVERY_SECONDS,
    }
    if policy == "at_most_once":
        checks |= {
            "AT_MOST_ONCE: a message was sent twice": figures.duplicates == 0,
            "AT_MOST_ONCE: more is unknown than was open": figures.unknown <= figures.unknown_bound,
        }
    else:
        checks |= {
            "AT_LEAST_ONCE: a message is unknown": figures.unknown == 0,
            "AT_LEAST_ONCE: more copies than dots in flight": figures.duplicates <= figures.unknown_bound,
            "AT_LEAST_ONCE: a copy is not flagged": all(
                address in booked and booked[address].is_flagged for address in twice
            ),
        }
    broken = [promise for promise, is_kept in checks.items() if not is_kept]
    return Verdict(figures, (*broken, *surprises))


def _interrupted(events: Collection[Event], deaths: Sequence[float], most_connections: int) -> int:
    """Return how many connections ended in such a way that nobody may know what became of their message.

    A sender that lives closes connections without a goodbye, too, so what is lost counts for the death before it.
    """
    lost = Counter(bisect_right(deaths, event.time + _NOTICE_SECONDS) for event in events if event.kind is Kind.LOST)
    at_deaths = sum(min(count, most_connections) for death, count in lost.items() if death)
    return at_deaths + sum(event.kind is Kind.CUT for event in events)


def both(verdicts: Collection[Verdict]) -> Verdict:
    """Return several verdicts as one: sums, and the longest recovery."""
    figures = [asdict(verdict.figures) for verdict in verdicts]
    sums = {name: sum(one[name] for one in figures) for name in figures[0] if isinstance(figures[0][name], int)}
    recovery = max(verdict.figures.recovery_max_s for verdict in verdicts)
    broken = tuple(promise for verdict in verdicts for promise in verdict.broken)
    return Verdict(Figures(policy="both", recovery_max_s=recovery, **sums), broken)


def count_states(booked: Mapping[str, Booked]) -> Counter[str]:
    """Return how many messages are in which state."""
    return Counter(one.state for one in booked.values())
