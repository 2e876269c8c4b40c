"""Secrets that do not print themselves, and the keys that seal them for the database."""

import base64
import binascii
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mailer.errors import CannotStart

MASK = "***"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_FORM = "v1"


class Secret:
    """A text that prints as *** everywhere; only `reveal` gives it away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Wrap the text."""
        self._text = text

    def reveal(self) -> str:
        """Return the text. Keep it out of logs, errors, metrics and answers."""
        return self._text

    def __bool__(self) -> bool:
        """Say whether there is any text."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        """Hash the text."""
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        """Return the mask."""
        return MASK

    def __str__(self) -> str:
        """Return the mask."""
        return MASK

    def __format__(self, spec: str) -> str:
        """Return the mask, whatever the format."""
        return MASK

    def __reduce__(self) -> Any:
        """Refuse to be pickled: a pickle would carry the text."""
        raise TypeError("a Secret cannot be pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let settings classes declare secret fields."""
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(lambda _: MASK)
        )

    @classmethod
    def _validated(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError("must be a text")


class SealBroken(Exception):
    """A sealed text does not open: wrong key, wrong owner or field, or it was altered."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One AES-256-GCM key; its id is derived from it, so a key file needs no names."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a key of another length."""
        if len(self.key) != _KEY_BYTES:
            raise ValueError(f"a sealing key has {_KEY_BYTES} bytes")

    @property
    def id(self) -> str:
        """Return the name under which sealed texts refer to this key; tells nothing about it."""
        return hashlib.sha256(b"mailer sealing key id" + self.key).hexdigest()[:12]

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the key written as base64; raises ValueError when it is none."""
        try:
            return cls(base64.b64decode(text.strip(), altchars=b"-_", validate=True))
        except binascii.Error:
            raise ValueError("a sealing key is 32 bytes in base64") from None

    def to_text(self) -> str:
        """Return the key as base64."""
        return base64.urlsafe_b64encode(self.key).decode()


class Keyring:
    """Seals with its first key and opens with any: rotation puts a new key in front."""

    def __init__(self, first: SealingKey, *others: SealingKey) -> None:
        """Take the keys, the sealing one first."""
        self._first = first
        self._keys = {key.id: AESGCM(key.key) for key in (*others, first)}

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the keys written one per line, # comments allowed; raises ValueError without any."""
        lines = (line.split("#")[0].strip() for line in text.splitlines())
        keys = [SealingKey.from_text(line) for line in lines if line]
        if not keys:
            raise ValueError("there is no sealing key")
        return cls(*keys)

    def seal(self, secret: Secret, *, owner: str, field: str) -> str:
        """Return the sealed text; it opens only for the same owner (say, an account id) and field."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._first.id].encrypt(nonce, secret.reveal().encode(), _bound_to(owner, field))
        return f"{_FORM}.{self._first.id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, *, owner: str, field: str) -> Secret:
        """Return the secret; raises SealBroken with the likely cause."""
        form, _, rest = sealed.partition(".")
        key_id, _, packed = rest.partition(".")
        if form != _FORM or not packed:
            raise SealBroken("this is no sealed secret")
        key = self._keys.get(key_id)
        if key is None:
            raise SealBroken(f"it was sealed with key {key_id}, which is not among the sealing keys")
        try:
            raw = base64.urlsafe_b64decode(packed)
            text = key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(owner, field))
        except (InvalidTag, ValueError):
            raise SealBroken("it was altered, or sealed for another owner or field") from None
        return Secret(text.decode())

    def is_current(self, sealed: str) -> bool:
        """Say whether the text is sealed with the first key (False: seal it again to finish a rotation)."""
        return sealed.startswith(f"{_FORM}.{self._first.id}.")


def load_keyring(path: Path, *, given: Secret | None = None) -> Keyring:
    """Return the keys given in the settings, else those of the file, which is created when missing.

    The file is made with mode 0600 and never overwritten. Raises CannotStart with one line.
    """
    if given:
        try:
            return Keyring.from_text(given.reveal().replace(",", "\n"))
        except ValueError as error:
            raise CannotStart(f"MAILER_SEALING_KEY: {error}") from None
    try:
        return Keyring.from_text(_read_or_create(path))
    except ValueError as error:
        raise CannotStart(f"sealing key file {path}: {error}") from None
    except OSError as error:
        raise CannotStart(
            f"sealing key file {path} cannot be read or created: {error.strerror}; set MAILER_SEALING_KEY_FILE"
        ) from None


def _read_or_create(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written beside and linked into place: services that start together see no file or a whole one.
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write("# Seals the passwords in the database. Keep a copy apart from its snapshots.\n")
                file.write(SealingKey.generate().to_text() + "\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_text()


def _bound_to(owner: str, field: str) -> bytes:
    # Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    return f"{len(owner)}:{owner}:{field}".encode()
