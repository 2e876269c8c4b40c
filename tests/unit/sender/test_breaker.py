from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.sender.breaker import JITTER, PROBE_DEADLINE, RAMP_STEP, Circuit
from services.sender.circuit_record import CircuitPolicy, CircuitRecord, Phase, Transition
from tests.fakes.clock import START

MINUTE = timedelta(minutes=1)


def circuit(policy: CircuitPolicy | None = None, record: CircuitRecord | None = None, seed: int = 1) -> Circuit:
    return Circuit(policy or CircuitPolicy(), worker="me", random=Random(seed), record=record or CircuitRecord())


def open_circuit(now: datetime = START, policy: CircuitPolicy | None = None) -> Circuit:
    made = circuit(policy)
    made.trip(made.generation, now, "boom")
    return made


def due(made: Circuit) -> datetime:
    until = made.record.open_until
    assert until is not None
    return until


def fail(made: Circuit, times: int, now: datetime = START) -> list[Transition | None]:
    return [made.fail(made.generation, now, "connection refused") for _ in range(times)]


def test_the_fifth_failure_in_a_row_opens_it_and_not_the_fourth() -> None:
    made = circuit()
    assert fail(made, 5) == [None, None, None, None, Transition.OPENED]
    assert made.phase(START) is Phase.OPEN
    assert (made.record.failure_count, made.record.opened_count) == (5, 1)
    assert made.record.last_failure == "connection refused"


def test_a_success_in_between_starts_the_count_anew() -> None:
    made = circuit()
    fail(made, 4)
    made.succeed(made.generation, START)
    assert fail(made, 4) == [None] * 4
    assert made.is_closed


def test_the_policy_says_how_many() -> None:
    made = circuit(CircuitPolicy(failure_count=2))
    assert fail(made, 2)[-1] is Transition.OPENED
    made = circuit()
    made.policy = CircuitPolicy(failure_count=1)
    assert fail(made, 1) == [Transition.OPENED]


@pytest.mark.parametrize("seed", range(20))
def test_it_rests_five_minutes_give_or_take_a_fifth(seed: int) -> None:
    made = circuit(seed=seed)
    made.trip(made.generation, START, "boom")
    assert 5 * MINUTE * (1 - JITTER) <= due(made) - START <= 5 * MINUTE * (1 + JITTER)


def test_a_trip_opens_it_at_once() -> None:
    made = circuit()
    assert made.trip(made.generation, START, "certificate expired") is Transition.OPENED
    assert made.record.failure_count == 1


def test_nothing_passes_while_it_is_open_and_one_probe_when_the_rest_is_over() -> None:
    made = open_circuit()
    assert not made.may_probe(due(made) - timedelta(microseconds=1))
    now = due(made)
    assert made.may_probe(now)
    claim = made.begin_probe(now)
    assert (claim.probe_worker, claim.probe_until) == ("me", now + PROBE_DEADLINE)
    assert not made.may_probe(now)
    assert made.phase(now) is Phase.HALF_OPEN


def test_a_probe_that_works_closes_it() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    assert made.succeed(made.generation, now) is Transition.CLOSED
    assert made.phase(now) is Phase.CLOSED
    assert (made.record.closed_count, made.record.open_until, made.record.probe_worker) == (1, None, None)
    assert made.failure_count == 0


def test_each_failed_probe_doubles_the_rest_up_to_the_longest() -> None:
    made = open_circuit()
    rests = []
    for _ in range(5):
        now = due(made)
        made.begin_probe(now)
        assert made.fail(made.generation, now, "still down") is Transition.REOPENED
        rests.append(made.record.rest / MINUTE)
        assert rests[-1] * (1 - JITTER) <= (due(made) - now) / MINUTE <= rests[-1] * (1 + JITTER)
    assert rests == [10, 20, 30, 30, 30]
    assert made.record.opened_count == 1


def test_a_cancelled_probe_is_neither_failure_nor_success() -> None:
    made = open_circuit()
    now = due(made)
    before = made.record
    made.begin_probe(now)
    assert made.release_probe(made.generation) is Transition.PROBE_RELEASED
    assert made.record == before
    assert made.may_probe(now)


def test_a_cancelled_call_of_a_closed_circuit_changes_nothing() -> None:
    made = circuit()
    fail(made, 4)
    assert made.release_probe(made.generation) is None
    assert made.failure_count == 4


def test_a_probe_that_does_not_answer_in_time_has_failed_and_its_late_answer_is_dropped() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    generation = made.generation
    assert made.expire_probe(now + PROBE_DEADLINE - timedelta(seconds=1)) is None
    assert made.expire_probe(now + PROBE_DEADLINE) is Transition.REOPENED
    assert made.succeed(generation, now + PROBE_DEADLINE) is None
    assert not made.is_closed


def test_stragglers_from_before_the_opening_change_nothing() -> None:
    made = circuit()
    old = made.generation
    fail(made, 5)
    before = made.record
    assert made.succeed(old, START) is None
    assert made.fail(old, START, "late") is None
    assert made.trip(old, START, "late") is None
    assert made.record == before
    made.begin_probe(due(made))
    made.succeed(made.generation, due_now := START + 10 * MINUTE)
    for _ in range(10):
        made.fail(old, due_now, "very late")
    assert made.is_closed
    assert made.failure_count == 0


def test_a_straggler_does_not_answer_for_the_probe() -> None:
    made = circuit()
    old = made.generation
    fail(made, 5)
    now = due(made)
    made.begin_probe(now)
    assert made.succeed(old, now) is None
    assert made.release_probe(old) is None
    assert made.phase(now) is Phase.HALF_OPEN


def test_there_is_no_second_probe_before_the_first_is_given_up() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    assert not made.may_probe(now + 2 * PROBE_DEADLINE)


def test_connections_come_back_one_two_four() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    made.succeed(made.generation, now)
    allowed = []
    for _ in range(5):
        allowed.append(made.connection_limit(10, now))
        made.succeed(made.generation, now)
        assert made.connection_limit(10, now) == allowed[-1]
        now += RAMP_STEP
    assert allowed == [1, 2, 4, 8, 10]


def test_time_alone_lets_no_more_connections_in() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    made.succeed(made.generation, now)
    assert made.connection_limit(10, now + 60 * MINUTE) == 1


def test_a_failure_on_the_way_back_starts_the_ramp_anew() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    made.succeed(made.generation, now)
    made.succeed(made.generation, now)
    assert made.connection_limit(10, now + RAMP_STEP) == 2
    fail(made, 1, now)
    assert made.connection_limit(10, now + 2 * RAMP_STEP) == 1


def test_a_flapping_server_rests_longer_each_time() -> None:
    made = open_circuit()
    rests = []
    for _ in range(4):
        now = due(made)
        made.begin_probe(now)
        made.succeed(made.generation, now)
        fail(made, 5, now)
        rests.append(made.record.rest / MINUTE)
    assert rests == [10, 20, 30, 30]


def test_after_the_ramp_the_rest_is_short_again() -> None:
    made = open_circuit()
    now = due(made)
    made.begin_probe(now)
    made.fail(made.generation, now, "down")
    now = due(made)
    made.begin_probe(now)
    made.succeed(made.generation, now)
    made.succeed(made.generation, now)
    assert made.connection_limit(2, now + RAMP_STEP) == 2
    made.succeed(made.generation, now + RAMP_STEP)
    assert made.connection_limit(2, now + RAMP_STEP) == 2
    fail(made, 5, now + RAMP_STEP)
    assert made.record.rest == 5 * MINUTE


def test_a_restart_finds_it_open() -> None:
    before = open_circuit()
    after = circuit(record=before.record)
    assert after.phase(START) is Phase.OPEN
    assert after.rests_until(START) == due(before)
    after.begin_probe(due(before))
    assert after.succeed(after.generation, due(before)) is Transition.CLOSED


def test_the_probe_of_another_process_keeps_ours_back_until_its_deadline() -> None:
    other = open_circuit()
    now = due(other)
    claim = other.begin_probe(now)
    mine = Circuit(CircuitPolicy(), worker="mine", random=Random(1), record=claim)
    assert not mine.may_probe(now)
    assert mine.phase(now) is Phase.HALF_OPEN
    assert mine.may_probe(now + PROBE_DEADLINE)


def test_what_another_process_stored_is_adopted_and_old_answers_are_dropped() -> None:
    mine, other = circuit(), open_circuit()
    old = mine.generation
    assert mine.adopt(other.record, START)
    assert not mine.is_closed
    assert mine.succeed(old, START) is None
    now = due(other)
    other.begin_probe(now)
    other.succeed(other.generation, now)
    mine.adopt(other.record, now)
    assert mine.is_closed
    assert mine.connection_limit(10, now) == 1


def test_reading_back_ones_own_claim_does_not_end_the_probe() -> None:
    made = open_circuit()
    now = due(made)
    claim = made.begin_probe(now)
    generation = made.generation
    made.adopt(CircuitRecord(**{name: getattr(claim, name) for name in claim.__slots__}), now)
    assert made.succeed(generation, now) is Transition.CLOSED


def test_a_clock_set_back_does_not_turn_minutes_of_rest_into_hours() -> None:
    made = open_circuit()
    assert made.rests_until(START - timedelta(minutes=1)) is not None
    assert made.may_probe(START - timedelta(hours=2))


def test_a_person_can_make_it_forget() -> None:
    made = circuit()
    fail(made, 4)
    made.forget_failures()
    assert fail(made, 4) == [None] * 4


class CircuitMachine(RuleBasedStateMachine):
    """Attempts of any age end in any order; the circuit keeps its promises all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.circuit = circuit(CircuitPolicy(failure_count=3))
        self.attempts: list[tuple[int, bool]] = []  # generation, is probe

    @precondition(lambda self: self.circuit.is_closed)
    @rule()
    def admit(self) -> None:
        self.attempts.append((self.circuit.generation, False))

    @precondition(lambda self: self.circuit.may_probe(self.now))
    @rule()
    def probe(self) -> None:
        self.circuit.begin_probe(self.now)
        self.attempts.append((self.circuit.generation, True))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), word=st.sampled_from(["fail", "succeed", "trip", "cancel"]))
    def end(self, data: st.DataObject, word: str) -> None:
        generation, is_probe = self.attempts.pop(data.draw(st.integers(0, len(self.attempts) - 1)))
        before, was_current = self.circuit.record, generation == self.circuit.generation
        match word:
            case "fail":
                transition = self.circuit.fail(generation, self.now, "x")
            case "succeed":
                transition = self.circuit.succeed(generation, self.now)
            case "trip":
                transition = self.circuit.trip(generation, self.now, "x")
            case _:
                transition = self.circuit.release_probe(generation)
        if not was_current:
            assert transition is None
            assert self.circuit.record == before
        if transition is Transition.CLOSED:
            assert is_probe
            assert word == "succeed"
        if transition is not None:
            assert self.circuit.generation != generation

    @rule(seconds=st.integers(1, 1200))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.circuit.expire_probe(self.now)

    @rule()
    def restart(self) -> None:
        self.circuit = circuit(CircuitPolicy(failure_count=3), record=self.circuit.record)
        self.circuit.generation = 1_000_000 + max([0, *(generation for generation, _ in self.attempts)])

    @invariant()
    def at_most_one_probe_is_believed(self) -> None:
        current = [one for one in self.attempts if one == (self.circuit.generation, True)]
        assert len(current) <= 1
        if current:
            assert not self.circuit.may_probe(self.now)

    @invariant()
    def nobody_is_let_in_while_it_rests(self) -> None:
        if self.circuit.phase(self.now) is not Phase.CLOSED and not self.circuit.may_probe(self.now):
            assert self.circuit.rests_until(self.now) is not None

    @invariant()
    def the_rest_has_its_bounds(self) -> None:
        until = self.circuit.record.open_until
        if until is not None:
            assert until - self.now <= 30 * MINUTE * (1 + JITTER)


CircuitMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCircuitMachine = CircuitMachine.TestCase
