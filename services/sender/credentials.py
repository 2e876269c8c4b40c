"""Passwords of accounts: sealed in the database, or only referenced. Nothing here is ever shown."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from mailer.config import variable
from mailer.secrets import Keyring, SealBroken, Secret
from services.sender.account import Account, Credential, CredentialKind

ENV_PREFIX = "MAILER_SECRET_"
MOST_FILE_BYTES = 4096
_FIELD = "password"
_ENV_NAME = re.compile(r"MAILER_SECRET_[A-Za-z0-9_]{1,100}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class PasswordUnavailable(Exception):
    """The password of an account cannot be had; says why and what to do, never what it is."""


class Passwords:
    """Seals new passwords and finds stored ones."""

    def __init__(
        self, keyring: Keyring, secrets_dir: Path, *, variable: Callable[[str], str | None] = variable
    ) -> None:
        """Take the sealing keys and the folder that `password_file` names files in."""
        self._keyring = keyring
        self._secrets_dir = secrets_dir
        self._variable = variable

    def seal(self, password: str, *, account_id: str) -> str:
        """Return the password as it is stored; it opens only for this account."""
        return self._keyring.seal(Secret(password), owner=account_id, field=_FIELD)

    def of(self, account: Account) -> Secret | None:
        """Return the password, None for an account without; raises PasswordUnavailable.

        References are looked up each time, so a password that is changed there is used by the next connection.
        """
        credential = account.credential
        match credential.kind:
            case CredentialKind.NONE:
                return None
            case CredentialKind.SEALED:
                try:
                    return self._keyring.open(credential.value, owner=account.account_id, field=_FIELD)
                except SealBroken as error:
                    raise PasswordUnavailable(
                        f"the stored password cannot be opened: {error}; set it again with UpdateAccount"
                    ) from None
            case CredentialKind.ENV | CredentialKind.FILE:
                problem = self.problem_with(credential.kind, credential.value)
                if problem:
                    raise PasswordUnavailable(f"{credential.value} {problem}")
                return Secret(self._referenced(credential))

    def problem_with(self, kind: CredentialKind, reference: str) -> str | None:
        """Return what is wrong with a reference to a password and how to cure it, or None."""
        if kind is CredentialKind.ENV:
            if not _ENV_NAME.fullmatch(reference):
                return f"must start with {ENV_PREFIX} and have only letters, digits and underscores"
            if not self._variable(reference):
                return "is not set in the sender's environment: set it and start the sender again"
        if kind is CredentialKind.FILE:
            if not _FILE_NAME.fullmatch(reference):
                return "must be a plain file name, without directories and not starting with a dot"
            path = self._secrets_dir / reference
            if not path.is_file() or not os.access(path, os.R_OK):
                return "is no readable file in the sender's secrets directory: put it there (MAILER_SENDER_SECRETS_DIR)"
            if not 0 < path.stat().st_size <= MOST_FILE_BYTES:
                return f"is empty or larger than {MOST_FILE_BYTES} bytes: it must hold the password and nothing else"
        return None

    def _referenced(self, credential: Credential) -> str:
        if credential.kind is CredentialKind.ENV:
            return self._variable(credential.value) or ""
        try:
            return (self._secrets_dir / credential.value).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise PasswordUnavailable(f"{credential.value} cannot be read as text") from None
