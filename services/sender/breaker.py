"""The circuit of one account: pybreaker is the state machine, and this is the gate in front of it.

pybreaker by itself lets every waiting coroutine through while half-open, counts a cancelled call as a failure
and lets stragglers open a circuit again. So nothing is ever *called* through it: it is fed with outcomes, and
the gate decides who is let in (one probe), whose answer still counts (generation), and when (open_until,
which survives a restart).

Pure: no I/O, and the time and the dice come from outside. Processes agree through the record that they store.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

import pybreaker

from services.sender.circuit_record import CircuitPolicy, CircuitRecord, Phase, Transition

JITTER = 0.2
PROBE_DEADLINE = timedelta(minutes=2)
RAMP_STEP = timedelta(seconds=1)


@dataclass(slots=True)
class _Ramp:
    """How many connections a returning account gets; doubled once a message has proved the present number."""

    limit: int
    since: datetime
    proven: bool = False


class _PathFailure(Exception):
    """What pybreaker is told when the path to a server failed."""


class Circuit:
    """Decides whether an account may be used, from the outcomes of its attempts."""

    def __init__(self, policy: CircuitPolicy, *, worker: str, random: Random, record: CircuitRecord) -> None:
        """Go on where the record stands; a closed circuit starts without a ramp."""
        self.generation = 0
        self._policy = policy
        self._worker = worker
        self._random = random
        self._record = record
        self._probing = False  # this process holds the probe, or is about to claim it
        self._ramp: _Ramp | None = None  # while the account is coming back
        self._machine = pybreaker.CircuitBreaker(
            fail_max=policy.failures_to_open, reset_timeout=0, throw_new_error_on_trip=False
        )
        if record.open_until is not None:
            self._machine.open()

    @property
    def policy(self) -> CircuitPolicy:
        """Return the policy in force."""
        return self._policy

    @policy.setter
    def policy(self, policy: CircuitPolicy) -> None:
        self._policy = policy
        self._machine.fail_max = policy.failures_to_open

    @property
    def record(self) -> CircuitRecord:
        """Return what has to be stored after a transition."""
        return self._record

    @property
    def longest_rest(self) -> timedelta:
        """Return how far away `open_until` can be at most."""
        return self._policy.longest_rest * (1 + JITTER)

    @property
    def is_closed(self) -> bool:
        """Say whether messages may pass freely."""
        return self._record.open_until is None

    @property
    def failure_count(self) -> int:
        """Return the failures in a row, as this process counts them."""
        return max(int(self._machine.fail_counter), 0) if self.is_closed else self._record.failure_count

    def phase(self, now: datetime) -> Phase:
        """Return where the circuit stands."""
        if self.is_closed:
            return Phase.CLOSED
        return Phase.HALF_OPEN if self._is_probed(now) else Phase.OPEN

    def rests_until(self, now: datetime) -> datetime | None:
        """Return until when nothing may pass, None when a message or a probe may pass now."""
        if self._record.open_until is None:
            return None
        if self._is_probed(now):
            return self._record.probe_until or now
        # A wall clock that was set back must not turn minutes of rest into hours.
        left = self._record.open_until - now
        is_over = left <= timedelta() or left > self.longest_rest
        return None if is_over else self._record.open_until

    def may_probe(self, now: datetime) -> bool:
        """Say whether it is time for the one probe and nobody has it."""
        return self._record.open_until is not None and self.rests_until(now) is None

    def connection_limit(self, most: int, now: datetime) -> int:
        """Return how many of `most` connections are allowed: 1, 2, 4 … after the circuit closed, then all."""
        ramp = self._ramp
        if ramp is None:
            return most
        if ramp.proven and abs(now - ramp.since) >= RAMP_STEP:
            ramp = self._ramp = _Ramp(ramp.limit * 2, since=now)
        if ramp.limit >= most and ramp.proven:
            self._ramp = None
        return min(ramp.limit, most)

    def begin_probe(self, now: datetime) -> CircuitRecord:
        """Take the probe in this process and return the record that claims it between processes."""
        assert self.may_probe(now)
        self.generation += 1
        self._probing = True
        self._record = replace(self._record, probe_worker=self._worker, probe_until=now + PROBE_DEADLINE)
        self._machine.half_open()
        return self._record

    def succeed(self, generation: int, now: datetime) -> Transition | None:
        """Take a proof that the path works."""
        if generation != self.generation:
            return None
        if self.is_closed:
            if self._ramp is not None:
                self._ramp.proven = True
            if self._machine.fail_counter:
                self._machine.call(_nothing)
            return None
        if not self._probing:
            return None
        self._machine.call(_nothing)
        self._probing = False
        self.generation += 1
        # The rest is kept until the ramp is over: a server that fails again at once rests longer.
        self._record = replace(
            self._record,
            open_until=None,
            failure_count=0,
            closed_count=self._record.closed_count + 1,
            probe_worker=None,
            probe_until=None,
        )
        self._ramp = _Ramp(1, since=now)
        return Transition.CLOSED

    def fail(self, generation: int, now: datetime, reason: str) -> Transition | None:
        """Take a failure of the path."""
        if generation != self.generation or not (self.is_closed or self._probing):
            return None
        self._record = replace(self._record, last_failure=reason)
        if self._ramp is not None:
            self._ramp = _Ramp(1, since=now)
        with suppress(_PathFailure):
            self._machine.call(_fail)
        return self._opened(now) if self._machine.current_state == pybreaker.STATE_OPEN else None

    def trip(self, generation: int, now: datetime, reason: str) -> Transition | None:
        """Open at once: more attempts would only repeat the same failure."""
        if generation != self.generation or not (self.is_closed or self._probing):
            return None
        self._record = replace(self._record, last_failure=reason)
        with suppress(_PathFailure):
            self._machine.call(_fail)  # counted, also where it alone would not open the circuit
        if self._machine.current_state != pybreaker.STATE_OPEN:
            self._machine.open()
        return self._opened(now)

    def release_probe(self, generation: int) -> Transition | None:
        """Take an answer that says nothing about the path: a cancel is neither failure nor success."""
        if generation != self.generation or not self._probing:
            return None
        self._give_probe_back()
        return Transition.PROBE_RELEASED

    def expire_probe(self, now: datetime) -> Transition | None:
        """Count this process's probe as failed once its deadline has passed; a late answer is dropped."""
        if not self._probing or self._record.probe_until is None or now < self._record.probe_until:
            return None
        return self.fail(self.generation, now, "the probe did not answer in time")

    def forget_failures(self) -> None:
        """Forget the failures in a row of a closed circuit, because a person says so."""
        if self.is_closed:
            self._machine.close()
            self._record = replace(self._record, failure_count=0, last_failure="")

    def adopt(self, record: CircuitRecord, now: datetime) -> bool:
        """Go on with what another process (or a person) stored. Return whether the phase changed."""
        was_closed, is_closed = self.is_closed, record.open_until is None
        if record == self._record:
            return False
        if self._probing and record.probe_worker == self._worker and record.open_until == self._record.open_until:
            self._record = record
            return False
        self._probing = False
        if was_closed and is_closed:
            self._record = replace(record, last_failure=record.last_failure or self._record.last_failure)
            return False
        self._record = record
        self.generation += 1
        if is_closed:
            self._machine.close()
            self._ramp = _Ramp(1, since=now)
        else:
            self._machine.open()
            self._ramp = None
        return was_closed != is_closed

    def _is_probed(self, now: datetime) -> bool:
        until = self._record.probe_until
        return self._probing or (until is not None and now < until <= now + PROBE_DEADLINE)

    def _opened(self, now: datetime) -> Transition:
        """Book that the machine has just opened, from closed or after a failed probe."""
        again = self._probing
        failures = self._record.failure_count + 1 if again else max(int(self._machine.fail_counter), 1)
        rest = self._policy.first_rest
        if again or self._ramp is not None:
            rest = min(max(self._record.rest * 2, rest), self._policy.longest_rest)
        self._probing = False
        self._ramp = None
        self.generation += 1
        self._record = replace(
            self._record,
            open_until=now + rest * self._random.uniform(1 - JITTER, 1 + JITTER),
            rest=rest,
            failure_count=failures,
            opened_count=self._record.opened_count + (0 if again else 1),
            probe_worker=None,
            probe_until=None,
        )
        return Transition.REOPENED if again else Transition.OPENED

    def _give_probe_back(self) -> None:
        self._probing = False
        self.generation += 1
        self._record = replace(self._record, probe_worker=None, probe_until=None)
        self._machine.open()


def _nothing() -> None:
    """Tell pybreaker of a success."""


def _fail() -> None:
    """Tell pybreaker of a failure."""
    raise _PathFailure
