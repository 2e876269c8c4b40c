"""What happens to an account: in memory at once, in the database right behind, and in the log and the figures."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from mailer.log import get_logger
from mailer.message.address import mailbox_key
from services.sender import account_store
from services.sender.account import Account
from services.sender.account_metrics import AccountMetrics
from services.sender.circuit_record import Transition
from services.sender.gate import Gate, spoken
from services.sender.gates import Gates
from services.sender.journal import Entry, Journal

log = get_logger(__name__)


class AccountChanges:
    """Opens and closes circuits, holds accounts and lets them rest."""

    def __init__(self, gates: Gates, journal: Journal, worker_id: str, *, metrics: AccountMetrics | None) -> None:
        """Take what it needs."""
        self._gates = gates
        self._journal = journal
        self._worker_id = worker_id
        self._metrics = metrics

    def circuit(self, gate: Gate, transition: Transition, now: datetime) -> None:
        """Store what the circuit has just done."""
        record, account_id = gate.circuit.record, gate.account.account_id
        if transition is Transition.OPENED:
            change = partial(account_store.store_opened, account_id=account_id, record=record, now=now)
        else:
            change = partial(
                account_store.store_probed,
                account_id=account_id,
                record=record,
                worker=self._worker_id,
                now=now,
            )
        self._store(gate, change)
        if transition is Transition.PROBE_RELEASED:
            return
        if self._metrics:
            self._metrics.count_transition(gate.account.name, transition.value)
        self._log(
            gate,
            f"circuit {transition.value}",
            reason="the probe came through" if record.open_until is None else record.last_failure,
            until=record.open_until and spoken(record.open_until),
        )

    def rest(self, gate: Gate, until: datetime, reason: str, now: datetime) -> None:
        """Let the account rest until then, unless it rests longer already."""
        present = gate.account.rests_until(now)
        if present is not None and present >= until:
            return
        gate.account = replace(gate.account, rest_until=until, rest_reason=reason)
        account_id = gate.account.account_id
        self._store(
            gate,
            partial(account_store.rest, account_id=account_id, until=until, reason=reason, now=now),
        )
        self._log(gate, "account rests", reason=reason, until=spoken(until))

    def hold(self, gate: Gate, reason: str, now: datetime) -> None:
        """Take the account out of service until a person releases it; a reason given before stays."""
        if gate.account.held:
            return
        gate.account = replace(gate.account, held=True, hold_reason=reason)
        account_id = gate.account.account_id
        self._store(gate, partial(account_store.hold, account_id=account_id, reason=reason, now=now))
        self._log(gate, "account is held until a person releases it", reason=reason)

    def bar(self, gate: Gate, from_address: str, reason: str, now: datetime) -> None:
        """Use the account no more for a From address until a person releases it."""
        key = mailbox_key(from_address)
        if key in gate.account.barred:
            return
        self._gates.change(gate, replace(gate.account, barred={**gate.account.barred, key: reason}))
        account_id = gate.account.account_id
        self._store(gate, partial(account_store.bar, account_id=account_id, from_key=key, reason=reason, now=now))
        self._log(gate, "account is used no more for a From address", reason=reason, sender=from_address)

    def _store(self, gate: Gate, change: Callable[[Connection], Account]) -> None:
        gate.unsaved += 1

        def stored(account: Account | None) -> None:
            gate.unsaved -= 1
            if account is not None:
                self._gates.adopt(gate, account)

        self._journal.add(Entry(gate.account.account_id, change, stored))
        self._gates.show(gate)

    def _log(self, gate: Gate, event: str, **details: object) -> None:
        log.warning(event, account_id=gate.account.account_id, account=gate.account.name, **details)
