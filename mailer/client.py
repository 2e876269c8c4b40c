"""Channels to our services, and their errors as sentences for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from mailer.errors import FieldViolation
from mailer.tls import ClientTls
from mailer.wire import from_duration

_DETAILS_KEY = "grpc-status-details-bin"
_READING = ("Get", "List", "Preview", "Plan")

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    # keepalive_timeout_ms has no effect here: this is what bounds the answer to a ping.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was started again is found at once, however long it was away: a refused connection costs little.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Not a pause: how long one attempt may take, handshakes included.
    ("grpc.min_reconnect_backoff_ms", 2_000),
)


def connect(
    target: str,
    *,
    services: Iterable[ServiceDescriptor] = (),
    tls: ClientTls | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to host:port (or dns:///name:port for several servers); it connects when first used.

    Methods of `services` that are safe to repeat are retried on UNAVAILABLE, and only on that. Pass a
    `timeout=` with every call.
    """
    options = (*_OPTIONS, ("grpc.service_config", service_config(services)))
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(target, tls.credentials(), options=options, interceptors=interceptors)


def service_config(services: Iterable[ServiceDescriptor]) -> str:
    """Return the service config as JSON: retries for what is safe to repeat, spread over all addresses."""
    names = [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if is_repeatable(method)
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if names:
        config["methodConfig"] = [{"name": names, "retryPolicy": retry}]
    return json.dumps(config)


def is_repeatable(method: MethodDescriptor) -> bool:
    """Say whether a second call does no harm: it only reads, or its request carries a request_id.

    An empty request_id makes a call unsafe to repeat: our clients always fill it.
    """
    return method.name.startswith(_READING) or "request_id" in method.input_type.fields_by_name


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What a failed call says, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()
    retry_after: timedelta | None = None


def details_of(error: grpc.aio.AioRpcError) -> ErrorDetails:
    """Return the parts of an error of any server; details that do not parse are left out."""
    reason, metadata = "", {}
    violations: tuple[FieldViolation, ...] = ()
    retry_after = None
    for packed in _status_of(error).details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        try:
            if packed.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif packed.Unpack(bad):
                violations = tuple(FieldViolation(one.field, one.description) for one in bad.field_violations)
            elif packed.Unpack(retry):
                retry_after = from_duration(retry.retry_delay)
        except (DecodeError, ValueError):
            continue
    return ErrorDetails(error.code(), error.details() or "", reason, metadata, violations, retry_after)


def readable(error: grpc.aio.AioRpcError, *, target: str = "the server") -> str:  # noqa: PLR0911
    """Return one sentence for a person: what is wrong and what to do about it."""
    details = details_of(error)
    if details.violations:
        return f"{'; '.join(f'{one.field}: {one.description}' for one in details.violations).rstrip('.')}."
    message = details.message.rstrip(". ") or details.code.name.replace("_", " ").lower()
    match details.code:
        case grpc.StatusCode.UNAVAILABLE if not details.reason:
            return f"{target} cannot be reached: is the service running, and is the address right?"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer in time: look at its log, or allow more time."
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{target} does not know this call: it is another service or an older version."
        case grpc.StatusCode.INTERNAL if not details.reason:
            return f"{target} failed with a bug of its own: its log has the traceback."
        case grpc.StatusCode.RESOURCE_EXHAUSTED if details.retry_after is not None:
            return f"{message}; try again in {details.retry_after.total_seconds():g} s."
        case _:
            return f"{message}."


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()
