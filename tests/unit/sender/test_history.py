from datetime import timedelta

from services.sender.history import AccountHistory
from services.sender.replies import Event, History, Hold, Incident, Reply, Stage, judge
from tests.fakes.clock import START

SECOND = timedelta(seconds=1)


def test_attempts_side_by_side_say_a_thing_once() -> None:
    history = AccountHistory()
    for seconds in range(5):
        history.note("closed door", admitted_at=START, now=START + (1 + seconds) * SECOND)
    assert history.seen_by(START + 9 * SECOND, START + 9 * SECOND) == {"closed door": History(1, 8 * SECOND)}


def test_an_attempt_knows_only_what_was_known_when_it_began() -> None:
    history = AccountHistory()
    history.note("closed door", admitted_at=START, now=START + SECOND)
    assert history.seen_by(START, START + 2 * SECOND)["closed door"].count == 0


def test_what_works_clears_it() -> None:
    history = AccountHistory()
    history.note("closed door", admitted_at=START, now=START)
    history.clear()
    assert history.seen_by(START, START) == {}


def test_the_second_wrong_password_in_a_row_holds_the_account_and_two_at_once_do_not() -> None:
    history = AccountHistory()
    wrong = Incident(Stage.AUTH, Reply.parse("535 5.7.8 authentication failed"))

    def attempt(admitted: int, ended: int) -> Hold:
        admitted_at, now = START + admitted * SECOND, START + ended * SECOND
        verdict = judge(wrong, history=history.seen_by(admitted_at, now))
        history.note(verdict.rule, admitted_at=admitted_at, now=now)
        return verdict.hold

    assert [attempt(0, 1), attempt(0, 2), attempt(0, 3)] == [Hold.NONE] * 3
    assert attempt(70, 71) is Hold.ACCOUNT


def test_an_unknown_host_holds_the_account_after_a_quarter_of_an_hour() -> None:
    history = AccountHistory()
    gone = Incident(Stage.CONNECT, event=Event.NO_SUCH_HOST)
    holds = []
    for minute in (0, 5, 14, 15, 16):
        now = START + timedelta(minutes=minute)
        verdict = judge(gone, history=history.seen_by(now, now))
        history.note(verdict.rule, admitted_at=now, now=now)
        holds.append(verdict.hold)
    assert holds == [Hold.NONE, Hold.NONE, Hold.NONE, Hold.ACCOUNT, Hold.ACCOUNT]
