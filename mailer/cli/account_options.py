"""The options that describe an account, and the account that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from mailer.cli.failure import usage
from mailer.cli.secret_input import read_secret
from mailer.config import parse_span
from mailer.v1 import sender_pb2
from mailer.wire import to_duration


class Tls(StrEnum):
    """How the connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


_MODES = {
    Tls.TLS: sender_pb2.TLS_MODE_TLS,
    Tls.STARTTLS: sender_pb2.TLS_MODE_STARTTLS,
    Tls.NONE: sender_pb2.TLS_MODE_NONE,
}
_LIMITS = "Limits"
_CIRCUIT = "Circuit and retry"
_AUTH = "Login"

Name = Annotated[str | None, typer.Option(help="Name for people, unique.")]
Host = Annotated[str | None, typer.Option(help="Host name or address of the server.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 means 465 with tls, 587 with starttls.")]
TlsMode = Annotated[Tls | None, typer.Option("--tls", help="tls from the first byte; none on loopback only.")]
From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="ADDRESS|@DOMAIN", help="What it may send for; may be repeated. Else anything."),
]
Disabled = Annotated[bool | None, typer.Option("--disabled/--enabled", help="Keep it out of use.")]
Ehlo = Annotated[str | None, typer.Option("--ehlo", metavar="NAME", help="Name for EHLO.")]
CaCertificates = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Trust this private authority instead of the system's.")
]
User = Annotated[str | None, typer.Option(help="User name; asks for the password.", rich_help_panel=_AUTH)]
PasswordEnv = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The sender's variable MAILER_SECRET_... has it.", rich_help_panel=_AUTH),
]
PasswordFile = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="This file in the sender's secrets folder has it.", rich_help_panel=_AUTH),
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read it from stdin.", rich_help_panel=_AUTH)]
Connections = Annotated[
    int | None, typer.Option(min=1, max=100, help="Connections at the same time. Default 5.", rich_help_panel=_LIMITS)
]
Weight = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Share beside other accounts. Default 1.", rich_help_panel=_LIMITS)
]
PerSecond = Annotated[int | None, typer.Option(min=0, help="Messages; 0: no limit.", rich_help_panel=_LIMITS)]
PerMinute = Annotated[int | None, typer.Option(min=0, help="The same a minute.", rich_help_panel=_LIMITS)]
PerHour = Annotated[int | None, typer.Option(min=0, help="The same an hour.", rich_help_panel=_LIMITS)]
PerDay = Annotated[int | None, typer.Option(min=0, help="The same in any 24 hours.", rich_help_panel=_LIMITS)]
CircuitFailures = Annotated[
    int | None, typer.Option(min=1, max=100, help="Failures that open it. Default 5.", rich_help_panel=_CIRCUIT)
]
CircuitRest = Annotated[
    str | None, typer.Option(metavar="SPAN", help="How long it stays open. Default 5m.", rich_help_panel=_CIRCUIT)
]
CircuitMaxRest = Annotated[
    str | None, typer.Option(metavar="SPAN", help="Longest rest. Default 30m.", rich_help_panel=_CIRCUIT)
]
RetryDelays = Annotated[
    list[str] | None,
    typer.Option("--retry-delay", metavar="SPAN", help="Wait before a retry; repeated.", rich_help_panel=_CIRCUIT),
]
RetryOn = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE", help='Retry this refusal too: "550", "5.7.1", "5xx".', rich_help_panel=_CIRCUIT),
]


@dataclass(frozen=True, kw_only=True)
class AccountOptions:
    """What was said about an account; None means: nothing."""

    name: str | None
    host: str | None
    port: int | None
    tls: Tls | None
    from_addresses: Sequence[str] | None
    disabled: bool | None
    ehlo: str | None
    ca_certificates: Path | None
    user: str | None
    password_env: str | None
    password_file: str | None
    password_stdin: bool
    connections: int | None
    weight: int | None
    per_second: int | None
    per_minute: int | None
    per_hour: int | None
    per_day: int | None
    circuit_failures: int | None
    circuit_rest: str | None
    circuit_max_rest: str | None
    retry_delays: Sequence[str] | None
    retry_on: Sequence[str] | None

    def to_account(self, *, ask_password: bool) -> tuple[sender_pb2.Account, list[str]]:
        """Return the account and the paths of the fields that were named.

        Where a user is named without a password, `ask_password` asks for it.
        """
        account = sender_pb2.Account()
        paths = []
        certificates = self.ca_certificates.read_text(encoding="ascii") if self.ca_certificates else None
        plain = {
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "tls_mode": _MODES[self.tls] if self.tls else None,
            "disabled": self.disabled,
            "local_hostname": self.ehlo,
            "ca_certificates": certificates,
            "max_connection_count": self.connections,
            "weight": self.weight,
        }
        for field, value in plain.items():
            if value is not None:
                setattr(account, field, value)
                paths.append(field)
        if self.from_addresses:
            account.from_addresses.extend(self.from_addresses)
            paths.append("from_addresses")
        paths += self._caps(account.caps) + self._credential(account, ask_password=ask_password)
        paths += self._circuit_policy(account.circuit_policy) + self._retry_policy(account.retry_policy)
        # A part that nothing was said about must not be there at all.
        for part in ("caps", "circuit_policy", "retry_policy"):
            if not any(path.startswith(part) for path in paths):
                account.ClearField(part)
        return account, paths

    def _caps(self, caps: sender_pb2.AccountCaps) -> list[str]:
        spans = {
            "per_second_count": self.per_second,
            "per_minute_count": self.per_minute,
            "per_hour_count": self.per_hour,
            "per_day_count": self.per_day,
        }
        named = {field: value for field, value in spans.items() if value is not None}
        for field, value in named.items():
            setattr(caps, field, value)
        return [f"caps.{field}" for field in named]

    def _credential(self, account: sender_pb2.Account, *, ask_password: bool) -> list[str]:
        if sum((bool(self.password_env), bool(self.password_file), self.password_stdin)) > 1:
            raise usage("a password has one source: choose one of --password-env, --password-file, --password-stdin.")
        paths = []
        if self.user is not None:
            account.credential.username = self.user
            paths.append("credential.username")
        if self.password_env:
            account.credential.password_env = self.password_env
            paths.append("credential.password_env")
        elif self.password_file:
            account.credential.password_file = self.password_file
            paths.append("credential.password_file")
        elif self.password_stdin or (self.user and ask_password):
            password = read_secret("Password: ", from_stdin=self.password_stdin)
            account.credential.password = password.reveal()
            paths.append("credential.password")
        return paths

    def _circuit_policy(self, policy: sender_pb2.CircuitPolicy) -> list[str]:
        paths = []
        if self.circuit_failures is not None:
            policy.failure_count = self.circuit_failures
            paths.append("circuit_policy.failure_count")
        for field, text in (("rest", self.circuit_rest), ("max_rest", self.circuit_max_rest)):
            if text is not None:
                getattr(policy, field).CopyFrom(duration(text, f"--circuit-{field.replace('_', '-')}"))
                paths.append(f"circuit_policy.{field}")
        return paths

    def _retry_policy(self, policy: sender_pb2.RetryPolicy) -> list[str]:
        paths = []
        if self.retry_delays:
            policy.delays.extend(duration(text, "--retry-delay") for text in self.retry_delays)
            paths.append("retry_policy.delays")
        if self.retry_on:
            policy.retry_on.extend(self.retry_on)
            paths.append("retry_policy.retry_on")
        return paths


def duration(text: str, option: str) -> Duration:
    """Return a span written as "5m" or "1h30m"; raises Failure naming the option."""
    try:
        return to_duration(parse_span(text))
    except ValueError as error:
        raise usage(f'{option} "{text}": {error}.') from None
