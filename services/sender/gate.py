"""One account in memory: everything that decides whether it takes a message now. Pure."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from services.sender.account import Account
from services.sender.breaker import Circuit
from services.sender.caps import Usage
from services.sender.guard import Guard
from services.sender.history import AccountHistory

SHORT_WAIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an account takes nothing now, and until when at the earliest; None when only a person can help."""

    reason: str
    until: datetime | None = None
    passing: bool = False  # over in a moment: a connection gets free, a second or a minute ends


class Gate:
    """An account with its circuit, its counts and its open connections."""

    def __init__(self, account: Account, *, worker: str, random: Random) -> None:
        """Start where the stored account stands."""
        self.account = account
        self.circuit = Circuit(account.circuit_policy, worker=worker, random=random, record=account.circuit)
        self.usage = Usage(account.caps)
        self.guard = Guard()
        self.history = AccountHistory()
        self.in_flight = 0
        self._in_flight_under: Counter[int] = Counter()  # by generation of the circuit
        self.unsaved = 0  # changes on their way to the database: until they are there, memory knows better
        self.finish_tag = 0.0  # of the fair queue: when its share of the messages so far is used up
        self.offers_smtputf8: bool | None = None  # None until the server was asked
        # A wrong password must not be tried by all connections at once: the first one proves it.
        self.proven = False

    def may_take(self, now: datetime) -> bool:
        """Say whether it takes a message now; a message that is the one probe counts too."""
        account = self.account
        if account.disabled or account.held:
            return False
        if account.rest_until is not None and account.rests_until(now) is not None:
            return False
        if not self.circuit.is_closed:
            if not self.circuit.may_probe(now):
                return False
        elif not self._has_free_connection(now):
            return False
        return not account.caps or self.usage.has_room(now)

    def connection_limit(self, now: datetime) -> int:
        """Return how many connections it may have now."""
        return self.circuit.connection_limit(self.account.max_connection_count, now) if self.proven else 1

    def may_go_on(self, now: datetime, *, has_room: bool = False) -> bool:
        """Say whether a connection that it has takes one message more; `has_room` says its caps were asked already."""
        account = self.account
        if account.disabled or account.held or not (self.proven and self.circuit.is_closed):
            return False
        if account.rest_until is not None and account.rests_until(now) is not None:
            return False
        return has_room or not account.caps or self.usage.has_room(now)

    def begin(self, generation: int) -> None:
        """Note that an attempt begins that was admitted under that generation of the circuit."""
        self.in_flight += 1
        self._in_flight_under[generation] += 1

    def end(self, generation: int) -> None:
        """Note that an attempt has ended that began under that generation of the circuit."""
        self.in_flight -= 1
        self._in_flight_under[generation] -= 1
        if not self._in_flight_under[generation]:
            del self._in_flight_under[generation]

    def adopt(self, account: Account, now: datetime) -> None:
        """Go on with the account as it is stored."""
        before, self.account = self.account, account
        self.circuit.policy = account.circuit_policy
        self.circuit.adopt(account.circuit, now)
        self.usage.caps = account.caps
        if account.connection_settings != before.connection_settings:
            self.offers_smtputf8, self.proven = None, False
            self.history.clear()
        if before.held and not account.held:
            self.guard.reset()
            self.history.clear()
            self.proven = False

    def room_at(self, now: datetime) -> datetime | None:
        """Return when the passing of time alone gives room; None when it has room, or time does not help."""
        account = self.account
        if account.disabled or account.held:
            return None
        reached = self.usage.reached(now)
        ends = (self.circuit.rests_until(now), account.rests_until(now), reached.until if reached else None)
        return max((end for end in ends if end is not None), default=None)

    def obstacle(self, now: datetime) -> Obstacle | None:
        """Return what keeps it from taking a message, the longest wait first; None when it takes one."""
        account = self.account
        if account.disabled:
            return Obstacle("it is disabled: enable it with UpdateAccount")
        if account.held:
            return Obstacle(f"it is held: {account.hold_reason or 'no reason was given'}")
        found = [obstacle for obstacle in self._waits(now) if obstacle is not None]
        if found:
            return max(found, key=lambda obstacle: obstacle.until or now)
        if self.circuit.is_closed and not self._has_free_connection(now):
            return Obstacle(f"{self.in_flight} of its connections are in use", passing=True)
        return None

    def _has_free_connection(self, now: datetime) -> bool:
        """Say whether one more connection is allowed.

        An attempt that hangs since before the circuit opened takes a connection, but not one of those few with which an
        account comes back: it may hang for as long as the answer to a final dot may take.
        """
        if self.in_flight >= self.account.max_connection_count:
            return False
        return self._in_flight_under[self.circuit.generation] < self.connection_limit(now)

    def _waits(self, now: datetime) -> tuple[Obstacle | None, ...]:
        account = self.account
        circuit = rest = cap = None
        until = self.circuit.rests_until(now)
        if until is not None:
            failure = self.circuit.record.last_failure
            circuit = Obstacle(f"circuit open until {spoken(until)}{f' ({failure})' if failure else ''}", until)
        until = account.rests_until(now)
        if until is not None:
            rest = Obstacle(f"rests until {spoken(until)} ({account.rest_reason})", until)
        reached = self.usage.reached(now)
        if reached is not None:
            cap = Obstacle(reached.reason, reached.until, passing=reached.until - now <= SHORT_WAIT)
        return circuit, rest, cap


def spoken(instant: datetime) -> str:
    """Return the instant for people."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
