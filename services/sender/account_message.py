"""An account as clients see it: its settings, what is stored about it and what this process knows. Never a password."""

from datetime import datetime

from mailer.v1 import sender_pb2
from mailer.wire import to_timestamp
from services.sender.account import Account, CredentialKind, TlsMode
from services.sender.account_rows import circuit_policy_to_bytes
from services.sender.circuit_record import CircuitRecord, Phase
from services.sender.gate import Gate

_Circuit = sender_pb2.Circuit

_TLS_MODES = {
    TlsMode.TLS: sender_pb2.TLS_MODE_TLS,
    TlsMode.STARTTLS: sender_pb2.TLS_MODE_STARTTLS,
    TlsMode.NONE: sender_pb2.TLS_MODE_NONE,
}
_PHASES = {
    Phase.CLOSED: _Circuit.STATE_CLOSED,
    Phase.OPEN: _Circuit.STATE_OPEN,
    Phase.HALF_OPEN: _Circuit.STATE_HALF_OPEN,
}


def settings_message(account: Account) -> sender_pb2.Account:
    """Return what a person has set. Of the credential only the user name and which kind of password it is."""
    message = sender_pb2.Account(
        name=account.name,
        host=account.host,
        port=account.port,
        tls_mode=_TLS_MODES[account.tls_mode],
        from_addresses=account.from_addresses,
        max_connection_count=account.max_connection_count,
        weight=account.weight,
        disabled=account.disabled,
        ca_certificates=account.ca_certificates,
        local_hostname=account.local_hostname,
    )
    if account.caps:
        message.caps.per_second_count = account.caps.per_second_count
        message.caps.per_minute_count = account.caps.per_minute_count
        message.caps.per_hour_count = account.caps.per_hour_count
        message.caps.per_day_count = account.caps.per_day_count
    match account.credential.kind:
        case CredentialKind.SEALED:
            message.credential.password = ""
        case CredentialKind.ENV:
            message.credential.password_env = ""
        case CredentialKind.FILE:
            message.credential.password_file = ""
        case CredentialKind.NONE:
            pass
    if account.credential.username:
        message.credential.username = account.credential.username
    policy = circuit_policy_to_bytes(account.circuit_policy)
    if policy:
        message.circuit_policy.ParseFromString(policy)
    if account.retry_policy:
        message.retry_policy.ParseFromString(account.retry_policy)
    return message


def account_message(account: Account, *, gate: Gate | None, last_day_count: int, now: datetime) -> sender_pb2.Account:
    """Return the account with how it fares; `gate` is what this process knows of it."""
    message = settings_message(account)
    message.account_id = account.account_id
    message.has_password = account.has_password
    message.circuit.CopyFrom(_circuit(account.circuit, gate, now))
    message.held = account.held
    message.hold_reason = account.hold_reason
    if account.barred and not account.held:
        message.hold_reason = "; ".join(f"for {sender} only: {why}" for sender, why in account.barred.items())
    message.last_day_count = last_day_count
    rest_until, message.rest_reason = account.rests_until(now), account.rest_reason
    if rest_until is None:
        message.rest_reason = ""
    if gate is not None:
        message.open_connection_count = gate.in_flight
        cap = gate.usage.reached(now)
        if cap is not None and (rest_until is None or cap.until > rest_until):
            rest_until, message.rest_reason = cap.until, cap.reason
    if rest_until is not None:
        message.rest_until_time.CopyFrom(to_timestamp(rest_until))
    if account.create_time is not None:
        message.create_time.CopyFrom(to_timestamp(account.create_time))
    if account.update_time is not None:
        message.update_time.CopyFrom(to_timestamp(account.update_time))
    return message


def _circuit(record: CircuitRecord, gate: Gate | None, now: datetime) -> sender_pb2.Circuit:
    failure_count, phase = record.failure_count, Phase.CLOSED if record.open_until is None else Phase.OPEN
    last_failure = record.last_failure
    if gate is not None:
        phase, failure_count = gate.circuit.phase(now), gate.circuit.failure_count
        record, last_failure = gate.circuit.record, gate.circuit.record.last_failure
    return _Circuit(
        state=_PHASES[phase],
        failure_count=failure_count,
        circuit_breaker_until=to_timestamp(record.open_until),
        last_failure=last_failure,
        opened_count=record.opened_count,
        closed_count=record.closed_count,
    )
