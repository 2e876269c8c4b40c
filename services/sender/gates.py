"""The accounts as the database has them, kept in memory and read again when somebody else changed them."""

from collections.abc import Callable, Iterable, Iterator
from random import Random

from mailer.clock import Clock
from mailer.database import Database
from mailer.log import get_logger
from mailer.message.address import mailbox_key
from services.sender import account_store
from services.sender.account import Account
from services.sender.account_metrics import AccountMetrics
from services.sender.account_usage import read_counts
from services.sender.caps import DAY_MINUTES, minute_of
from services.sender.gate import Gate

log = get_logger(__name__)

_MOST_KNOWN_SENDERS = 1024
_RECENT_MINUTES = 3  # older counts do not change any more
_FULL_READING_MINUTES = 5


class Gates:
    """One gate per account; a gate lives as long as its account, whatever changes about it."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        random: Random,
        worker_id: str,
        *,
        metrics: AccountMetrics | None,
        on_stale_connections: Callable[[frozenset[str]], None],
    ) -> None:
        """Start empty; `refresh` reads the accounts."""
        self._database = database
        self._clock = clock
        self._random = random
        self._worker_id = worker_id
        self._metrics = metrics
        self._on_stale_connections = on_stale_connections
        self._gates: dict[str, Gate] = {}
        self._candidates: dict[tuple[str, frozenset[str]], tuple[Gate, ...]] = {}
        self._usage: dict[str, dict[int, int]] = {}
        self._fully_read_at: int | None = None  # minute of the last full reading of the counts

    def __iter__(self) -> Iterator[Gate]:
        """Go through all accounts, by name."""
        return iter(self._gates.values())

    def __len__(self) -> int:
        """Return how many accounts there are."""
        return len(self._gates)

    def get(self, account_id: str) -> Gate | None:
        """Return the gate of an account."""
        return self._gates.get(account_id)

    def candidates(self, from_address: str, allowed: frozenset[str]) -> tuple[Gate, ...]:
        """Return the accounts that may send for this From address, among those allowed (none: all)."""
        known = self._candidates.get((from_address, allowed))
        if known is not None:
            return known
        key = mailbox_key(from_address)
        found = tuple(
            gate
            for gate in self._gates.values()
            if (not allowed or gate.account.account_id in allowed)
            and gate.account.may_send_for(key)
            and key not in gate.account.barred
        )
        if len(self._candidates) >= _MOST_KNOWN_SENDERS:
            self._candidates.clear()
        self._candidates[from_address, allowed] = found
        return found

    def barred_for(self, from_address: str, allowed: frozenset[str]) -> list[tuple[str, str]]:
        """Return name and reason of the accounts whose servers refuse this From address."""
        key = mailbox_key(from_address)
        return [
            (gate.account.name, gate.account.barred[key])
            for gate in self._gates.values()
            if key in gate.account.barred and (not allowed or gate.account.account_id in allowed)
        ]

    def change(self, gate: Gate, account: Account) -> None:
        """Go on with an account that this process has just changed, before it is stored."""
        gate.account = account
        self._candidates.clear()

    async def refresh(self, *, forced: bool = False) -> bool:
        """Read what changed: other processes' circuits and counts, and what a person set. Return whether anything did.

        `forced` takes over what is stored even where memory is newer: after a restore it is the truth.
        """
        versions = await self._database.read(account_store.read_versions)
        known = {account_id: gate.account.version for account_id, gate in self._gates.items()}
        changed = forced or versions != known
        if changed:
            self._adopt_all(await self._database.read(account_store.read_all), forced=forced)
        return await self._refresh_usage(full=forced) or changed

    def adopt(self, gate: Gate, account: Account) -> None:
        """Take over an account as it is stored, unless a newer change is still on its way there."""
        if self._adopt(gate, account, forced=False):
            self._on_stale_connections(frozenset({account.account_id}))

    def show(self, gate: Gate) -> None:
        """Bring the figures of an account up to date."""
        if self._metrics:
            now = self._clock.now()
            self._metrics.show(
                gate.account.name,
                phase=gate.circuit.phase(now),
                held=gate.account.held,
                resting=gate.account.rests_until(now) is not None,
                in_flight=gate.in_flight,
            )

    def _adopt_all(self, accounts: Iterable[Account], *, forced: bool) -> None:
        before, self._gates = self._gates, {}
        stale = set()
        for account in accounts:
            gate = before.pop(account.account_id, None)
            if gate is None:
                gate = Gate(account, worker=self._worker_id, random=self._random)
                self._fully_read_at = None
            elif self._adopt(gate, account, forced=forced):
                stale.add(account.account_id)
            self._gates[account.account_id] = gate
            self.show(gate)
        for account_id, gate in before.items():
            stale.add(account_id)
            if self._metrics:
                self._metrics.forget(gate.account.name)
        self._candidates.clear()
        if stale:
            self._on_stale_connections(frozenset(stale))

    def _adopt(self, gate: Gate, account: Account, *, forced: bool) -> bool:
        """Return whether open connections of the account are no good any more."""
        before, now = gate.account, self._clock.now()
        if not forced and (gate.unsaved or account.version <= before.version):
            return False
        was_closed = gate.circuit.is_closed
        gate.adopt(account, now)
        if before.name != account.name and self._metrics:
            self._metrics.forget(before.name)
        if before.caps != account.caps:
            self._fully_read_at = None
        self._candidates.clear()
        self.show(gate)
        if was_closed != gate.circuit.is_closed:
            log.info(
                "circuit was changed elsewhere",
                account_id=account.account_id,
                account=account.name,
                circuit=gate.circuit.phase(now).value,
            )
        return account.connection_settings != before.connection_settings

    async def _refresh_usage(self, *, full: bool) -> bool:
        """Read the counts of the accounts that have caps. Return whether there are any."""
        capped = {account_id: gate for account_id, gate in self._gates.items() if gate.account.caps}
        if not capped:
            self._fully_read_at = None
            return False
        minute = minute_of(self._clock.now())
        since = minute - _RECENT_MINUTES
        if full or self._fully_read_at is None or abs(minute - self._fully_read_at) >= _FULL_READING_MINUTES:
            since, self._usage = minute - DAY_MINUTES, {}
        for gate in capped.values():
            gate.usage.begin_reading()
        counts, sharers = await self._database.read(read_counts, sorted(capped), since, self._clock.now())
        if since == minute - DAY_MINUTES:
            self._fully_read_at = minute
        for account_id, gate in capped.items():
            self._usage.setdefault(account_id, {}).update(counts.get(account_id, {}))
            gate.usage.take_reading(self._usage[account_id], sharers=sharers)
        return True
