"""What a reply means: the table. The first row that matches decides.

An account is a submission server of ours, so trouble before RCPT is ours, never the recipient's. In SMTP
a 5yz reply says "do not repeat" (RFC 5321 4.2.1); `retry_on` of a policy is for a provider that needs it
otherwise.
"""

from datetime import timedelta
from typing import Final

from services.sender.replies import consequences as then
from services.sender.replies import words
from services.sender.replies.conditions import (
    all_of,
    always,
    any_of,
    code,
    enhanced,
    event,
    is_bare,
    is_silent,
    not_,
    says,
)
from services.sender.replies.incident import Event, Stage
from services.sender.replies.rows import (
    ANYWHERE,
    BEFORE_DOT,
    BETWEEN,
    CONTENT,
    ENVELOPE,
    OPENING,
    TRANSACTION,
    Patience,
    Row,
    at,
)
from services.sender.replies.verdict import Scope, Verdict


def _hold_after(count: int, verdict: Verdict) -> Patience:
    return Patience(Scope.ACCOUNT, verdict, count=count)


# A limit may be meant for one recipient after all. A message that meets one twice in a row steps aside: it would be the
# first again when the account has rested, and nobody behind it would ever have a turn.
_STEP_ASIDE = Patience(Scope.DELIVERY, then.STEP_ASIDE, count=2)


_REFUSED = code("4xx", "5xx")
# "450 4.2.1 the user receives mail too quickly" is about one mailbox: where the enhanced code says so, the words do not
# make it the account's. (5.1.90 is how Exchange Online says that the account has its daily limit.)
_ABOUT_RECIPIENT = all_of(enhanced("4.1.x", "4.2.x", "5.1.x", "5.2.x"), not_(enhanced("5.1.90")))
_LIMIT = all_of(_REFUSED, any_of(enhanced("5.4.5"), all_of(says(words.SENDING_LIMIT), not_(_ABOUT_RECIPIENT))))
_THROTTLE = any_of(enhanced("4.7.x"), code("454"), all_of(code("452"), not_(enhanced("4.2.2"))))
_LOGINS = any_of(code("454"), all_of(_REFUSED, says(words.TOO_MANY_LOGINS)))
_AUTH_NEVER = any_of(event(Event.AUTH_NOT_OFFERED), code("432", "534", "538", "530", "500", "501", "502", "503", "504"))
_SENDER = any_of(enhanced("5.1.7", "5.1.8"), all_of(code("5xx"), says(words.ABOUT_SENDER)))
_CROWDED = any_of(enhanced("4.5.3", "5.5.3"), all_of(code("452", "552"), says(words.TOO_MANY_RECIPIENTS)))
_FULL_BOX = any_of(
    enhanced("5.2.2"), all_of(is_bare, code("552")), all_of(is_bare, code("5xx"), says(words.MAILBOX_FULL))
)
_NO_USER = all_of(is_bare, code("550", "551", "553"), says(words.NO_SUCH_USER), not_(says(words.BLOCKED)))
_SYNTAX = code("500", "501", "502", "503", "504", "555")

TABLE: Final[tuple[Row, ...]] = (
    # On our side
    Row("cancelled after the dot", at(Stage.DOT), event(Event.CANCELLED), then.UNKNOWN_BY_US),
    Row("cancelled", OPENING | BEFORE_DOT, event(Event.CANCELLED), then.GIVE_BACK),
    Row("books unavailable", ANYWHERE, event(Event.BOOKS_UNAVAILABLE), then.WITHOUT_BOOK),
    Row("larger than SIZE", ANYWHERE, event(Event.TOO_LARGE), then.TOO_BIG),
    Row("SMTPUTF8 missing", ANYWHERE, event(Event.SMTPUTF8_MISSING), then.OTHER_ACCOUNT),
    # Before the transaction
    Row(
        "no such host",
        at(Stage.CONNECT),
        event(Event.NO_SUCH_HOST),
        then.PATH,
        Patience(Scope.ACCOUNT, then.HOLD_HOST, lasting=timedelta(minutes=15)),
    ),
    Row("no connection", at(Stage.CONNECT), always, then.PATH),
    Row("greeting 4xx", at(Stage.GREETING), code("4xx"), then.PATH),
    Row("greeting 5xx", at(Stage.GREETING), code("5xx"), then.PATH, _hold_after(3, then.HOLD_GREETING)),
    Row("certificate", OPENING, event(Event.CERTIFICATE_INVALID), then.HOLD_CERTIFICATE),
    Row("too many logins", at(Stage.AUTH), _LOGINS, then.LOGIN_LATER, names_rest=True),
    Row("shutting down at once", OPENING, code("421"), then.PATH),
    Row("STARTTLS refused", at(Stage.STARTTLS), _REFUSED, then.PATH, _hold_after(3, then.HOLD_TLS)),
    Row("STARTTLS missing", OPENING, event(Event.TLS_NOT_OFFERED), then.PATH, _hold_after(3, then.HOLD_TLS)),
    Row("TLS failed", OPENING, event(Event.TLS_FAILED), then.PATH, _hold_after(3, then.HOLD_TLS)),
    Row("EHLO 5xx", at(Stage.EHLO), code("5xx"), then.HOLD_EHLO),
    Row("AUTH impossible", at(Stage.AUTH), _AUTH_NEVER, then.HOLD_AUTH),
    Row(
        "AUTH refused",
        at(Stage.AUTH),
        code("5xx"),
        then.LOGIN_ONCE_MORE,
        _hold_after(2, then.HOLD_CREDENTIAL),
    ),
    Row("AUTH 4xx", at(Stage.AUTH), code("4xx"), then.LOGIN_LATER, names_rest=True),
    Row("no conversation", OPENING, always, then.PATH),
    # Between transactions
    Row("between transactions", BETWEEN, always, then.NOTHING),
    # In every transaction
    Row("sending limit", BEFORE_DOT, _LIMIT, then.LIMIT_REACHED, _STEP_ASIDE, names_rest=True),
    Row("shutting down", BEFORE_DOT, code("421"), then.PATH),
    Row("lost before the dot", BEFORE_DOT, is_silent, then.BROKEN),
    Row("message too big", TRANSACTION, enhanced("5.3.4"), then.TOO_BIG),
    Row("sender refused", ENVELOPE, _SENDER, then.HOLD_SENDER),
    # MAIL
    Row("MAIL throttled", at(Stage.MAIL), _THROTTLE, then.LIMIT_REACHED, names_rest=True),
    Row("MAIL 4xx", at(Stage.MAIL), code("4xx"), then.SLOW_DOWN, names_rest=True),
    Row("sender not allowed", at(Stage.MAIL), enhanced("5.7.x"), then.HOLD_SENDER),
    Row("MAIL too big", at(Stage.MAIL), code("552"), then.TOO_BIG),
    # RCPT
    Row("greylisted", at(Stage.RCPT), all_of(code("4xx"), says(words.GREYLISTED)), then.DEFER),
    Row(
        "too many recipients",
        at(Stage.RCPT),
        _CROWDED,
        then.NEXT_TRANSACTION,
        # A server that says so to a single recipient would otherwise be asked for ever.
        Patience(Scope.DELIVERY, then.DEFER, count=3),
    ),
    Row(
        "mailbox full for now",
        at(Stage.RCPT),
        all_of(is_bare, code("4xx"), says(words.MAILBOX_FULL)),
        then.DEFER,
    ),
    Row("RCPT throttled", at(Stage.RCPT), _THROTTLE, then.LIMIT_REACHED, _STEP_ASIDE, names_rest=True),
    Row("RCPT 4xx", at(Stage.RCPT), code("4xx"), then.DEFER),
    Row(
        "mailbox full",
        at(Stage.RCPT),
        _FULL_BOX,
        then.DEFER,
        Patience(Scope.DELIVERY, then.STAYED_FULL, lasting=timedelta(days=3)),
    ),
    Row("recipient gone", at(Stage.RCPT), enhanced("5.1.x", "5.2.1"), then.GONE),
    Row("recipient gone, in words", at(Stage.RCPT), _NO_USER, then.GONE),
    Row("recipient refused", at(Stage.RCPT), enhanced("5.7.x"), then.REJECT),
    # Commands that the server does not understand
    Row("bad sequence", ENVELOPE | {Stage.DATA}, code("503"), then.FRESH_CONNECTION),
    Row(
        "optional parameters",
        ENVELOPE,
        _SYNTAX,
        then.WITHOUT_PARAMETERS,
        Patience(Scope.DELIVERY, then.FAIL_QUIETLY, count=2),
    ),
    Row("MAIL 5xx", at(Stage.MAIL), code("5xx"), then.HOLD_SENDER),
    Row("RCPT 5xx", at(Stage.RCPT), code("5xx"), then.REJECT),
    Row("nonsense in the envelope", ENVELOPE, always, then.BROKEN),
    # DATA
    Row("DATA throttled", at(Stage.DATA), _THROTTLE, then.LIMIT_REACHED, _STEP_ASIDE, names_rest=True),
    Row("DATA 4xx", at(Stage.DATA), code("4xx"), then.DEFER),
    Row(
        "DATA 5xx",
        at(Stage.DATA),
        code("5xx"),
        then.FRESH_CONNECTION,
        Patience(Scope.DELIVERY, then.FAIL_QUIETLY, count=2),
    ),
    Row("DATA without 354", at(Stage.DATA), always, then.BROKEN),
    # The answer to the message
    Row("sent", at(Stage.DOT), code("2xx"), then.SENT),
    Row("shutting down after the dot", at(Stage.DOT), code("421"), then.BROKEN),
    Row(
        "sending limit after the dot",
        at(Stage.DOT),
        all_of(code("5xx"), _LIMIT),
        then.LIMIT_REACHED,
        _STEP_ASIDE,
        names_rest=True,
    ),
    Row(
        "throttled after the dot",
        CONTENT,
        any_of(enhanced("4.7.x"), code("454"), all_of(code("4xx"), _LIMIT)),
        then.THROTTLED_MESSAGE,
        names_rest=True,
    ),
    Row("content 4xx", CONTENT, code("4xx"), then.DEFER),
    Row("asked again for the body", at(Stage.BODY), code("3xx"), then.BROKEN),
    Row("content 5xx", CONTENT, code("5xx"), then.REJECT_CONTENT),
    Row("no answer after the dot", CONTENT, always, then.UNKNOWN),
)
