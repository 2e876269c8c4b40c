"""Between accounts and their rows in `sender_accounts`."""

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping

from mailer.v1 import sender_pb2
from mailer.wire import from_duration, to_duration
from services.sender.account import Account, Credential, CredentialKind, TlsMode
from services.sender.caps import Caps
from services.sender.circuit_record import CircuitPolicy, CircuitRecord


def settings_row(account: Account) -> dict[str, Any]:
    """Return the columns that a person sets."""
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


def circuit_row(record: CircuitRecord) -> dict[str, Any]:
    """Return the columns of the circuit."""
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


def account_of(row: RowMapping | Mapping[str, Any]) -> Account:
    """Return the account that a row holds."""
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
        barred=json.loads(row["barred_addresses"]),
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
