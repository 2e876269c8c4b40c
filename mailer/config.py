"""Settings from the environment and an optional file; the only module that reads the environment.

Every service has one settings class built on CommonSettings. A setting of the service's own class is named
by its prefix (MAILER_SENDER_PORT); a common one by MAILER_ (MAILER_LOG_LEVEL) or, for one service alone, by
its prefix too (MAILER_SENDER_LOG_LEVEL). The environment wins over the file, and where both names are set the
service's own wins over the common one. Ports have no common name.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mailer.errors import CannotStart
from mailer.log import LogFormat
from mailer.secrets import Secret

COMMON_PREFIX = "MAILER_"
# Two services cannot share a port: these are only ever set by a service's own name.
_NEVER_SHARED = frozenset({"port", "metrics_port"})
FILE_SETTING = "MAILER_SETTINGS_FILE"

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}

S = TypeVar("S", bound="CommonSettings")


class SettingsError(CannotStart):
    """The settings cannot be used; one line per problem, each naming what to set."""

    exit_code = 2


def parse_span(value: object) -> timedelta:
    """Return a span written as "30s", "5m", "1h30m", "2d" or as a number of seconds."""
    if isinstance(value, timedelta):
        return value
    text = str(value).strip().lower()
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return timedelta(seconds=float(text))
        parts = _SPAN.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text.replace(" ", ""):
            return sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        pass
    raise ValueError('write a span such as "30s", "5m", "1h30m", "2d", or a number of seconds')


Span = Annotated[timedelta, BeforeValidator(parse_span)]
"""A length of time in a settings class."""


class CommonSettings(BaseSettings):
    """What every service needs to know."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    prefix: ClassVar[str] = COMMON_PREFIX

    data_dir: Path = Field(Path("data"), description="Where files are kept.")
    database_url: str = Field(
        default_factory=lambda known: f"sqlite:///{known.get('data_dir', 'data')}/mailer.db",
        description="sqlite:///path or postgresql+psycopg://...",
        repr=False,
    )
    database_busy_timeout: Span = Field(
        timedelta(seconds=5),
        description="How long a write waits before it answers UNAVAILABLE.",
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    insecure: bool = Field(False, description="Allow an address other than loopback without TLS.")
    tls_certificate_file: Path | None = Field(None, description="PEM; with it the server speaks TLS.")
    tls_key_file: Path | None = Field(None, description="PEM; the key of the certificate.")
    tls_client_ca_file: Path | None = Field(None, description="PEM; clients must then show a certificate of it.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = Field("auto", description="auto: text on a terminal, else JSON.")
    reflection: bool | None = Field(None, description="Server reflection; default: only on loopback.")
    metrics_host: str = Field("127.0.0.1", description="The address of /metrics.")
    metrics_port: int = Field(0, ge=0, le=65535, description="The port of /metrics; 0 turns it off.")
    drain: Span = Field(timedelta(seconds=20), description="How long running calls may take to end at a stop.")
    max_concurrent_calls: int = Field(
        512, ge=1, description="Calls beyond it, and streams beyond it, answer RESOURCE_EXHAUSTED."
    )
    event_loop: Literal["auto", "asyncio", "uvloop"] = Field("auto", description="auto: uvloop where installed.")
    sealing_key_file: Path = Field(
        default_factory=lambda known: Path(known.get("data_dir", "data")) / "sealing.key",
        description="Seals passwords in the database; created at the first start.",
    )
    sealing_key: Secret | None = Field(None, description="Instead of the file: keys in base64, comma separated.")

    @field_validator("log_level", "log_format", "event_loop", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def on_loopback(self) -> bool:
        """Say whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def with_reflection(self) -> bool:
        """Say whether the server describes itself."""
        return self.on_loopback if self.reflection is None else self.reflection

    def problems(self) -> list[str]:
        """Return what is wrong between settings, a line each; subclasses add theirs to super()'s."""
        found = []
        certificate, key = self.tls_certificate_file, self.tls_key_file
        if (certificate is None) != (key is None):
            missing = "tls_key_file" if key is None else "tls_certificate_file"
            found.append(f"{self.name_of(missing)}: a certificate and its key go together; set both")
        if self.tls_client_ca_file is not None and certificate is None:
            found.append(f"{self.name_of('tls_certificate_file')}: client certificates need TLS; set it too")
        for field in ("tls_certificate_file", "tls_key_file", "tls_client_ca_file"):
            path = getattr(self, field)
            if path is not None and not os.access(path, os.R_OK):
                found.append(f"{self.name_of(field)}: {path} cannot be read")
        if not self.on_loopback and certificate is None and not self.insecure:
            found.append(
                f"{self.name_of('tls_certificate_file')}: listening on {self.host} needs TLS; set it and "
                f"{self.name_of('tls_key_file')} (or MAILER_INSECURE=true on a private network)"
            )
        return found

    @classmethod
    def name_of(cls, field: str) -> str:
        """Return the environment variable that sets the field: the service's own where it has its own default."""
        return (COMMON_PREFIX if _is_common(field) else cls.prefix) + field.upper()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the names are given by pydantic-settings)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what the caller gives: `load` reads the environment, so tests need none."""
        return (init_settings,)


def is_loopback(host: str) -> bool:
    """Say whether the address is reachable from this machine only."""
    return host in {"localhost", "::1", "[::1]"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def load(settings_class: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Return the settings; raises SettingsError with *all* problems and the name to set for each."""
    names, problems = _named_values(os.environ if environ is None else environ)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field in settings_class.model_fields:
        candidates = [settings_class.prefix + field.upper()]
        if _is_common(field):
            candidates.append(COMMON_PREFIX + field.upper())
        for name in candidates:
            # An empty value is how docker-compose passes a variable that nobody set.
            if names.get(name):
                values[field], sources[field] = names[name], name
                break
    problems += _unknown_names(settings_class, names)
    settings = None
    try:
        settings = settings_class(**values)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            if detail["type"] == "default_factory_not_called":
                continue  # follows from another problem
            field = str(detail["loc"][0]) if detail["loc"] else ""
            name = sources.get(field) or settings_class.name_of(field)
            problems.append(f"{name}: {_readable(detail['msg'])}")
    if settings is not None:
        problems += settings.problems()
    if settings is None or problems:
        raise SettingsError(*problems)
    return settings


def environment() -> dict[str, str]:
    """Return a copy of the environment, for starting other processes with it."""
    return dict(os.environ)


def variable(name: str) -> str | None:
    """Return one environment variable: what an account's password reference by `env` names."""
    return os.environ.get(name)


def _is_common(field: str) -> bool:
    return field in CommonSettings.model_fields and field not in _NEVER_SHARED


def _named_values(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return file and environment as one mapping by upper-case name, and the problems with the file."""
    named = environ.get(FILE_SETTING)
    path = Path(named) if named else Path(".env")
    values: dict[str, str] = {}
    problems = []
    try:
        with path.open() as file:
            values = {
                name.upper(): value or "" for name, value in dotenv_values(stream=file, interpolate=False).items()
            }
    except FileNotFoundError:
        if named:
            problems.append(f"{FILE_SETTING}: there is no file {path}")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{FILE_SETTING}: {path} cannot be read: {error}")
    values.update((name.upper(), value) for name, value in environ.items() if name.upper().startswith(COMMON_PREFIX))
    return values, problems


def _unknown_names(settings_class: type[CommonSettings], names: Mapping[str, str]) -> list[str]:
    """Return a line for each name with the service's own prefix that sets nothing: most are misspelt."""
    prefix = settings_class.prefix
    if prefix == COMMON_PREFIX:
        return []
    # The address is for clients of the service; it is set in the same environment and the same file.
    known = {prefix + field.upper() for field in settings_class.model_fields} | {f"{prefix}ADDRESS"}
    lines = []
    for name in sorted(names):
        if name.startswith(prefix) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            lines.append(f"{name}: there is no such setting; {hint}")
    return lines


def _readable(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ").strip()
