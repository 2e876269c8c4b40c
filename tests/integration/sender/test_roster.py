"""Accounts in a real database: what survives a restart, and what several senders agree on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import update

import services.sender
from mailer.database import Database, Migrations
from mailer.database.identity import renew_incarnation
from services.sender import account_store, book
from services.sender.account import Account
from services.sender.account_metrics import AccountMetrics
from services.sender.breaker import PROBE_DEADLINE
from services.sender.caps import Caps, minute_of
from services.sender.circuit_record import CircuitPolicy, Phase
from services.sender.replies import Breaker
from services.sender.roster import Admission, Refusal, Roster
from services.sender.tables import accounts
from tests.fakes.accounts import new_account
from tests.fakes.clock import FakeClock

MIGRATIONS = Migrations("sender", Path(services.sender.__file__).parent / "migrations")
NEWS = "news@example.org"
ANYBODY: frozenset[str] = frozenset()

Start = Callable[..., Awaitable[Roster]]


@pytest.fixture
async def database(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, clock=clock, migrations=[MIGRATIONS])
    yield opened
    await opened.close()


@pytest.fixture
async def start(database: Database, database_url: str, clock: FakeClock) -> AsyncIterator[Start]:
    """Start a roster as a process of its own would: with its own connection to the database."""
    async with AsyncExitStack() as stack:

        async def start(worker: str = "one", **more: Any) -> Roster:
            own = await Database.open(database_url, clock=clock)
            stack.push_async_callback(own.close)
            roster = Roster(own, clock, Random(worker), worker, **more)
            await roster.start()
            stack.push_async_callback(roster.close)
            return roster

        yield start


async def add(database: Database, clock: FakeClock, *made: Account) -> None:
    for account in made:
        await database.write(account_store.create, account, now=clock.now())


async def stored(database: Database, account_id: str = "a") -> Account:
    return await database.read(account_store.get, account_id)


def choose(roster: Roster, sender: str = NEWS, **more: Any) -> Admission | None:
    return roster.choose(from_address=sender, allowed=more.pop("allowed", ANYBODY), **more)


def end(roster: Roster, admission: Admission | None, effect: Breaker = Breaker.SUCCESS, **more: Any) -> Any:
    assert admission is not None
    details: dict[str, Any] = {"reason": "because", "counted": effect is Breaker.SUCCESS}
    return roster.settle(admission, effect, **(details | more))


async def prove(roster: Roster, *, times: int = 1) -> None:
    """Send messages that work, so that the accounts have shown that they let us in."""
    for _ in range(times):
        end(roster, choose(roster))


async def open_circuit(roster: Roster) -> None:
    end(roster, choose(roster), Breaker.TRIP)
    await roster.flush()


async def rest_over(clock: FakeClock, database: Database) -> None:
    until = (await stored(database)).circuit.open_until
    assert until is not None
    clock.step_wall_clock((until - clock.now()).total_seconds())


async def test_messages_go_round_by_weight(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", weight=1), new_account("b", weight=2), new_account("c", weight=3))
    roster = await start()
    chosen: Counter[str] = Counter()
    for _ in range(60):
        admission = choose(roster)
        assert admission is not None
        chosen[admission.account.name] += 1
        end(roster, admission)
    assert chosen == {"a": 10, "b": 20, "c": 30}


async def test_an_account_that_was_away_does_not_catch_up(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a"), new_account("b"))
    roster = await start()
    for _ in range(50):
        end(roster, choose(roster, exclude=frozenset({"b"})))
    chosen = []
    for _ in range(4):
        admission = choose(roster)
        assert admission is not None
        chosen.append(admission.account.name)
        end(roster, admission)
    assert sorted(chosen) == ["a", "a", "b", "b"]


async def test_no_more_connections_than_the_account_allows(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", max_connection_count=3))
    roster = await start()
    await prove(roster)
    taken = [choose(roster) for _ in range(5)]
    assert [admission is not None for admission in taken] == [True, True, True, False, False]
    outlook = roster.outlook(NEWS, ANYBODY, clock.now())
    assert (outlook.room, outlook.busy) == (True, True)
    end(roster, taken[0])
    assert choose(roster) is not None


async def test_the_first_connection_proves_the_password_alone(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    first = choose(roster)
    assert choose(roster) is None
    end(roster, first)
    assert choose(roster) is not None
    assert choose(roster) is not None


async def test_an_account_sends_only_for_its_addresses_and_its_runs(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(
        database,
        clock,
        new_account("a", from_addresses=("news@example.org",)),
        new_account("b", from_addresses=("@example.com",)),
    )
    roster = await start()

    def names(sender: str, allowed: frozenset[str] = ANYBODY) -> str | None:
        admission = choose(roster, sender, allowed=allowed)
        if admission is None:
            return None
        end(roster, admission)
        return admission.account.name

    assert names("News@Example.org") == "a"
    assert names("anyone@example.com") == "b"
    assert names("anyone@sub.example.com") is None
    assert names("news@example.org", frozenset({"b"})) is None
    assert "from_addresses" in roster.outlook("other@example.org", ANYBODY, clock.now()).reason


async def test_disabled_and_held_accounts_get_nothing(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", disabled=True), new_account("b"))
    await database.write(account_store.hold, "b", reason="sick of it", now=clock.now())
    roster = await start()
    assert choose(roster) is None
    outlook = roster.outlook(NEWS, ANYBODY, clock.now())
    assert not outlook.room
    assert outlook.until is None
    assert 'account "a": it is disabled' in outlook.reason
    assert 'account "b": it is held: sick of it' in outlook.reason


async def test_no_account_says_what_to_do(start: Start, clock: FakeClock) -> None:
    roster = await start()
    assert "CreateAccount" in roster.outlook(NEWS, ANYBODY, clock.now()).reason


async def test_an_opened_circuit_is_on_disk_and_still_open_after_a_restart(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", max_connection_count=10))
    before = await start("before")
    await prove(before)
    for _ in range(5):
        end(before, choose(before), Breaker.FAILURE, reason="connection refused")
    await before.flush()
    circuit = (await stored(database)).circuit
    assert circuit.open_until is not None
    assert (circuit.opened_count, circuit.failure_count, circuit.last_failure) == (1, 5, "connection refused")
    await before.close()
    after = await start("after")
    assert choose(after) is None
    outlook = after.outlook(NEWS, ANYBODY, clock.now())
    assert (outlook.room, outlook.until) == (False, circuit.open_until)
    assert "connection refused" in outlook.reason


async def test_one_probe_between_two_processes_and_39_refused(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", max_connection_count=40))
    rosters = [await start("one"), await start("two")]
    await open_circuit(rosters[0])
    await rosters[1].refresh()
    await rest_over(clock, database)

    async def attempt(number: int) -> bool:
        roster = rosters[number % 2]
        admission = choose(roster)
        return admission is not None and await roster.confirm(admission)

    won = await asyncio.gather(*(attempt(number) for number in range(40)))
    assert sum(won) == 1


async def test_the_loser_of_the_probe_waits_and_learns_that_the_circuit_closed(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", max_connection_count=10))
    one, two = await start("one"), await start("two")
    await open_circuit(one)
    await two.refresh()
    await rest_over(clock, database)
    probe, other = choose(one), choose(two)
    assert probe is not None
    assert other is not None
    assert await one.confirm(probe)
    assert not await two.confirm(other)
    assert choose(two) is None
    end(one, probe)
    await one.flush()
    await two.refresh()
    circuit = (await stored(database)).circuit
    assert (circuit.open_until, circuit.closed_count, circuit.probe_worker) == (None, 1, None)
    assert choose(two) is not None
    assert choose(two) is None  # the ramp begins with one connection everywhere


async def test_a_failed_probe_rests_twice_as_long_everywhere(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    one, two = await start("one"), await start("two")
    await open_circuit(one)
    await rest_over(clock, database)
    probe = choose(one)
    assert probe is not None
    assert await one.confirm(probe)
    end(one, probe, Breaker.FAILURE)
    await one.flush()
    await two.refresh()
    circuit = (await stored(database)).circuit
    assert circuit.rest == timedelta(minutes=10)
    assert two.outlook(NEWS, ANYBODY, clock.now()).until == circuit.open_until


async def test_a_probe_whose_process_died_is_free_after_its_deadline(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    dead, alive = await start("dead"), await start("alive")
    await open_circuit(dead)
    await rest_over(clock, database)
    probe = choose(dead)
    assert probe is not None
    assert await dead.confirm(probe)
    await alive.refresh()
    assert choose(alive) is None
    clock.step_wall_clock(PROBE_DEADLINE.total_seconds())
    mine = choose(alive)
    assert mine is not None
    assert await alive.confirm(mine)


async def test_a_probe_that_hangs_opens_the_circuit_again_and_its_late_answer_is_dropped(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    await open_circuit(roster)
    await rest_over(clock, database)
    probe = choose(roster)
    assert probe is not None
    assert await roster.confirm(probe)
    clock.step_wall_clock(PROBE_DEADLINE.total_seconds())
    await clock.advance(1)
    await roster.flush()
    assert (await stored(database)).circuit.rest == timedelta(minutes=10)
    end(roster, probe)
    await roster.flush()
    assert (await stored(database)).circuit.open_until is not None


async def test_a_cancelled_probe_lets_the_next_one_through(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a"))
    roster, other = await start("one"), await start("two")
    await open_circuit(roster)
    await rest_over(clock, database)
    probe = choose(roster)
    assert probe is not None
    assert await roster.confirm(probe)
    end(roster, probe, Breaker.NONE, reason="cancelled", counted=False)
    await roster.flush()
    await other.refresh()
    mine = choose(other)
    assert mine is not None
    assert await other.confirm(mine)


async def test_500_waiting_messages_meet_a_ramp_when_a_circuit_closes(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", max_connection_count=8))
    roster = await start()
    await open_circuit(roster)
    await rest_over(clock, database)
    probe = choose(roster)
    assert probe is not None
    assert await roster.confirm(probe)
    end(roster, probe)
    peaks = []
    for _ in range(5):
        taken: list[Admission] = []
        while len(taken) < 500 and (admission := choose(roster)) is not None:
            taken.append(admission)
        peaks.append(len(taken))
        for admission in taken:
            end(roster, admission)
        clock.step_wall_clock(1)
    assert peaks == [1, 2, 4, 8, 8]


async def test_two_processes_that_open_a_circuit_at_once_open_it_once(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    one, two = await start("one"), await start("two")
    end(one, choose(one), Breaker.TRIP, reason="first")
    await one.flush()
    end(two, choose(two), Breaker.TRIP, reason="second")
    await two.flush()
    await one.refresh()
    await two.refresh()
    circuit = (await stored(database)).circuit
    assert (circuit.opened_count, circuit.last_failure) == (1, "first")
    assert one.outlook(NEWS, ANYBODY, clock.now()).until == circuit.open_until
    assert two.outlook(NEWS, ANYBODY, clock.now()).until == circuit.open_until


async def test_a_hold_is_on_disk_and_ends_with_a_release(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a"))
    roster, other = await start("one"), await start("two")
    end(roster, choose(roster), Breaker.NONE, hold_reason="no login: correct the password", counted=False)
    assert choose(roster) is None
    await roster.flush()
    account = await stored(database)
    assert (account.held, account.hold_reason) == (True, "no login: correct the password")
    await other.refresh()
    assert choose(other) is None
    await database.write(account_store.release, "a", now=clock.now())
    for one in (roster, other):
        await one.refresh()
        assert choose(one) is not None


async def test_a_sender_that_the_server_refuses_leaves_the_account_to_others(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    end(roster, choose(roster), Breaker.NONE, hold_reason="not your address", hold_for=NEWS, counted=False)
    assert choose(roster) is None
    assert "not your address" in roster.outlook(NEWS, ANYBODY, clock.now()).reason
    end(roster, choose(roster, "shop@example.org"))
    await roster.flush()
    again = await start("again")
    assert choose(again) is None
    end(again, choose(again, "shop@example.org"))
    await database.write(account_store.release, "a", now=clock.now())
    for one in (roster, again):
        await one.refresh()
        assert choose(one) is not None


async def test_a_rest_ends_at_its_time_and_survives_a_restart(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    until = clock.now() + timedelta(minutes=10)
    end(roster, choose(roster), Breaker.REST, reason="too many logins", rest_until=until, counted=False)
    await roster.flush()
    again = await start("again")
    for one in (roster, again):
        assert choose(one) is None
        outlook = one.outlook(NEWS, ANYBODY, clock.now())
        assert outlook.until == until
        assert "too many logins" in outlook.reason
    clock.step_wall_clock(600)
    assert choose(roster) is not None
    assert choose(again) is not None


async def test_a_suspended_account_is_held_and_names_the_ten_that_it_refused(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", max_connection_count=20))
    roster = await start()
    await prove(roster)
    flying = [choose(roster) for _ in range(12)]
    trips = [
        end(roster, admission, counted=True, refusal=Refusal(f"key{number}", f"d{number % 6}.example"))
        for number, admission in enumerate(flying)
    ]
    assert trips[:9] == [None] * 9
    assert trips[9].refused_keys == tuple(f"key{number}" for number in range(10))
    assert trips[10].refused_keys == ("key10",)
    assert choose(roster) is None
    await roster.flush()
    assert (await stored(database)).held


async def test_a_restart_does_not_double_the_hour(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", caps=Caps(per_hour_count=5), max_connection_count=10))
    before = await start("before")
    for _ in range(3):
        end(before, choose(before))
    await database.write(book.count_usage, {("a", minute_of(clock.now())): 3})
    await before.close()
    after = await start("after")
    await prove(after, times=2)
    assert choose(after) is None
    outlook = after.outlook(NEWS, ANYBODY, clock.now())
    assert "5 per hour reached" in outlook.reason
    assert outlook.until is not None
    assert outlook.until - clock.now() <= timedelta(minutes=61, seconds=1)


async def test_what_another_process_sends_counts_too(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", caps=Caps(per_day_count=5), max_connection_count=10))
    roster = await start()
    await prove(roster)
    await database.write(book.count_usage, {("a", minute_of(clock.now())): 5})
    await roster.refresh()
    assert choose(roster) is None


async def test_overflow_goes_to_the_next_account(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a", weight=1000, caps=Caps(per_hour_count=3)), new_account("b"))
    roster = await start()
    chosen: Counter[str] = Counter()
    for _ in range(10):
        admission = choose(roster)
        assert admission is not None
        chosen[admission.account.name] += 1
        end(roster, admission)
    assert chosen == {"a": 3, "b": 7}


async def test_a_message_that_never_came_to_its_dot_gives_its_place_back(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a", caps=Caps(per_hour_count=1)))
    roster = await start()
    end(roster, choose(roster), Breaker.NONE, counted=False)
    assert choose(roster) is not None


async def test_a_changed_host_closes_old_connections_and_new_weights_do_not(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"), new_account("b"))
    stale: list[frozenset[str]] = []
    roster = await start(on_stale_connections=stale.append)

    async def change(account: Account) -> None:
        present = await stored(database, account.account_id)
        await database.write(account_store.update_settings, account, expected_version=present.version, now=clock.now())
        await roster.refresh()

    await change(new_account("a", weight=7))
    assert stale == []
    await change(new_account("a", host="localhost"))
    assert stale == [frozenset({"a"})]
    await database.write(account_store.remove, "b")
    await roster.refresh()
    assert stale[1:] == [frozenset({"b"})]


async def test_whoever_waits_for_room_is_woken_by_a_free_connection(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    admission = choose(roster)
    waiting = asyncio.create_task(roster.wait_for_room(60))
    await clock.settle()
    assert not waiting.done()
    end(roster, admission)
    assert await waiting


async def test_whoever_waits_for_room_is_woken_when_a_rest_ends(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    end(roster, choose(roster), Breaker.REST, rest_until=clock.now() + timedelta(seconds=30), counted=False)
    waiting = asyncio.create_task(roster.wait_for_room(60))
    await roster.flush()
    await clock.settle()
    await clock.advance(29)
    assert not waiting.done()
    await clock.advance(1)
    assert await waiting


async def test_a_restored_database_is_believed_even_where_memory_is_newer(
    database: Database, clock: FakeClock, start: Start
) -> None:
    await add(database, clock, new_account("a"))
    roster = await start()
    await database.write(account_store.hold, "a", reason="x", now=clock.now())
    await database.write(account_store.hold, "a", reason="y", now=clock.now())
    await roster.refresh()
    assert choose(roster) is None
    await database.write(
        lambda connection: connection.execute(update(accounts).values(held=False, hold_reason="", version=1))
    )
    await database.write(renew_incarnation, clock.now())
    await roster._database.probe()
    await clock.settle()
    await roster.refresh()
    assert choose(roster) is not None


async def test_policies_are_the_accounts_own(database: Database, clock: FakeClock, start: Start) -> None:
    policy = CircuitPolicy(failure_count=2, rest=timedelta(seconds=10), max_rest=timedelta(seconds=15))
    await add(database, clock, new_account("a", circuit_policy=policy))
    roster = await start()
    for _ in range(2):
        end(roster, choose(roster), Breaker.FAILURE)
    await roster.flush()
    until = (await stored(database)).circuit.open_until
    assert until is not None
    assert timedelta(seconds=8) <= until - clock.now() <= timedelta(seconds=12)


async def test_figures_show_circuit_hold_and_rest(database: Database, clock: FakeClock, start: Start) -> None:
    await add(database, clock, new_account("a"))
    registry = CollectorRegistry()
    roster = await start(metrics=AccountMetrics(registry))

    def figure(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"mailer_account_{name}", {"account": "a"} | labels)

    assert (figure("circuit_state"), figure("held"), figure("resting")) == (0, 0, 0)
    end(roster, choose(roster), Breaker.TRIP, hold_reason="x", rest_until=clock.now() + timedelta(minutes=1))
    assert (figure("circuit_state"), figure("held"), figure("resting")) == (2, 1, 1)
    assert figure("circuit_transitions_total", to="opened") == 1
    gate = roster.gate("a")
    assert gate is not None
    assert gate.circuit.phase(clock.now()) is Phase.OPEN
