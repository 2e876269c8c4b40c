"""Whether anything can be sent for a From address, and if not, why and until when. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.sender.gate import Gate


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect: room (perhaps after a short wait), or a stall with its reason and end."""

    room: bool  # False: everything rests, the run is stalled
    busy: bool = False  # with room: only for want of a free connection, or of the next second or minute
    until: datetime | None = None  # when a stall ends by itself at the earliest; None: not without a person
    reason: str = ""


def outlook_of(gates: Sequence[Gate], now: datetime) -> Outlook:
    """Return what the accounts that are allowed let one expect."""
    obstacles = [(gate.account.name, gate.obstacle(now)) for gate in gates]
    if any(obstacle is None for _, obstacle in obstacles):
        return Outlook(room=True)
    found = [(name, obstacle) for name, obstacle in obstacles if obstacle is not None]
    reason = "; ".join(f'account "{name}": {obstacle.reason}' for name, obstacle in found)
    if any(obstacle.passing for _, obstacle in found):
        return Outlook(room=True, busy=True, reason=reason)
    until = min((obstacle.until for _, obstacle in found if obstacle.until is not None), default=None)
    return Outlook(room=False, until=until, reason=reason)


def no_candidate(
    from_address: str,
    allowed: frozenset[str],
    *,
    account_count: int,
    named_count: int,
    barred: Sequence[tuple[str, str]],
) -> Outlook:
    """Return the outlook when no account may send for this address at all.

    `barred` has name and reason of the accounts whose servers refuse it.
    """
    if barred:
        return Outlook(room=False, reason="; ".join(f'account "{name}": {reason}' for name, reason in barred))
    if not account_count:
        reason = "there is no account: add one with CreateAccount"
    elif allowed and not named_count:
        reason = "none of the accounts that the run names exists any more: start a run that names others"
    else:
        among = "none of the accounts that the run names" if allowed else "no account"
        domain = from_address.rpartition("@")[2]
        reason = (
            f'{among} may send for {from_address}: add it, or "@{domain}", to from_addresses of an account '
            "with UpdateAccount"
        )
    return Outlook(room=False, reason=reason)
