"""A snapshot as its manifest describes it: the one file that says what the packed copy beside it must be."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

FORMAT = 1
ENGINE = "sqlite"

_ID = re.compile(r"mailer_(\d{8}T\d{6})Z-[0-9a-f]{8}", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Trigger(StrEnum):
    """Why a snapshot was taken."""

    MANUAL = "manual"
    CRON = "cron"
    PRE_RESTORE = "pre-restore"


class State(StrEnum):
    """What is known about a snapshot's soundness."""

    OK = "ok"
    DAMAGED = "damaged"
    UNVERIFIED = "unverified"
    LOCKED = "locked"
    """Encrypted under a key that this service was not given."""


def make_id(now: datetime, *, suffix: str) -> str:
    """Return the id of a snapshot taken now; the suffix (8 hex digits) keeps two of one second apart."""
    return f"mailer_{now.astimezone(UTC):%Y%m%dT%H%M%S}Z-{suffix}"


def is_snapshot_id(text: str) -> bool:
    """Say whether the text can be an id of ours: the gate between what a client sends and the disk."""
    return _ID.fullmatch(text) is not None


def time_in_id(snapshot_id: str) -> datetime:
    """Return the instant an id names: all that is left of a snapshot whose manifest cannot be read."""
    match = _ID.fullmatch(snapshot_id)
    if match is None:
        raise ValueError(f"not a snapshot id: {snapshot_id!r}")
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


class ManifestDamaged(Exception):
    """The manifest cannot be read, or is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of the whole database at one instant, and everything needed to prove that it still is."""

    snapshot_id: str
    created_time: datetime
    trigger: Trigger = Trigger.MANUAL
    pinned: bool = False
    note: str = ""
    request_id: str = ""
    request_digest: str = ""
    """Of the request that asked for it: tells a repeated call from another one under the same id."""
    engine: str = ENGINE
    application_id: int = 0
    schema_revisions: Mapping[str, str] = field(default_factory=dict)
    """Revision of the tables by their owner."""
    incarnation: str = ""
    page_size: int = 0
    text_encoding: str = ""
    row_counts: Mapping[str, int] = field(default_factory=dict)
    packing: str = "zstd"
    plain_size_bytes: int = 0
    packed_size_bytes: int = 0
    plain_sha256: str = ""
    packed_sha256: str = ""
    key_id: str = ""
    """Of the key that the packed copy is encrypted under; empty when it is not encrypted."""
    duration_seconds: float = 0.0
    writer_wait_seconds: float = 0.0
    verified_time: datetime | None = None
    damage: str = ""
    """What is wrong with it; empty when nothing is known to be wrong."""

    @property
    def state(self) -> State:
        """Return what is known about its soundness."""
        if self.damage:
            return State.DAMAGED
        return State.UNVERIFIED if self.verified_time is None else State.OK

    def with_damage(self, damage: str) -> "Snapshot":
        """Return it marked as damaged."""
        return replace(self, damage=damage)

    def to_json(self) -> bytes:
        """Return the manifest, which ends in its own hash."""
        body = asdict(self) | {
            "format": FORMAT,
            "created_time": self.created_time.astimezone(UTC).strftime(_TIME),
            "verified_time": self.verified_time and self.verified_time.astimezone(UTC).strftime(_TIME),
        }
        body["manifest_sha256"] = _hash(body)
        return _written(body)

    @classmethod
    def from_json(cls, data: bytes, *, snapshot_id: str) -> Self:
        """Read the manifest that lies under the name of snapshot_id. Raises ManifestDamaged only."""
        try:
            body = json.loads(data)
            # The hash is of what is said. A bit may change how it is said, too: 1e-05 and 1E-05 are one number.
            is_as_written = _written(body) == data
            stated = body.pop("manifest_sha256")
            actual = _hash(body)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ManifestDamaged("the manifest cannot be read") from error
        if stated != actual or not is_as_written:
            raise ManifestDamaged("the manifest does not match its own hash")
        if body.get("format") != FORMAT:
            raise ManifestDamaged(f"the manifest has format {body.get('format')!r}, not {FORMAT}")
        if body.get("snapshot_id") != snapshot_id:
            raise ManifestDamaged(f"the manifest belongs to {body.get('snapshot_id')!r}")
        try:
            return cls(**_typed(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ManifestDamaged("a field of the manifest is missing, or not what it should be") from error


def _written(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n"


def _hash(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as the class wants them; those of a later version of the format are left out."""
    known = {item.name for item in fields(Snapshot)}
    values = {name: value for name, value in body.items() if name in known}
    values["created_time"] = _instant(body["created_time"])
    values["verified_time"] = None if body["verified_time"] is None else _instant(body["verified_time"])
    values["trigger"] = Trigger(body["trigger"])
    for item in fields(Snapshot):
        if item.name in values and not _FITS[item.type](values[item.name]):
            raise ValueError(item.name)
    return values


def _is_number(value: object) -> bool:
    # What travels as uint64 has 64 bits; True is an int too.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FITS: dict[Any, Callable[[Any], bool]] = {
    str: _is_text,
    bool: lambda value: isinstance(value, bool),
    int: _is_number,
    float: lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9,
    Mapping[str, str]: lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    Mapping[str, int]: lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    datetime: lambda value: isinstance(value, datetime),
    datetime | None: lambda value: value is None or isinstance(value, datetime),
    Trigger: lambda value: isinstance(value, Trigger),
}
"""What a value must be like, by the type of its field."""


def _instant(text: str) -> datetime:
    instant = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    # At the ends of the calendar an instant cannot be read in every zone.
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise ValueError(text)
    return instant
