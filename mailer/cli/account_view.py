"""How accounts and their circuits look in a terminal."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from mailer.cli.output import Column, Output, state
from mailer.cli.words import enum_word, instant, span
from mailer.v1 import sender_pb2

NO_ACCOUNT = "There is no account yet. Add one: mailer account add --name main --host smtp.example.org --user ..."


IN_SERVICE = "in service"
"""Nothing keeps the account from sending. Whether its server takes anything is seen when something is sent."""


def account_state(account: sender_pb2.Account) -> str:
    """Return what decides whether the account takes messages now, in a word or two."""
    if account.disabled:
        return "disabled"
    if account.held:
        return "held"
    if is_circuit_open(account):
        return f"circuit {circuit_word(account.circuit)}"
    return "resting" if account.HasField("rest_until_time") else IN_SERVICE


def is_circuit_open(account: sender_pb2.Account) -> bool:
    """Say whether the circuit keeps messages back: open, or half open and letting single ones through."""
    return account.circuit.state in {sender_pb2.Circuit.STATE_OPEN, sender_pb2.Circuit.STATE_HALF_OPEN}


def circuit_word(circuit: sender_pb2.Circuit) -> str:
    """Return the word for where the circuit stands."""
    return enum_word(sender_pb2.Circuit.State.Name(circuit.state), "STATE_")


def reset_hint(account: sender_pb2.Account) -> str:
    """Return how a circuit is closed once the server is mended: by itself it waits for the end of its rest."""
    return f'mailer account reset "{account.name}" closes the circuit now'


def account_reason(account: sender_pb2.Account) -> str:
    """Return why it takes no messages now, and until when."""
    match account_state(account):
        case "held":
            return account.hold_reason
        case "circuit open" | "circuit half open":
            until = instant(account.circuit.circuit_breaker_until)
            failure = account.circuit.last_failure.rstrip(".")
            return f"{f'until {until}: ' if until else ''}{failure}; is it mended? {reset_hint(account)}"
        case "resting":
            return f"until {instant(account.rest_until_time)}: {account.rest_reason}"
        case _:
            return ""


def account_table(out: Output, accounts: Iterable[sender_pb2.Account]) -> RenderableType | str:
    """Return the list of accounts."""
    columns = (
        Column("name"),
        Column("server"),
        Column("state", is_word=True),
        Column("last 24 h", "right"),
        Column("tls", optional=True),
        Column("sends for", optional=True),
        Column("why", optional=True),
        Column("id", optional=True),
    )
    rows = (
        (
            one.name,
            f"{one.host}:{one.port}",
            state(account_state(one)),
            _used(one),
            _tls(one),
            ", ".join(one.from_addresses) or "anything",
            account_reason(one),
            one.account_id,
        )
        for one in accounts
    )
    return out.table(columns, rows, empty=NO_ACCOUNT)


def circuit_table(out: Output, accounts: Iterable[sender_pb2.Account]) -> RenderableType | str:
    """Return the accounts with what keeps them from sending."""
    columns = (
        Column("account"),
        Column("state", is_word=True),
        Column("circuit", is_word=True),
        Column("failures", "right"),
        Column("opened", "right", optional=True),
        Column("closed", "right", optional=True),
        Column("why"),
    )
    rows = (
        (
            one.name,
            state(account_state(one)),
            state(circuit_word(one.circuit)),
            str(one.circuit.failure_count),
            str(one.circuit.opened_count),
            str(one.circuit.closed_count),
            account_reason(one),
        )
        for one in accounts
    )
    return out.table(columns, rows, empty=NO_ACCOUNT)


def account_details(out: Output, account: sender_pb2.Account) -> RenderableType:
    """Return everything about one account."""
    caps = account.caps
    limits = {
        "a second": caps.per_second_count,
        "a minute": caps.per_minute_count,
        "an hour": caps.per_hour_count,
        "in 24 h": caps.per_day_count,
    }
    policy = account.circuit_policy
    return out.fields(
        [
            ("name", account.name),
            ("id", account.account_id),
            ("server", f"{account.host}:{account.port}, {_tls(account)}"),
            ("user", account.credential.username),
            ("password", _password(account)),
            ("sends for", ", ".join(account.from_addresses) or "anything"),
            ("state", state(account_state(account))),
            ("why", account_reason(account)),
            ("circuit", _circuit(account.circuit)),
            ("opens", _opens(policy)),
            ("at most", ", ".join(f"{count:,} {name}" for name, count in limits.items() if count)),
            ("last 24 h", f"{account.last_day_count:,}"),
            ("connections", f"{account.open_connection_count} open, at most {account.max_connection_count}"),
            ("weight", str(account.weight)),
            ("EHLO", account.local_hostname),
            ("authority", "private" if account.ca_certificates else ""),
            ("added", instant(account.create_time)),
            ("changed", instant(account.update_time)),
        ]
    )


def verification(out: Output, answer: sender_pb2.VerifyAccountResponse) -> RenderableType:
    """Return how far the conversation with the server came."""
    reply = answer.reply
    said = " ".join(part for part in (str(reply.code or ""), reply.enhanced_code, reply.text) if part)
    return out.fields(
        [
            ("verified", Text("yes", style="green") if answer.verified else Text("no", style="red")),
            ("stage", answer.failed_stage),
            ("reply", said),
            ("why" if not answer.verified else "result", answer.description),
            ("TLS", answer.tls_version),
            ("offers", ", ".join(answer.extensions)),
            ("took", span(answer.duration)),
        ]
    )


def _used(account: sender_pb2.Account) -> str:
    cap = account.caps.per_day_count
    return f"{account.last_day_count:,} of {cap:,}" if cap else f"{account.last_day_count:,}"


def _tls(account: sender_pb2.Account) -> str:
    word = enum_word(sender_pb2.TlsMode.Name(account.tls_mode), "TLS_MODE_")
    return "no TLS" if word == "none" else word.upper()


def _password(account: sender_pb2.Account) -> str:
    if not account.has_password:
        return "none"
    kinds = {
        "password": "sealed in the database",
        "password_env": "in the sender's environment",
        "password_file": "in the sender's secrets folder",
    }
    return kinds.get(account.credential.WhichOneof("source") or "", "stored")


def _circuit(circuit: sender_pb2.Circuit) -> str:
    return f"{circuit_word(circuit)}, {circuit.failure_count} failures in a row, opened {circuit.opened_count} times"


def _opens(policy: sender_pb2.CircuitPolicy) -> str:
    parts = (
        f"after {policy.failure_count} failures" if policy.failure_count else "",
        f"for {span(policy.rest)}" if policy.HasField("rest") else "",
        f"at most {span(policy.max_rest)}" if policy.HasField("max_rest") else "",
    )
    return ", ".join(part for part in parts if part)
