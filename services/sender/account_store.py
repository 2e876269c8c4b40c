"""Accounts in SQL. Every change raises `version`, which is how other processes notice.

What the delivery loop learns (circuit, hold, rest) and what a person sets are different columns, so neither
undoes the other; a change of the circuit names the circuit it leaves, so of two processes one wins and the
other learns.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, exists, func, insert, or_, select, tuple_, update

from mailer.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound
from mailer.v1 import sender_pb2
from mailer.wire import from_duration, to_duration
from services.sender.account import Account, Credential, CredentialKind, TlsMode
from services.sender.breaker import CircuitPolicy, CircuitRecord
from services.sender.caps import Caps
from services.sender.tables import IS_IN_PROGRESS, account_usage, accounts, deliveries


def create(connection: Connection, account: Account, *, now: datetime) -> Account:
    """Store a new account; raises AlreadyExists when its name is taken."""
    _refuse_taken_name(connection, account)
    values = _settings(account) | _circuit(account.circuit)
    connection.execute(
        insert(accounts).values(
            account_id=account.account_id,
            held=False,
            hold_reason="",
            rest_until=None,
            rest_reason="",
            version=1,
            create_time=now,
            update_time=now,
            **values,
        )
    )
    return get(connection, account.account_id)


def find(connection: Connection, account_id: str) -> Account | None:
    """Return the account, or None."""
    row = connection.execute(select(accounts).where(accounts.c.account_id == account_id)).one_or_none()
    return None if row is None else _account(row._mapping)


def get(connection: Connection, account_id: str) -> Account:
    """Return the account; raises NotFound."""
    account = find(connection, account_id)
    if account is None:
        raise no_account(account_id)
    return account


def no_account(account_id: str) -> NotFound:
    """Return the error for an account that does not exist."""
    return NotFound(
        f"There is no account {account_id}: ListAccounts shows them all.",
        reason="ACCOUNT_NOT_FOUND",
        metadata={"account_id": account_id},
    )


def list_page(connection: Connection, *, after: tuple[str, str] | None, limit: int) -> list[Account]:
    """Return accounts by name, then id, behind (name, id) `after`."""
    query = select(accounts).order_by(accounts.c.name, accounts.c.account_id).limit(limit)
    if after is not None:
        query = query.where(tuple_(accounts.c.name, accounts.c.account_id) > tuple_(*after))
    return [_account(row._mapping) for row in connection.execute(query)]


def read_all(connection: Connection) -> list[Account]:
    """Return every account, by name."""
    rows = connection.execute(select(accounts).order_by(accounts.c.name, accounts.c.account_id))
    return [_account(row._mapping) for row in rows]


def read_versions(connection: Connection) -> dict[str, int]:
    """Return the version of every account: what the others may have changed."""
    rows = connection.execute(select(accounts.c.account_id, accounts.c.version))
    return {row.account_id: row.version for row in rows}


def update_settings(connection: Connection, account: Account, *, expected_version: int, now: datetime) -> Account:
    """Store what a person set; raises Aborted when the account changed since it was read."""
    _refuse_taken_name(connection, account)
    changed = connection.execute(
        update(accounts)
        .where(accounts.c.account_id == account.account_id, accounts.c.version == expected_version)
        .values(version=accounts.c.version + 1, update_time=now, **_settings(account))
    ).rowcount
    if not changed:
        get(connection, account.account_id)
        raise Aborted("The account was changed meanwhile: read it and try again.", reason="ACCOUNT_CHANGED")
    return get(connection, account.account_id)


def remove(connection: Connection, account_id: str) -> None:
    """Delete an account; raises FailedPrecondition while a message is on its way through it."""
    get(connection, account_id)
    busy = connection.execute(
        select(func.count()).select_from(deliveries).where(IS_IN_PROGRESS, deliveries.c.account_id == account_id)
    ).scalar_one()
    if busy:
        raise FailedPrecondition(
            f"{busy} message(s) are on their way through the account: hold it, wait until they have ended, "
            "then delete it.",
            reason="ACCOUNT_IN_USE",
            metadata={"account_id": account_id, "in_progress_count": str(busy)},
        )
    connection.execute(delete(account_usage).where(account_usage.c.account_id == account_id))
    connection.execute(delete(accounts).where(accounts.c.account_id == account_id))


def hold(connection: Connection, account_id: str, *, reason: str, now: datetime) -> Account:
    """Take the account out of service until it is released; a held one gets the new reason."""
    return _change(connection, account_id, now, held=True, hold_reason=reason)


def release(connection: Connection, account_id: str, *, now: datetime) -> Account:
    """Put the account back into service and end its rest; changes nothing when it neither holds nor rests."""
    account = get(connection, account_id)
    if not account.held and account.rest_until is None:
        return account
    return _change(connection, account_id, now, held=False, hold_reason="", rest_until=None, rest_reason="")


def rest(connection: Connection, account_id: str, *, until: datetime, reason: str, now: datetime) -> Account:
    """Let the account rest until then; a longer rest that was asked for before stays."""
    account = get(connection, account_id)
    present = account.rests_until(now)
    if present is not None and present >= until:
        return account
    return _change(connection, account_id, now, rest_until=until, rest_reason=reason)


def reset_circuit(connection: Connection, account_id: str, *, now: datetime) -> Account:
    """Close the circuit, because a person says so, and forget its failures."""
    before = get(connection, account_id).circuit
    closed = CircuitRecord(
        opened_count=before.opened_count,
        closed_count=before.closed_count + (before.open_until is not None),
    )
    return _change(connection, account_id, now, **_circuit(closed))


def store_opened(connection: Connection, account_id: str, record: CircuitRecord, *, now: datetime) -> Account:
    """Store that the circuit opened, unless it is open already. Returns the account as it is then."""
    is_closed = accounts.c.circuit_breaker_until.is_(None)
    return _change(connection, account_id, now, is_closed, **_circuit(record))


def store_probed(
    connection: Connection, account_id: str, record: CircuitRecord, *, worker: str, now: datetime
) -> Account:
    """Store what the probe of this worker came to, unless the probe was lost to another."""
    is_ours = accounts.c.probe_worker == worker
    return _change(connection, account_id, now, is_ours, **_circuit(record))


def claim_probe(
    connection: Connection,
    account_id: str,
    *,
    worker: str,
    until: datetime,
    longest_rest: timedelta,
    now: datetime,
) -> tuple[bool, Account]:
    """Claim the one probe of an open circuit whose rest is over, by compare-and-set.

    Returns whether this worker has it now, and the account. A claim whose deadline passed is free again; so
    is an `open until` further away than the longest rest, which only a clock that was set back can make.
    """
    changed = connection.execute(
        update(accounts)
        .where(
            accounts.c.account_id == account_id,
            or_(
                accounts.c.circuit_breaker_until <= now,
                accounts.c.circuit_breaker_until > now + longest_rest,
            ),
            or_(
                accounts.c.probe_until.is_(None),
                accounts.c.probe_until <= now,
                accounts.c.probe_until > until,
            ),
        )
        .values(probe_worker=worker, probe_until=until, version=accounts.c.version + 1)
    ).rowcount
    return changed == 1, get(connection, account_id)


def _change(connection: Connection, account_id: str, now: datetime, *conditions: Any, **values: Any) -> Account:
    connection.execute(
        update(accounts)
        .where(accounts.c.account_id == account_id, *conditions)
        .values(version=accounts.c.version + 1, update_time=now, **values)
    )
    return get(connection, account_id)


def _refuse_taken_name(connection: Connection, account: Account) -> None:
    taken = connection.execute(
        select(exists().where(accounts.c.name == account.name, accounts.c.account_id != account.account_id))
    ).scalar_one()
    if taken:
        raise AlreadyExists(
            f'There is an account named "{account.name}" already: choose another name.',
            reason="ACCOUNT_NAME_TAKEN",
            metadata={"name": account.name},
        )


def _settings(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "host": account.host,
        "port": account.port,
        "tls_mode": account.tls_mode.value,
        "username": account.credential.username,
        "credential_kind": account.credential.kind.value,
        "credential_value": account.credential.value,
        "from_addresses": json.dumps(account.from_addresses),
        "max_connection_count": account.max_connection_count,
        "per_second_count": account.caps.per_second_count,
        "per_minute_count": account.caps.per_minute_count,
        "per_hour_count": account.caps.per_hour_count,
        "per_day_count": account.caps.per_day_count,
        "weight": account.weight,
        "disabled": account.disabled,
        "ca_certificates": account.ca_certificates,
        "local_hostname": account.local_hostname,
        "circuit_policy": circuit_policy_to_bytes(account.circuit_policy),
        "retry_policy": account.retry_policy,
    }


def _circuit(record: CircuitRecord) -> dict[str, Any]:
    return {
        "circuit_breaker_until": record.open_until,
        "circuit_rest_seconds": math.ceil(record.rest.total_seconds()),
        "circuit_failure_count": record.failure_count,
        "circuit_last_failure": record.last_failure,
        "circuit_opened_count": record.opened_count,
        "circuit_closed_count": record.closed_count,
        "probe_worker": record.probe_worker,
        "probe_until": record.probe_until,
    }


def _account(row: RowMapping | Mapping[str, Any]) -> Account:
    return Account(
        account_id=row["account_id"],
        name=row["name"],
        host=row["host"],
        port=row["port"],
        tls_mode=TlsMode(row["tls_mode"]),
        credential=Credential(
            username=row["username"],
            kind=CredentialKind(row["credential_kind"]),
            value=row["credential_value"],
        ),
        from_addresses=tuple(json.loads(row["from_addresses"])),
        max_connection_count=row["max_connection_count"],
        caps=Caps(
            per_second_count=row["per_second_count"],
            per_minute_count=row["per_minute_count"],
            per_hour_count=row["per_hour_count"],
            per_day_count=row["per_day_count"],
        ),
        weight=row["weight"],
        disabled=row["disabled"],
        ca_certificates=row["ca_certificates"],
        local_hostname=row["local_hostname"],
        circuit_policy=circuit_policy_from_bytes(row["circuit_policy"]),
        retry_policy=bytes(row["retry_policy"]),
        circuit=CircuitRecord(
            open_until=row["circuit_breaker_until"],
            rest=timedelta(seconds=row["circuit_rest_seconds"]),
            failure_count=row["circuit_failure_count"],
            last_failure=row["circuit_last_failure"],
            opened_count=row["circuit_opened_count"],
            closed_count=row["circuit_closed_count"],
            probe_worker=row["probe_worker"],
            probe_until=row["probe_until"],
        ),
        held=row["held"],
        hold_reason=row["hold_reason"],
        rest_until=row["rest_until"],
        rest_reason=row["rest_reason"],
        version=row["version"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def circuit_policy_to_bytes(policy: CircuitPolicy) -> bytes:
    """Return the policy as it is stored."""
    message = sender_pb2.CircuitPolicy(
        failure_count=policy.failure_count or 0,
        rest=to_duration(policy.rest),
        max_rest=to_duration(policy.max_rest),
    )
    return message.SerializeToString(deterministic=True)


def circuit_policy_from_bytes(stored: bytes) -> CircuitPolicy:
    """Return the stored policy."""
    message = sender_pb2.CircuitPolicy.FromString(stored)
    return CircuitPolicy(
        failure_count=message.failure_count or None,
        rest=from_duration(message.rest) if message.HasField("rest") else None,
        max_rest=from_duration(message.max_rest) if message.HasField("max_rest") else None,
    )
