"""Accounts on the wire: what a client may set is checked here, all of it at once, and becomes an Account."""

import ipaddress
import re

from cryptography.x509 import load_pem_x509_certificates

from mailer.config import is_loopback
from mailer.delivery_options import check_retry_policy
from mailer.message.address import check_address, mailbox_key
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import from_duration
from services.sender.account import (
    DEFAULT_CONNECTION_COUNT,
    DEFAULT_PORTS,
    DEFAULT_WEIGHT,
    Account,
    Credential,
    TlsMode,
)
from services.sender.account_rows import circuit_policy_from_bytes
from services.sender.caps import Caps

OUTPUT_ONLY = (
    "account_id",
    "has_password",
    "circuit",
    "held",
    "hold_reason",
    "rest_until_time",
    "rest_reason",
    "last_day_count",
    "open_connection_count",
    "create_time",
    "update_time",
)
MOST_NAME_CHARACTERS = 100
MOST_CONNECTIONS = 100
MOST_WEIGHT = 1000
MOST_FROM_ADDRESSES = 100
MOST_CERTIFICATE_BYTES = 256 * 1024
MOST_PER_TIME = 1_000_000_000
MOST_FAILURES = 100
MOST_CREDENTIAL_CHARACTERS = 512

TLS_MODES = {
    sender_pb2.TLS_MODE_UNSPECIFIED: TlsMode.TLS,
    sender_pb2.TLS_MODE_TLS: TlsMode.TLS,
    sender_pb2.TLS_MODE_STARTTLS: TlsMode.STARTTLS,
    sender_pb2.TLS_MODE_NONE: TlsMode.NONE,
}

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DAY_SECONDS = 24 * 3600


def check_account(message: sender_pb2.Account, violations: Violations, *, field: str = "account") -> None:
    """Note every problem with what a client may set, but for where the password comes from."""
    _check_name(message.name, violations, f"{field}.name")
    _check_host(message.host, violations, f"{field}.host")
    if message.port > 65535:
        violations.add(f"{field}.port", "use 1 to 65535, or 0 for 465 (TLS) or 587 (STARTTLS)")
    _check_tls(message, violations, field)
    _check_username(message.credential, violations, f"{field}.credential")
    _check_from_addresses(message, violations, f"{field}.from_addresses")
    if message.max_connection_count > MOST_CONNECTIONS:
        violations.add(
            f"{field}.max_connection_count",
            f"use 1 to {MOST_CONNECTIONS}, or 0 for {DEFAULT_CONNECTION_COUNT}",
        )
    for descriptor, count in message.caps.ListFields():
        if count > MOST_PER_TIME:
            violations.add(f"{field}.caps.{descriptor.name}", f"use at most {MOST_PER_TIME}, or 0 for no limit")
    if message.weight > MOST_WEIGHT:
        violations.add(f"{field}.weight", f"use 1 to {MOST_WEIGHT}, or 0 for {DEFAULT_WEIGHT}")
    _check_certificates(message.ca_certificates, violations, f"{field}.ca_certificates")
    if message.local_hostname and not _is_host(message.local_hostname.strip("[]")):
        violations.add(
            f"{field}.local_hostname", 'is no host name: write one like "mail.example.org", or leave it empty'
        )
    _check_circuit_policy(message.circuit_policy, violations, f"{field}.circuit_policy")
    check_retry_policy(message.retry_policy, violations, field=f"{field}.retry_policy")


def check_output_only(message: sender_pb2.Account, violations: Violations, *, field: str = "account") -> None:
    """Note fields that only the server sets."""
    for descriptor, _ in message.ListFields():
        if descriptor.name in OUTPUT_ONLY:
            violations.add(f"{field}.{descriptor.name}", "is set by the server: leave it out")


def to_account(message: sender_pb2.Account, *, account_id: str, credential: Credential) -> Account:
    """Return the account that a checked message describes."""
    mode = TLS_MODES[message.tls_mode]
    return Account(
        account_id=account_id,
        name=message.name,
        host=message.host,
        port=message.port or DEFAULT_PORTS[mode],
        tls_mode=mode,
        credential=credential,
        from_addresses=tuple(dict.fromkeys(mailbox_key(address) for address in message.from_addresses)),
        max_connection_count=message.max_connection_count or DEFAULT_CONNECTION_COUNT,
        caps=Caps(
            per_second_count=message.caps.per_second_count,
            per_minute_count=message.caps.per_minute_count,
            per_hour_count=message.caps.per_hour_count,
            per_day_count=message.caps.per_day_count,
        ),
        weight=message.weight or DEFAULT_WEIGHT,
        disabled=message.disabled,
        ca_certificates=message.ca_certificates,
        local_hostname=message.local_hostname,
        circuit_policy=circuit_policy_from_bytes(message.circuit_policy.SerializeToString()),
        retry_policy=message.retry_policy.SerializeToString(deterministic=True),
    )


def _check_name(name: str, violations: Violations, field: str) -> None:
    if not name.strip():
        violations.add(field, "is missing: give the account a name")
    elif len(name) > MOST_NAME_CHARACTERS:
        violations.add(field, f"has {len(name)} characters: use at most {MOST_NAME_CHARACTERS}")
    elif name != name.strip() or _CONTROL.search(name):
        violations.add(field, "begins or ends with a space or has control characters: remove them")


def _check_host(host: str, violations: Violations, field: str) -> None:
    if not host:
        violations.add(field, 'is missing: write a host name like "smtp.example.org"')
    elif not _is_host(host):
        violations.add(
            field,
            'is no host name or IP address: write one like "smtp.example.org", without port, scheme or spaces',
        )


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))
    return True


def _check_tls(message: sender_pb2.Account, violations: Violations, field: str) -> None:
    if message.tls_mode not in TLS_MODES:
        violations.add(f"{field}.tls_mode", "use TLS_MODE_TLS, TLS_MODE_STARTTLS or TLS_MODE_NONE")
    if message.tls_mode != sender_pb2.TLS_MODE_NONE:
        return
    if not is_loopback(message.host):
        violations.add(
            f"{field}.tls_mode", "without TLS only this machine may be used: use TLS_MODE_TLS or TLS_MODE_STARTTLS"
        )
        violations.add(f"{field}.host", "must be a loopback address such as 127.0.0.1 with TLS_MODE_NONE")
    source = message.credential.WhichOneof("source")
    if source:
        violations.add(
            f"{field}.tls_mode",
            "a password never travels in clear: use TLS_MODE_TLS or TLS_MODE_STARTTLS, or no password",
        )
        violations.add(f"{field}.credential.{source}", "cannot be used with TLS_MODE_NONE: remove it or use TLS")


def _check_username(credential: sender_pb2.Credential, violations: Violations, field: str) -> None:
    source = credential.WhichOneof("source")
    name = credential.username
    if source and not name:
        violations.add(f"{field}.username", "is missing: give the user name that goes with the password")
    if name and not source:
        violations.add(field, "has a user name and no password: give one, or leave the credential out for no AUTH")
    if len(name) > MOST_CREDENTIAL_CHARACTERS or _CONTROL.search(name):
        violations.add(
            f"{field}.username", f"use at most {MOST_CREDENTIAL_CHARACTERS} characters without control characters"
        )
    if source == "password" and (
        len(credential.password) > MOST_CREDENTIAL_CHARACTERS or _CONTROL.search(credential.password)
    ):
        violations.add(
            f"{field}.password", f"use at most {MOST_CREDENTIAL_CHARACTERS} characters without control characters"
        )


def _check_from_addresses(message: sender_pb2.Account, violations: Violations, field: str) -> None:
    if len(message.from_addresses) > MOST_FROM_ADDRESSES:
        violations.add(field, f"use at most {MOST_FROM_ADDRESSES}; a domain (@example.org) covers all of its addresses")
    for index, address in enumerate(message.from_addresses[:MOST_FROM_ADDRESSES]):
        problem = check_address(f"postmaster{address}" if address.startswith("@") else address)
        if problem:
            violations.add(f"{field}[{index}]", f'{problem} (or a whole domain like "@example.com")')


def _check_certificates(pem: str, violations: Violations, field: str) -> None:
    if not pem:
        return
    if len(pem) > MOST_CERTIFICATE_BYTES:
        violations.add(field, f"has {len(pem)} characters: use at most {MOST_CERTIFICATE_BYTES}")
        return
    try:
        load_pem_x509_certificates(pem.encode())
    except ValueError:
        violations.add(
            field,
            "is no PEM certificate: paste all of it, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        )


def _check_circuit_policy(policy: sender_pb2.CircuitPolicy, violations: Violations, field: str) -> None:
    if policy.failure_count > MOST_FAILURES:
        violations.add(f"{field}.failure_count", f"use 1 to {MOST_FAILURES}, or 0 for the default of 5")
    spans = {}
    for name in ("rest", "max_rest"):
        if not policy.HasField(name):
            continue
        try:
            spans[name] = from_duration(getattr(policy, name)).total_seconds()
        except ValueError:
            spans[name] = 0
        if not 1 <= spans[name] <= _DAY_SECONDS:
            violations.add(f"{field}.{name}", "use between 1 second and 24 hours (86400s)")
    if "max_rest" in spans and "rest" in spans and spans["max_rest"] < spans["rest"]:
        violations.add(f"{field}.max_rest", "is shorter than rest: make it at least as long")
