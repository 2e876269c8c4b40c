"""Structured logs: JSON for machines, readable lines for a terminal, never a secret in either."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from mailer.secrets import MASK, Secret

LogFormat = Literal["auto", "json", "text"]

_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|token|authorization|credential|cookie"
    r"|api_?key|private_?key|sealing_?key|key_?material",
    re.IGNORECASE,
)
# Names that look secret and are not.
_HARMLESS_KEY = re.compile(r"^(page_token|claim_token|token_count|secret_kind)$", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_DEPTH = 6


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module: `log = get_logger(__name__)`; events are short lower-case sentences."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bound(**ids: str | int) -> AbstractContextManager[None]:
    """Put ids (campaign_id, run_id, delivery_id, account_id ...) on every line logged inside the block."""
    return structlog.contextvars.bound_contextvars(**ids)


def configure(
    *, service: str = "", level: str = "INFO", log_format: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Set up structlog and the standard library's logging, once, before anything else logs.

    "auto" is text on a terminal and JSON elsewhere. Everything goes to stderr unless a stream is given.
    """
    stream = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        _named(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact,
            *(_json() if as_json else _text(colors=stream.isatty())),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("asyncio", "alembic", "grpc", "sqlalchemy", "aiosmtplib"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what looks secret, at any depth: by the type Secret or by the name of its key."""
    return {key: _redacted(key, value, _DEPTH) for key, value in event.items()}


def _redacted(key: object, value: object, depth: int) -> object:
    if isinstance(value, Secret):
        return MASK
    if value and isinstance(key, str) and _SECRET_KEY.search(key) and not _HARMLESS_KEY.match(key):
        return MASK
    if isinstance(value, Mapping):
        return {name: _redacted(name, item, depth - 1) for name, item in value.items()} if depth else MASK
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(None, item, depth - 1) for item in value] if depth else MASK
    return value


def _named(service: str) -> Processor:
    def add_service(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if service:
            event.setdefault("service", service)
        return event

    return add_service


def _json() -> tuple[Processor, ...]:
    return (
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    )


def _text(*, colors: bool) -> tuple[Processor, ...]:
    return (
        _printable,
        structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        ),
    )


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep a line a line: control characters in what strangers sent must not forge or colour log lines."""
    for key, value in event.items():
        if isinstance(value, str) and key not in {"exception", "stack"}:
            event[key] = _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), value)
    return event
