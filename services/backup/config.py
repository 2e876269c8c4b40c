"""The settings of the backup service that stay as they are while it runs; the others are in settings.py."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from mailer.config import CommonSettings, Span, parse_span
from mailer.database.engine import locate
from mailer.errors import CannotStart
from mailer.secrets import Secret
from mailer.snapshot_key import SnapshotKey, read_keys
from services.backup.copies.address import check_url, folder_of, open_place
from services.backup.copies.place import Place
from services.backup.encryption import Keys


class BackupServiceSettings(CommonSettings):
    """What the backup service needs to know; every default works on one machine."""

    prefix: ClassVar[str] = "MAILER_BACKUP_"

    port: int = Field(50053, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    metrics_port: int = Field(9053, ge=0, le=65535, description="The port of /metrics; 0 turns it off.")
    store_dir: Path = Field(
        default_factory=lambda known: Path(known.get("data_dir", "data")) / "backups",
        description="Where the snapshots and their settings are kept.",
    )
    limit: Span = Field(parse_span("1h"), description="How long one operation may take at most.")
    lock_limit: Span = Field(
        parse_span("2m"), description="How long Restore may keep other writers waiting; beyond it nothing happens."
    )
    encryption: Literal["auto", "off"] = Field(
        "auto", description="auto: new snapshots are encrypted where a key is set; off: they are not, keys only open."
    )
    encryption_key_file: Path | None = Field(
        None, description="Keys that encrypt snapshots, one a line in base64: the first encrypts, all of them open."
    )
    encryption_key: Secret | None = Field(None, description="Instead of the file: keys in base64, comma separated.")

    copy_url: str | None = Field(None, description="Where snapshots are copied: file:///folder or s3://bucket/prefix.")
    copy_endpoint_url: str | None = Field(None, description="The server of the bucket, when it is not Amazon's.")
    copy_region: str | None = Field(None, description="The region of the bucket.")
    copy_access_key_id: str | None = Field(None, description="As whom the bucket is used; else as boto3 finds it.")
    copy_secret_access_key: Secret | None = Field(None, description="The secret that belongs to it.")

    @field_validator("encryption", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def live(self) -> Path:
        """Return the SQLite file that is backed up."""
        return locate(self.database_url).path

    def problems(self) -> list[str]:
        """Return what is wrong between settings, one line each."""
        found = [*super().problems(), *self._key_problems(), *self._copy_problems()]
        try:
            location = locate(self.database_url)
        except CannotStart as error:
            return [*found, *error.problems]
        if not location.is_sqlite:
            found.append(
                f"{self.name_of('database_url')}: the backup service keeps SQLite databases; for PostgreSQL use pg_dump"
            )
        return found

    def keys(self) -> Keys:
        """Return the keys of the snapshots; `problems` has found them to be usable."""
        return Keys(self._read_keys(), off=self.encryption == "off")

    def place(self) -> Place | None:
        """Return where copies go, None when none are made. Raises CannotStart where a library is missing."""
        if self.copy_url is None:
            return None
        return open_place(
            self.copy_url,
            endpoint_url=self.copy_endpoint_url,
            region=self.copy_region,
            access_key_id=self.copy_access_key_id,
            secret_access_key=self.copy_secret_access_key,
        )

    def _copy_problems(self) -> list[str]:
        name, found = self.name_of("copy_url"), []
        if (self.copy_access_key_id is None) != (self.copy_secret_access_key is None):
            lacking = "copy_access_key_id" if self.copy_access_key_id is None else "copy_secret_access_key"
            found.append(f"{self.name_of(lacking)}: an access key and its secret go together; set both")
        if self.copy_url is None:
            return found
        try:
            check_url(self.copy_url)
        except ValueError as error:
            return [*found, f"{name}: {error}"]
        folder = folder_of(self.copy_url)
        if folder is not None and folder.resolve().is_relative_to(self.store_dir.resolve()):
            found.append(f"{name}: {folder} lies in the store itself; name a folder of another disk")
        return found

    def _read_keys(self) -> tuple[SnapshotKey, ...]:
        if self.encryption_key is not None:
            return read_keys(self.encryption_key.reveal().replace(",", "\n"))
        return () if self.encryption_key_file is None else read_keys(self.encryption_key_file.read_text())

    def _key_problems(self) -> list[str]:
        """Return why snapshots could not be encrypted as they should be: then the service does not start."""
        in_file, path = self.name_of("encryption_key_file"), self.encryption_key_file
        if self.encryption_key is not None and path is not None:
            return [f"{in_file}: {self.name_of('encryption_key')} is set, too; set one of them"]
        if path is not None and path.resolve().is_relative_to(self.store_dir.resolve()):
            return [f"{in_file}: {path} lies among the snapshots, where a thief of them finds it; keep it elsewhere"]
        how = "`mailer backup new-key FILE` makes a key"
        try:
            self._read_keys()
        except OSError as error:
            return [f"{in_file}: {path} cannot be read: {error.strerror}; {how}"]
        except ValueError as error:
            name = in_file if self.encryption_key is None else self.name_of("encryption_key")
            # The text that cannot be decoded may be part of a key.
            problem = "it is no text" if isinstance(error, UnicodeError) else error
            return [f"{name}: {problem}; {how}"]
        return []
