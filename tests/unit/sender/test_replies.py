"""What a reply means: one case per row of the table, and the words of real servers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.sender.replies import (
    Action,
    Breaker,
    EnhancedCode,
    Event,
    History,
    Hold,
    Incident,
    Reply,
    Scope,
    Stage,
    Streaks,
    Verdict,
    judge,
)
from services.sender.replies.table import TABLE

F, S, T, Q, IGNORED = Breaker.FAILURE, Breaker.SUCCESS, Breaker.TRIP, Breaker.REST, Breaker.NONE
REQUEUE, DEFER, FAIL, UNKNOWN, SENT = Action.REQUEUE, Action.DEFER, Action.FAIL, Action.UNKNOWN, Action.SENT


def incident(stage: Stage, cause: str | Event) -> Incident:
    return Incident(stage, event=cause) if isinstance(cause, Event) else Incident(stage, Reply.parse(cause))


def verdict(
    stage: Stage,
    cause: str | Event,
    *,
    before: int = 0,
    lasting: timedelta = timedelta(0),
    retry_on: tuple[str, ...] = (),
) -> Verdict:
    """Judge what happened, after the same rule applied `before` times."""
    happened = incident(stage, cause)
    rule = judge(happened).rule
    return judge(happened, history={rule: History(before, lasting)}, retry_on=retry_on)


BEFORE_THE_TRANSACTION = [
    # stage, what happened, how often before, then: action, breaker, hold
    (Stage.CONNECT, Event.NO_SUCH_HOST, 0, REQUEUE, F, Hold.NONE),
    (Stage.CONNECT, Event.DNS_FAILED, 9, REQUEUE, F, Hold.NONE),
    (Stage.CONNECT, Event.REFUSED, 9, REQUEUE, F, Hold.NONE),
    (Stage.CONNECT, Event.UNREACHABLE, 9, REQUEUE, F, Hold.NONE),
    (Stage.CONNECT, Event.TIMEOUT, 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, Event.TIMEOUT, 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, Event.CONNECTION_LOST, 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, Event.GARBAGE, 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, "450 busy", 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, "421 4.3.2 closing", 9, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, "554 no SMTP service here", 0, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, "554 no SMTP service here", 1, REQUEUE, F, Hold.NONE),
    (Stage.GREETING, "554 no SMTP service here", 2, REQUEUE, F, Hold.ACCOUNT),
    (Stage.STARTTLS, Event.TLS_NOT_OFFERED, 1, REQUEUE, F, Hold.NONE),
    (Stage.STARTTLS, Event.TLS_NOT_OFFERED, 2, REQUEUE, F, Hold.ACCOUNT),
    (Stage.STARTTLS, "454 4.7.0 TLS not available", 1, REQUEUE, F, Hold.NONE),
    (Stage.STARTTLS, "454 4.7.0 TLS not available", 2, REQUEUE, F, Hold.ACCOUNT),
    (Stage.STARTTLS, "502 no", 2, REQUEUE, F, Hold.ACCOUNT),
    (Stage.TLS_HANDSHAKE, Event.TLS_FAILED, 1, REQUEUE, F, Hold.NONE),
    (Stage.TLS_HANDSHAKE, Event.TLS_FAILED, 2, REQUEUE, F, Hold.ACCOUNT),
    (Stage.TLS_HANDSHAKE, Event.CERTIFICATE_INVALID, 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.EHLO, "502 5.5.1 what", 0, REQUEUE, F, Hold.ACCOUNT),
    (Stage.EHLO, "421 too busy", 0, REQUEUE, F, Hold.NONE),
    (Stage.EHLO, Event.CONNECTION_LOST, 9, REQUEUE, F, Hold.NONE),
    (Stage.AUTH, "535 5.7.8 bad credentials", 0, REQUEUE, T, Hold.NONE),
    (Stage.AUTH, "535 5.7.8 bad credentials", 1, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, "534 5.7.9 mechanism too weak", 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, "538 5.7.11 encryption required", 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, "530 5.7.0 must issue STARTTLS", 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, "432 4.7.12 password transition needed", 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, Event.AUTH_NOT_OFFERED, 0, REQUEUE, T, Hold.ACCOUNT),
    (Stage.AUTH, "454 4.7.0 temporary failure", 9, REQUEUE, Q, Hold.NONE),
    (Stage.AUTH, "535 5.7.0 too many login attempts", 9, REQUEUE, Q, Hold.NONE),
    (Stage.AUTH, "421 closing", 0, REQUEUE, F, Hold.NONE),
    (Stage.AUTH, Event.TIMEOUT, 0, REQUEUE, F, Hold.NONE),
]


@pytest.mark.parametrize(("stage", "cause", "before", "action", "breaker", "hold"), BEFORE_THE_TRANSACTION)
def test_trouble_before_the_transaction_is_never_the_message_s(
    *, stage: Stage, cause: str | Event, before: int, action: Action, breaker: Breaker, hold: Hold
) -> None:
    found = verdict(stage, cause, before=before)
    assert (found.action, found.breaker, found.hold) == (action, breaker, hold)
    assert found.close_connection
    assert not found.is_counted


@pytest.mark.parametrize(("minutes", "hold"), [(1, Hold.NONE), (14, Hold.NONE), (15, Hold.ACCOUNT), (60, Hold.ACCOUNT)])
def test_a_host_name_that_does_not_exist_holds_the_account_after_a_quarter_of_an_hour(minutes: int, hold: Hold) -> None:
    found = verdict(Stage.CONNECT, Event.NO_SUCH_HOST, before=3, lasting=timedelta(minutes=minutes))
    assert found.hold is hold


IN_THE_TRANSACTION = [
    # stage, what happened, how often before, then: action, breaker, closes the connection
    (Stage.MAIL, "421 4.3.2 shutting down", 0, REQUEUE, F, True),
    (Stage.RCPT, "421 4.3.2 shutting down", 0, REQUEUE, F, True),
    (Stage.DATA, "421 4.3.2 shutting down", 0, REQUEUE, F, True),
    (Stage.BODY, "421 4.3.2 shutting down", 0, REQUEUE, F, True),
    (Stage.DOT, "421 4.3.2 shutting down", 0, DEFER, F, True),
    (Stage.MAIL, "451 4.3.0 later", 0, REQUEUE, Q, False),
    (Stage.MAIL, "450 4.7.1 rate limit exceeded", 0, REQUEUE, Q, False),
    (Stage.MAIL, "552 5.3.4 message too big", 0, FAIL, S, False),
    (Stage.MAIL, "552 message size exceeds fixed limit", 0, FAIL, S, False),
    (Stage.MAIL, "501 syntax", 0, Action.AGAIN_PLAIN, IGNORED, True),
    (Stage.MAIL, "501 syntax", 1, FAIL, IGNORED, True),
    (Stage.MAIL, "555 unsupported parameter", 0, Action.AGAIN_PLAIN, IGNORED, True),
    (Stage.RCPT, "500 what", 0, Action.AGAIN_PLAIN, IGNORED, True),
    (Stage.RCPT, "504 not implemented", 1, FAIL, IGNORED, True),
    (Stage.MAIL, "503 nested MAIL", 0, DEFER, IGNORED, True),
    (Stage.RCPT, "503 5.5.1 need MAIL", 5, DEFER, IGNORED, True),
    (Stage.RCPT, "450 mailbox busy", 0, DEFER, S, False),
    (Stage.RCPT, "451 4.3.0 try again", 0, DEFER, S, False),
    (Stage.RCPT, "452 4.2.2 mailbox full", 0, DEFER, S, False),
    (Stage.RCPT, "452 4.5.3 too many recipients", 0, Action.AGAIN_NOW, S, False),
    (Stage.RCPT, "452 too many recipients", 0, Action.AGAIN_NOW, S, False),
    (Stage.RCPT, "552 too many recipients", 0, Action.AGAIN_NOW, S, False),
    (Stage.RCPT, "452 too many recipients", 2, DEFER, S, False),
    (Stage.RCPT, "550 5.1.1 no such user", 0, FAIL, S, False),
    (Stage.RCPT, "550 5.2.1 mailbox disabled", 0, FAIL, S, False),
    (Stage.RCPT, "552 5.2.2 mailbox full", 0, DEFER, S, False),
    (Stage.RCPT, "550 5.7.1 we do not like you", 0, FAIL, S, False),
    (Stage.RCPT, "550 blocked", 0, FAIL, S, False),
    (Stage.RCPT, "550 5.4.5 daily sending quota exceeded", 0, REQUEUE, Q, False),
    (Stage.RCPT, "451 4.7.1 slow down", 0, REQUEUE, Q, False),
    (Stage.RCPT, "454 throttled", 0, REQUEUE, Q, False),
    (Stage.RCPT, "452 insufficient system storage", 0, REQUEUE, Q, False),
    (Stage.MAIL, "550 5.4.5 daily sending quota exceeded", 0, REQUEUE, Q, False),
    (Stage.DATA, "451 local error", 0, DEFER, S, False),
    (Stage.DATA, "454 4.7.0 throttled", 0, REQUEUE, Q, False),
    (Stage.DATA, "554 no valid recipients", 0, DEFER, IGNORED, True),
    (Stage.DATA, "554 no valid recipients", 1, FAIL, IGNORED, True),
    (Stage.DATA, "250 fine", 0, DEFER, F, True),
    (Stage.DATA, "334 go on", 0, DEFER, F, True),
    (Stage.MAIL, Event.CONNECTION_LOST, 0, DEFER, F, True),
    (Stage.RCPT, Event.TIMEOUT, 0, DEFER, F, True),
    (Stage.DATA, Event.GARBAGE, 0, DEFER, F, True),
    (Stage.BODY, Event.CONNECTION_LOST, 0, DEFER, F, True),
    (Stage.BODY, Event.TIMEOUT, 0, DEFER, F, True),
    (Stage.BODY, "552 5.3.4 too big", 0, FAIL, S, True),
    (Stage.BODY, "554 5.7.1 spam", 0, FAIL, S, True),
    (Stage.BODY, "451 4.3.1 disk full", 0, DEFER, S, True),
    (Stage.BODY, "250 already taken", 0, UNKNOWN, F, True),
    (Stage.DOT, "250 2.0.0 queued", 0, SENT, S, False),
    (Stage.DOT, "251 will forward", 0, SENT, S, False),
    (Stage.DOT, "200 fine", 0, SENT, S, False),
    (Stage.DOT, "451 4.3.0 later", 0, DEFER, S, False),
    (Stage.DOT, "454 throttled", 0, DEFER, Q, False),
    (Stage.DOT, "550 5.7.1 spam", 0, FAIL, S, False),
    (Stage.DOT, "554 5.6.0 malformed", 0, FAIL, S, False),
    (Stage.DOT, "550 5.4.5 daily user sending limit exceeded", 0, REQUEUE, Q, False),
    (Stage.DOT, "354 again", 0, UNKNOWN, F, True),
    (Stage.DOT, Event.CONNECTION_LOST, 0, UNKNOWN, F, True),
    (Stage.DOT, Event.TIMEOUT, 0, UNKNOWN, F, True),
    (Stage.DOT, Event.GARBAGE, 0, UNKNOWN, F, True),
    (Stage.DOT, Event.CANCELLED, 0, UNKNOWN, IGNORED, True),
    (Stage.RCPT, Event.CANCELLED, 0, REQUEUE, IGNORED, True),
    (Stage.IDLE, Event.UNSOLICITED, 0, Action.NOTHING, IGNORED, True),
    (Stage.IDLE, "421 4.4.2 idle", 0, Action.NOTHING, IGNORED, True),
    (Stage.RSET, "550 no", 0, Action.NOTHING, IGNORED, True),
    (Stage.QUIT, Event.CONNECTION_LOST, 0, Action.NOTHING, IGNORED, True),
    (Stage.MAIL, Event.TOO_LARGE, 0, FAIL, S, False),
    (Stage.MAIL, Event.SMTPUTF8_MISSING, 0, Action.OTHER_ACCOUNT, IGNORED, False),
    (Stage.BODY, Event.BOOKS_UNAVAILABLE, 0, REQUEUE, IGNORED, True),
    (Stage.MAIL, "350 what", 0, DEFER, F, True),
    # Unknown codes: by their first digit.
    (Stage.MAIL, "499 hm", 0, REQUEUE, Q, False),
    (Stage.RCPT, "499 hm", 0, DEFER, S, False),
    (Stage.RCPT, "599 hm", 0, FAIL, S, False),
    (Stage.DATA, "499 hm", 0, DEFER, S, False),
    (Stage.DOT, "299 hm", 0, SENT, S, False),
    (Stage.DOT, "499 hm", 0, DEFER, S, False),
    (Stage.DOT, "599 hm", 0, FAIL, S, False),
]


@pytest.mark.parametrize(("stage", "cause", "before", "action", "breaker", "closes"), IN_THE_TRANSACTION)
def test_each_row_of_the_transaction(
    *, stage: Stage, cause: str | Event, before: int, action: Action, breaker: Breaker, closes: bool
) -> None:
    found = verdict(stage, cause, before=before)
    assert (found.action, found.breaker, found.close_connection) == (action, breaker, closes)
    assert found.hold is Hold.NONE


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (Stage.MAIL, "550 5.1.8 bad sender"),
        (Stage.MAIL, "553 5.1.7 bad sender"),
        (Stage.MAIL, "554 5.7.1 you may not"),
        (Stage.MAIL, "550 no"),
        (Stage.MAIL, "553 no"),
        (Stage.MAIL, "554 no"),
        (Stage.MAIL, "530 authentication required"),
        # Postfix says it only at RCPT.
        (Stage.RCPT, "550 5.1.8 <news@example.org>: Sender address rejected: Domain not found"),
        (Stage.RCPT, "553 5.7.1 <news@example.org>: Sender address rejected: not owned by user ada"),
    ],
)
def test_a_refused_sender_holds_the_account_for_this_from_and_says_what_to_do(stage: Stage, text: str) -> None:
    found = verdict(stage, text)
    assert (found.action, found.breaker, found.hold) == (REQUEUE, T, Hold.SENDER)
    assert "allow it at the provider" in found.reason
    assert (found.suppress, found.is_counted) == (False, False)


@pytest.mark.parametrize(
    ("text", "suppress", "feeds_guard"),
    [
        ("550 5.1.1 no such user", True, False),
        ("551 5.1.6 moved", True, False),
        ("553 5.1.3 bad syntax", True, False),
        ("554 5.1.2 no such domain", True, False),
        ("550 5.2.1 disabled", True, False),
        ("550 No such user here", True, False),
        ("550 5.7.1 No such user, says the policy", False, True),
        ("550 5.7.1 relaying denied", False, True),
        ("550 mail from you is blocked", False, True),
        ("550 user unknown or blocked", False, True),
        ("550 account suspended", False, True),
        ("550 no reason at all", False, True),
        ("552 5.2.3 too long for this mailbox", False, True),
        # The class of the enhanced code does not agree, so the basic code decides.
        ("550 4.1.1 strange", False, True),
    ],
)
def test_only_addresses_that_do_not_exist_are_suppressed(text: str, suppress: bool, feeds_guard: bool) -> None:
    found = verdict(Stage.RCPT, text)
    assert (found.action, found.suppress, found.feeds_guard) == (FAIL, suppress, feeds_guard)


def test_a_full_mailbox_is_tried_for_three_days() -> None:
    text = "552 5.2.2 mailbox full"
    assert verdict(Stage.RCPT, text, before=9, lasting=timedelta(days=2, hours=23)).action is DEFER
    late = verdict(Stage.RCPT, text, before=9, lasting=timedelta(days=3))
    assert (late.action, late.suppress) == (FAIL, False)


def test_a_message_refused_after_the_dot_counts_against_its_run_and_suppresses_nobody() -> None:
    found = verdict(Stage.DOT, "550 5.1.1 no such user")
    assert (found.counts_against_run, found.suppress, found.feeds_guard) == (True, False, False)


@pytest.mark.parametrize(
    ("stage", "cause"),
    [(Stage.MAIL, "552 5.3.4 x"), (Stage.DOT, "552 5.3.4 x"), (Stage.MAIL, Event.TOO_LARGE)],
)
def test_a_message_too_large_is_said_on_the_run(stage: Stage, cause: str | Event) -> None:
    found = verdict(stage, cause)
    assert found.tell_run
    assert "smaller" in found.reason


@pytest.mark.parametrize(
    ("stage", "text", "rest"),
    [
        (Stage.RCPT, "451 4.7.1 wait", timedelta(minutes=5)),
        (Stage.MAIL, "451 not now", timedelta(minutes=1)),
        (Stage.MAIL, "450 4.7.1 too many messages per minute", timedelta(minutes=1)),
        (Stage.RCPT, "550 5.4.5 hourly sending limit exceeded", timedelta(hours=1)),
        (Stage.RCPT, "550 5.7.1 Daily sending quota exceeded", timedelta(hours=1)),
        (Stage.RCPT, "550 5.1.90 your daily limit for message recipients", timedelta(hours=1)),
        (Stage.RCPT, "454 4.7.0 Throttling failure: Maximum sending rate exceeded", timedelta(minutes=5)),
        (Stage.RCPT, "450 4.7.1 rate limit, retry in 30 seconds", timedelta(seconds=30)),
        (Stage.AUTH, "454 4.7.0 too many logins", timedelta(minutes=10)),
        (Stage.AUTH, "454 4.7.0 try again in 30 seconds", timedelta(minutes=10)),
        (Stage.AUTH, "454 4.7.0 try again in 30 minutes", timedelta(minutes=30)),
        (Stage.AUTH, "535 5.7.8 no", timedelta(seconds=60)),
        (Stage.DOT, "454 4.7.0 throttled", timedelta(minutes=5)),
        (Stage.RCPT, "450 4.2.0 greylisted, try again in 5 minutes", None),
        (Stage.RCPT, "550 5.1.1 no such user", None),
    ],
)
def test_an_account_rests_as_long_as_the_server_says_or_the_window_lasts(
    stage: Stage, text: str, rest: timedelta | None
) -> None:
    assert verdict(stage, text).rest == rest


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("try again in 600 seconds", 600),
        ("please try again in 5 minutes", 300),
        ("greylisted for 300 seconds", 300),
        ("Greylisting in action, please come back in 00:05:00", 300),
        ("retry after 1 hour", 3600),
        ("Retry-After: 120", 120),
        ("wait 90s", 90),
        ("please wait at least 2 min before the next attempt", 120),
        ("in 15 minutes you may try again", 900),
        ("try again in 0 seconds", 1),
        ("try again in 365 days", 86400),
        ("you sent 100 messages in 24 hours. Try again later", None),
        ("try again later", None),
        ("error 600 seconds", None),
    ],
)
def test_a_time_that_the_server_names_is_understood(words: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert verdict(Stage.RCPT, f"451 4.3.0 {words}").retry_after == expected


def test_greylisting_says_nothing_about_the_account() -> None:
    found = verdict(Stage.RCPT, "451 4.7.1 Greylisted, see you in 300 seconds")
    assert (found.action, found.breaker, found.rest) == (DEFER, S, None)


def test_an_address_in_the_reply_is_not_taken_for_words_of_the_server() -> None:
    assert verdict(Stage.RCPT, "550 5.1.1 <daily limit@example.org> unknown").suppress
    assert verdict(Stage.RCPT, "550 no such user spam.blocked@example.org").suppress


@pytest.mark.parametrize(
    ("retry_on", "action"),
    [
        (("550",), DEFER),
        (("5xx",), DEFER),
        (("5.1.1",), DEFER),
        (("5.1.x",), DEFER),
        (("551", "5.1.2", "4xx"), FAIL),
        ((), FAIL),
    ],
)
def test_a_policy_can_name_replies_that_are_tried_again(retry_on: tuple[str, ...], action: Action) -> None:
    found = verdict(Stage.RCPT, "550 5.1.1 no such user", retry_on=retry_on)
    assert found.action is action
    assert found.suppress is (action is FAIL)


def test_a_policy_cannot_retry_what_is_no_reply() -> None:
    assert verdict(Stage.MAIL, Event.TOO_LARGE, retry_on=("5xx", "xxx")).action is FAIL


def test_every_account_hold_names_its_cure() -> None:
    holds = [row.then for row in TABLE] + [row.patience.then for row in TABLE if row.patience]
    for found in holds:
        if found.hold is not Hold.NONE:
            assert "release" in found.reason


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("stage", list(Stage))
def test_everything_that_can_happen_anywhere_has_a_verdict(stage: Stage) -> None:
    for event in Event:
        assert judge(Incident(stage, event=event)).rule
    for code in range(200, 600):
        found = judge(Incident(stage, Reply(code, ("words",))))
        assert found.rule
        assert (found.action is SENT) == (stage is Stage.DOT and code < 300)
        assert found.action is not UNKNOWN or stage in {Stage.BODY, Stage.DOT}


def test_nothing_that_happened_before_the_dot_is_unknown_except_a_yes_in_the_body() -> None:
    before = [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY]
    assert all(judge(Incident(stage, event=event)).action is not UNKNOWN for stage in before for event in Event)


def test_only_a_reply_turns_a_started_dot_into_something_known() -> None:
    silent = [Event.CONNECTION_LOST, Event.TIMEOUT, Event.GARBAGE, Event.CANCELLED, Event.UNSOLICITED]
    assert {judge(Incident(Stage.DOT, event=event)).action for event in silent} == {UNKNOWN}


def test_a_reply_is_read_with_its_enhanced_code() -> None:
    reply = Reply.parse("550-5.1.1 The account\n550 5.1.1 does not exist")
    assert (reply.code, reply.enhanced, reply.text) == (
        550,
        EnhancedCode(5, 1, 1),
        "The account does not exist",
    )
    assert str(reply) == "550 5.1.1 The account does not exist"


@pytest.mark.parametrize(
    ("text", "enhanced"),
    [
        ("250 2.1.0 Ok", (2, 1, 0)),
        ("550 5.7.1", (5, 7, 1)),
        ("550 5.7.1: no", None),
        ("550 4.7.1 class disagrees", None),
        ("550 3.7.1 no such class", None),
        ("550 5.1234.1 too long", None),
        ("250 Ok", None),
    ],
)
def test_an_enhanced_code_counts_only_where_its_class_agrees(text: str, enhanced: tuple[int, int, int] | None) -> None:
    assert Reply.parse(text).enhanced == enhanced


def test_the_text_of_a_reply_is_one_short_printable_line() -> None:
    reply = Reply(550, ("5.1.1 evil\x1b[31m\x00text\u2028", "x" * 5_000))
    assert reply.text.startswith("evil [31m text")
    assert len(reply.text) == 1_000
    assert reply.text.isprintable()


def test_an_incident_has_exactly_one_cause() -> None:
    with pytest.raises(ValueError, match="either"):
        Incident(Stage.MAIL)
    with pytest.raises(ValueError, match="either"):
        Incident(Stage.MAIL, Reply(250), Event.TIMEOUT)


def test_the_streaks_of_an_account_make_the_third_refused_greeting_a_hold() -> None:
    streaks, now = Streaks(), datetime(2026, 11, 23, tzinfo=UTC)
    refused = incident(Stage.GREETING, "554 go away")
    holds = []
    for minute in range(4):
        at = now + timedelta(minutes=minute)
        found = judge(refused, history=streaks.at(at))
        assert found.remember is Scope.ACCOUNT
        streaks.note(found.rule, at)
        holds.append(found.hold)
    assert holds == [Hold.NONE, Hold.NONE, Hold.ACCOUNT, Hold.ACCOUNT]
    streaks.clear()
    assert judge(refused, history=streaks.at(now)).hold is Hold.NONE


def test_a_clock_that_goes_back_makes_no_streak_longer() -> None:
    streaks, now = Streaks(), datetime(2026, 11, 23, tzinfo=UTC)
    streaks.note("no such host", now)
    assert streaks.at(now - timedelta(hours=2))["no such host"] == History(1, timedelta(0))


def test_a_verdict_is_a_value() -> None:
    assert verdict(Stage.DOT, "250 ok") == replace(verdict(Stage.DOT, "250 different"))
