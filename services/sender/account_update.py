"""UpdateAccount: the fields that a mask names are laid over the account as it is. Pure."""

from google.protobuf.message import Message

from mailer.v1 import sender_pb2
from services.sender.account import DEFAULT_PORTS, Account
from services.sender.account_fields import TLS_MODES
from services.sender.account_message import settings_message

_NESTED = {
    "credential": ("username", "password", "password_env", "password_file"),
    "caps": ("per_second_count", "per_minute_count", "per_hour_count", "per_day_count"),
    "circuit_policy": ("failure_count", "rest", "max_rest"),
    "retry_policy": ("delays", "quick_attempt_count", "retry_on"),
}
UPDATABLE = frozenset(
    {
        "name",
        "host",
        "port",
        "tls_mode",
        "from_addresses",
        "max_connection_count",
        "weight",
        "disabled",
        "ca_certificates",
        "local_hostname",
        *_NESTED,
        *(f"{outer}.{inner}" for outer, inners in _NESTED.items() for inner in inners),
    }
)


def merged(account: Account, wanted: sender_pb2.Account, paths: frozenset[str]) -> sender_pb2.Account:
    """Return the settings of the account with the named fields taken from `wanted`."""
    message = settings_message(account)
    for path in sorted(paths):  # "credential" before "credential.username"
        _copy(wanted, message, path.split("."))
    uses_default_port = account.port == DEFAULT_PORTS[account.tls_mode]
    if "tls_mode" in paths and "port" not in paths and uses_default_port and message.tls_mode in TLS_MODES:
        message.port = 0  # whoever never chose a port gets the one of the new mode
    return message


def changes_password(paths: frozenset[str]) -> bool:
    """Say whether the mask names where the password comes from; else the stored one stays."""
    return any(path == "credential" or path.startswith("credential.password") for path in paths)


def _copy(source: Message, target: Message, names: list[str]) -> None:
    first, *rest = names
    if rest:
        _copy(getattr(source, first), getattr(target, first), rest)
        return
    descriptor = source.DESCRIPTOR.fields_by_name[first]
    if descriptor.has_presence and not source.HasField(first):
        target.ClearField(first)
    elif descriptor.is_repeated:
        target.ClearField(first)
        getattr(target, first).extend(getattr(source, first))
    elif descriptor.message_type is not None:
        getattr(target, first).CopyFrom(getattr(source, first))
    else:
        setattr(target, first, getattr(source, first))
