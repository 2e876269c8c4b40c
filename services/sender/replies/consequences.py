"""What can follow, by name: the right-hand side of the table, and what operators are told to do."""

from datetime import timedelta
from typing import Final

from services.sender.replies.verdict import Action, Breaker, Hold, Verdict

# The message
SENT: Final = Verdict(Action.SENT, Breaker.SUCCESS)
DEFER: Final = Verdict(Action.DEFER, Breaker.SUCCESS)
FAIL: Final = Verdict(Action.FAIL, Breaker.SUCCESS)
UNKNOWN: Final = Verdict(
    Action.UNKNOWN,
    Breaker.FAILURE,
    close_connection=True,
    reason="Nobody can say whether the message was accepted.",
)
UNKNOWN_BY_US: Final = Verdict(
    Action.UNKNOWN, close_connection=True, reason="Nobody can say whether the message was accepted."
)
BROKEN: Final = Verdict(Action.DEFER, Breaker.FAILURE, close_connection=True, reason="Certainly not accepted.")
TOO_BIG: Final = Verdict(
    Action.FAIL,
    Breaker.SUCCESS,
    tell_run=True,
    reason="The message is too large for this account: make it smaller, or use an account that takes more.",
)
REJECT_CONTENT: Final = Verdict(Action.FAIL, Breaker.SUCCESS, counts_against_run=True)
FRESH_CONNECTION: Final = Verdict(Action.DEFER, close_connection=True)
FAIL_QUIETLY: Final = Verdict(Action.FAIL, close_connection=True)
WITHOUT_PARAMETERS: Final = Verdict(Action.AGAIN_PLAIN, close_connection=True)
NEXT_TRANSACTION: Final = Verdict(Action.AGAIN_NOW, Breaker.SUCCESS)
OTHER_ACCOUNT: Final = Verdict(Action.OTHER_ACCOUNT, reason="Use an account whose server offers SMTPUTF8.")

# The recipient
GONE: Final = Verdict(Action.FAIL, Breaker.SUCCESS, suppress=True, reason="The address does not exist.")
REJECT: Final = Verdict(Action.FAIL, Breaker.SUCCESS, feeds_guard=True)
STAYED_FULL: Final = Verdict(Action.FAIL, Breaker.SUCCESS, reason="The mailbox stayed full for days.")

# The path and the account
NOTHING: Final = Verdict(Action.NOTHING, close_connection=True)
GIVE_BACK: Final = Verdict(Action.REQUEUE, close_connection=True)
WITHOUT_BOOK: Final = Verdict(
    Action.REQUEUE, close_connection=True, reason="Nothing is sent without an entry in the book."
)
PATH: Final = Verdict(Action.REQUEUE, Breaker.FAILURE, close_connection=True)
SLOW_DOWN: Final = Verdict(Action.REQUEUE, Breaker.REST, rest=timedelta(minutes=1))
LIMIT_REACHED: Final = Verdict(Action.REQUEUE, Breaker.REST, reason="The account has reached a limit and rests.")
STEP_ASIDE: Final = Verdict(Action.DEFER, reason="A limit was named twice in a row: others go first.")
THROTTLED_MESSAGE: Final = Verdict(Action.DEFER, Breaker.REST, reason="The account has reached a limit and rests.")
LOGIN_LATER: Final = Verdict(Action.REQUEUE, Breaker.REST, close_connection=True, rest=timedelta(minutes=10))
LOGIN_ONCE_MORE: Final = Verdict(
    # Hammering locks accounts.
    Action.REQUEUE,
    Breaker.TRIP,
    close_connection=True,
    rest=timedelta(seconds=60),
)


def _held(breaker: Breaker, reason: str, hold: Hold = Hold.ACCOUNT) -> Verdict:
    """Requeue, and let the account wait for a person, who is told what to do."""
    return Verdict(Action.REQUEUE, breaker, hold, close_connection=True, reason=reason)


HOLD_HOST: Final = _held(Breaker.FAILURE, "Check the host name of the account, then release it.")
HOLD_GREETING: Final = _held(
    Breaker.FAILURE,
    "The server refuses us at once: ask its operator, or check host and port, then release the account.",
)
HOLD_TLS: Final = _held(
    Breaker.FAILURE,
    "No TLS, and nothing is ever sent in plain text: check port and TLS mode of the account, then release it.",
)
HOLD_CERTIFICATE: Final = _held(
    Breaker.TRIP,
    "No password was sent. Check the host name, or give the account the certificate of its authority, then release it.",
)
HOLD_EHLO: Final = _held(
    Breaker.FAILURE, "TLS and AUTH need EHLO: check host and port of the account, then release it."
)
HOLD_CREDENTIAL: Final = _held(
    Breaker.TRIP,
    "The user name or password is refused: correct the credential of the account, then release it.",
)
HOLD_AUTH: Final = _held(
    Breaker.TRIP,
    "The server does not let this account log in the way it is set up: check its TLS mode and credential,"
    " or enable SMTP login at the provider, then release the account.",
)
HOLD_SENDER: Final = _held(
    Breaker.TRIP,
    "The account may not send for this From address: allow it at the provider,"
    " or set the account's from_addresses, then release it.",
    Hold.SENDER,
)
