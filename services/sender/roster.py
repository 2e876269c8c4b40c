"""Which account takes the next message, and what the outcomes of attempts do to the accounts.

`choose` and `settle` are synchronous and cheap, for they are on the way of every message. What they change is
stored behind them by the journal, in order; what others change is read again every second.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from random import Random

from mailer.clock import Clock
from mailer.database import Database, DatabaseUnavailable
from mailer.errors import NotFound
from mailer.log import get_logger
from services.sender import account_store
from services.sender.account_changes import AccountChanges
from services.sender.account_metrics import AccountMetrics
from services.sender.account_usage import forget_usage
from services.sender.admission import Admission, Refusal
from services.sender.circuit_record import Transition
from services.sender.gate import Gate
from services.sender.gates import Gates
from services.sender.guard import GuardTrip
from services.sender.journal import Journal
from services.sender.outlook import Outlook, no_candidate, outlook_of
from services.sender.replies.verdict import Breaker, History

__all__ = ["Admission", "GuardTrip", "Outlook", "Refusal", "Roster"]

log = get_logger(__name__)

REFRESH_INTERVAL = 1.0
FORGET_INTERVAL = 3600.0
FLUSH_SECONDS = 2.0


class Roster:
    """The accounts of one sender process."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        random: Random,
        worker_id: str,
        *,
        metrics: AccountMetrics | None = None,
        on_stale_connections: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        """Take what it needs; `on_stale_connections` hears whose open connections are no good any more."""
        self._database = database
        self._clock = clock
        self._worker_id = worker_id
        self._gates = Gates(
            database, clock, random, worker_id, metrics=metrics, on_stale_connections=on_stale_connections
        )
        self._journal = Journal(database, clock)
        self._changes = AccountChanges(self._gates, self._journal, worker_id, metrics=metrics)
        self._served = 0.0  # the fair queue's time: the tag of the account chosen last
        self._room = asyncio.Event()
        self._waiter_count = 0
        self._was_replaced = False
        self._refresh_now = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read all accounts, then follow them; raises DatabaseUnavailable when they cannot be read."""
        self._database.on_replaced(self._note_replaced)
        await self.refresh()
        self._tasks = [
            asyncio.create_task(self._journal.run(), name="account journal"),
            asyncio.create_task(self._follow(), name="account refresh"),
        ]

    async def close(self) -> None:
        """Store what is still to be stored, as long as the database takes it, and stop."""
        await self.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def flush(self) -> None:
        """Return once every transition so far is on disk; a database that is away is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._journal.flush()

    async def refresh(self) -> None:
        """Read what a person or another process changed; call it after a change of one's own."""
        async with self._refreshing:
            forced, self._was_replaced = self._was_replaced, False
            try:
                changed = await self._gates.refresh(forced=forced)
            except BaseException:
                self._was_replaced |= forced
                raise
        if changed:
            self.wake()

    def choose(
        self,
        *,
        from_address: str,
        allowed: frozenset[str],
        needs_smtputf8: bool = False,
        exclude: frozenset[str] = frozenset(),
    ) -> Admission | None:
        """Return leave to send one message, or None when no account takes one now (see `outlook`).

        Accounts get messages in proportion to their weights, as long as they have free connections. An
        admission that is a probe must be confirmed before it is used. Every admission is settled once.
        """
        now = self._clock.now()
        served = self._served
        best: Gate | None = None
        best_tag = 0.0
        for gate in self._gates.candidates(from_address, allowed):
            if not gate.may_take(now):
                continue
            if exclude and gate.account.account_id in exclude:
                continue
            if needs_smtputf8 and gate.offers_smtputf8 is False:
                continue
            tag = gate.finish_tag if gate.finish_tag > served else served
            if not gate.circuit.is_closed:
                best, best_tag = gate, tag
                break  # a probe goes first: the sooner the account is back, the better
            if best is None or tag < best_tag or (tag == best_tag and gate.in_flight < best.in_flight):
                best, best_tag = gate, tag
        if best is None:
            return None
        self._served = best_tag
        best.finish_tag = best_tag + 1 / best.account.weight
        best.usage.take(now)
        is_probe = not best.circuit.is_closed
        if is_probe:
            best.circuit.begin_probe(now)
        best.begin(best.circuit.generation)
        return Admission(best.account, best.circuit.generation, is_probe, now)

    def admit_behind(
        self, ahead: Admission, *, from_address: str, allowed: frozenset[str], now: datetime
    ) -> Admission | None:
        """Return leave to send one message over the connection of another, when that one has ended.

        None when the account may not take it, or another account is due first. Before it is used it moves up.
        """
        gate = self._gates.get(ahead.account.account_id)
        if gate is None or gate.circuit.generation != ahead.generation or not gate.may_go_on(now):
            return None
        account = gate.account
        if account is not ahead.account and account.connection_settings != ahead.account.connection_settings:
            return None
        if account.caps.per_second_count or account.caps.per_minute_count:
            return None  # such a cap counts from the instant of leave, which has to be that of the start
        candidates = self._gates.candidates(from_address, allowed)
        if gate not in candidates:
            return None
        tag = gate.finish_tag if gate.finish_tag > self._served else self._served
        for other in candidates:
            if other.finish_tag < tag and other.may_take(now):
                return None
        self._served = tag
        gate.finish_tag = tag + 1 / account.weight
        gate.usage.take(now)
        return Admission(account, ahead.generation, False, now, False)

    def move_up(self, admission: Admission, from_address: str, now: datetime) -> bool:
        """Give an admission the connection of the one ahead, which was settled; say whether it may still be used."""
        gate = self._gates.get(admission.account.account_id)
        if gate is None or admission.has_connection:
            return gate is not None
        admission.has_connection = True
        gate.begin(admission.generation)
        return (
            gate.circuit.generation == admission.generation
            and gate.may_go_on(now, has_room=True)
            and gate in self._gates.candidates(from_address, frozenset())
        )

    async def confirm(self, admission: Admission) -> bool:
        """Claim the one probe between all processes; True at once for what is no probe.

        False: another process has it, or the database is away. The admission is settled then: do not use it.
        """
        if not admission.is_probe:
            return True
        account_id = admission.account.account_id
        gate = self._gates.get(account_id)
        until = gate.circuit.record.probe_until if gate else None
        if gate is None or until is None or gate.circuit.generation != admission.generation:
            self._void(admission, gate)
            return False
        gate.unsaved += 1
        try:
            won, account = await self._database.write(
                account_store.claim_probe,
                account_id,
                worker=self._worker_id,
                until=until,
                longest_rest=gate.circuit.longest_rest,
                now=admission.admitted_at,
            )
        except (DatabaseUnavailable, NotFound) as error:
            gate.unsaved -= 1
            log.info("a probe could not be claimed", account_id=account_id, error=str(error))
            self._void(admission, gate)
            return False
        except BaseException:
            gate.unsaved -= 1
            # Cancelled: the claim may have been stored, so it is given back there too.
            self.settle(admission, Breaker.NONE, reason="cancelled", counted=False)
            raise
        gate.unsaved -= 1
        if won:
            log.info("circuit half-open: one probe", account_id=account_id, account=account.name)
        else:
            self._void(admission, gate)
        self._gates.adopt(gate, account)
        return won

    def history(self, admission: Admission) -> Mapping[str, History]:
        """Return what happened to the account before the attempt began, for `replies.judge`."""
        gate = self._gates.get(admission.account.account_id)
        return gate.history.seen_by(admission.admitted_at, self._clock.now()) if gate else {}

    def settle(
        self,
        admission: Admission,
        effect: Breaker,
        *,
        reason: str,
        counted: bool,
        rest_until: datetime | None = None,
        hold_reason: str | None = None,
        hold_for: str | None = None,
        remember: str | None = None,
        accepted: bool = False,
        refusal: Refusal | None = None,
        is_succeeded: bool = False,
        now: datetime | None = None,
    ) -> GuardTrip | None:
        """Book what an attempt says about its account, and free its connection. `reason` is for people.

        `counted`: its intent is on disk, so it counts towards the caps. `rest_until`: the server asked for a
        rest. `hold_reason`: a person is needed, with `hold_for` only for that From address. `remember`: the
        rule that applied, for `history`. `accepted`, `refusal`: a final word about the recipient. `is_succeeded`:
        another message waits behind it for its connection, so nobody else gets room. `now`: where it is known.

        Returns a trip of the guard: the account is held now, and the deliveries that the trip names were not
        refused for their own sake, so they belong back into the queue.
        """
        gate = self._gates.get(admission.account.account_id)
        if gate is None:
            self.wake()
            return None
        now = now or self._clock.now()
        if admission.has_connection:
            gate.end(admission.generation)
        if counted:
            gate.usage.finish(now, admitted_at=admission.admitted_at)
        else:
            gate.usage.give_back(admission.admitted_at)
        transition = self._feed(gate, admission.generation, effect, reason, now)
        if transition is not None:
            self._changes.circuit(gate, transition, now)
        if remember is not None:
            gate.history.note(remember, admitted_at=admission.admitted_at, now=now)
        if accepted:
            gate.guard.accepted()
        trip = gate.guard.refused(refusal.delivery_key, refusal.domain) if refusal else None
        if rest_until is not None and rest_until > now:
            self._changes.rest(gate, rest_until, reason, now)
        if trip is not None:
            self._changes.hold(gate, trip.reason, now)
        elif hold_reason is not None and hold_for is not None:
            self._changes.bar(gate, hold_for, hold_reason, now)
        elif hold_reason is not None:
            self._changes.hold(gate, hold_reason, now)
        if not is_succeeded:
            self.wake()
        return trip

    def outlook_smtputf8(self, from_address: str, allowed: frozenset[str], now: datetime) -> Outlook:
        """Return the same for a message that needs SMTPUTF8: room, too, when nobody can help it but to fail."""
        gates = [gate for gate in self._in_service(from_address, allowed) if gate.offers_smtputf8 is not False]
        return outlook_of(gates, now) if gates else Outlook(room=True)

    def outlook(self, from_address: str, allowed: frozenset[str], now: datetime) -> Outlook:
        """Return whether anything can be sent for this From address, and if not, why and until when."""
        gates = self._gates.candidates(from_address, allowed)
        if gates:
            return outlook_of(gates, now)
        named = sum(self._gates.get(account_id) is not None for account_id in allowed)
        barred = self._gates.barred_for(from_address, allowed)
        return no_candidate(from_address, allowed, account_count=len(self._gates), named_count=named, barred=barred)

    async def wait_for_room(self, timeout: float) -> bool:
        """Wait until an account may have got room, at most `timeout` seconds; False when nothing happened."""
        now = self._clock.now()
        ends = [end for gate in self._gates if (end := gate.room_at(now)) is not None]
        seconds = min([timeout, *(max((end - now).total_seconds(), 0.001) for end in ends)])
        if not self._waiter_count:
            self._room.clear()
        self._waiter_count += 1
        try:
            return await self._clock.wait(self._room, seconds) or seconds < timeout
        finally:
            self._waiter_count -= 1

    def wake(self) -> None:
        """Wake whoever waits for room."""
        if self._waiter_count:
            self._room.set()

    def gate(self, account_id: str) -> Gate | None:
        """Return what this process knows of an account, for showing it."""
        return self._gates.get(account_id)

    def forget_failures(self, account_id: str) -> None:
        """Forget the failures that this process has counted: a person has reset the circuit."""
        gate = self._gates.get(account_id)
        if gate is not None:
            gate.circuit.forget_failures()
            gate.history.clear()

    def note_smtputf8(self, account_id: str, *, offered: bool) -> None:
        """Remember what a new connection has shown: that we are let in, and whether SMTPUTF8 is offered there."""
        gate = self._gates.get(account_id)
        if gate is not None:
            gate.offers_smtputf8 = offered
            if not gate.proven:
                gate.proven = True
                self.wake()

    def may_offer_smtputf8(self, from_address: str, allowed: frozenset[str]) -> bool:
        """Say whether any account in service that may be used offers SMTPUTF8, or was not asked yet."""
        return any(gate.offers_smtputf8 is not False for gate in self._in_service(from_address, allowed))

    def _in_service(self, from_address: str, allowed: frozenset[str]) -> list[Gate]:
        candidates = self._gates.candidates(from_address, allowed)
        return [gate for gate in candidates if not (gate.account.held or gate.account.disabled)]

    def _feed(self, gate: Gate, generation: int, effect: Breaker, reason: str, now: datetime) -> Transition | None:
        match effect:
            case Breaker.SUCCESS:
                # One that began before the circuit opened says nothing about what has gone wrong since.
                if generation == gate.circuit.generation:
                    gate.proven = True
                    gate.history.clear()
                return gate.circuit.succeed(generation, now)
            case Breaker.FAILURE:
                return gate.circuit.fail(generation, now, reason)
            case Breaker.TRIP:
                return gate.circuit.trip(generation, now, reason)
            case Breaker.REST | Breaker.NONE:
                return gate.circuit.release_probe(generation)

    def _void(self, admission: Admission, gate: Gate | None) -> None:
        """Take back an admission that was never used."""
        if gate is not None:
            gate.end(admission.generation)
            gate.usage.give_back(admission.admitted_at)
            gate.circuit.release_probe(admission.generation)
        self.wake()

    def _note_replaced(self) -> None:
        self._was_replaced = True
        self._refresh_now.set()

    async def _follow(self) -> None:
        forgotten_at = -FORGET_INTERVAL
        while True:
            await self._clock.wait(self._refresh_now, REFRESH_INTERVAL)
            self._refresh_now.clear()
            now = self._clock.now()
            for gate in self._gates:
                transition = gate.circuit.expire_probe(now)
                if transition is not None:
                    self._changes.circuit(gate, transition, now)
                self._gates.show(gate)
            try:
                await self.refresh()
                if self._clock.monotonic() - forgotten_at >= FORGET_INTERVAL:
                    await self._database.write(forget_usage, now=now)
                    forgotten_at = self._clock.monotonic()
            except DatabaseUnavailable as error:
                log.warning("accounts cannot be read", error=str(error))
            except Exception:
                log.exception("accounts cannot be read")
