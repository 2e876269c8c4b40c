"""What MAILER_BACKUP_COPY_URL may be, and the place that it names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mailer.errors import CannotStart
from mailer.secrets import Secret
from services.backup.copies.directory import DirectoryPlace
from services.backup.copies.place import Place

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}", re.ASCII)


def check_url(url: str) -> None:
    """Raise ValueError, with the cure, for a URL that names no place."""
    parts = urlsplit(url)
    if parts.scheme not in {"file", "s3"}:
        raise ValueError("write file:///folder or s3://bucket/prefix")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("write nothing but the place; credentials have settings of their own")
    if parts.scheme == "file" and (parts.netloc or not Path(unquote(parts.path)).is_absolute() or parts.path == "/"):
        raise ValueError("write file:/// and the whole path of a folder")
    if parts.scheme == "s3" and not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("write s3://bucket/prefix with the name of the bucket")


def folder_of(url: str) -> Path | None:
    """Return the folder that a URL names, None when it names a bucket."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_place(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: Secret | None = None,
) -> Place:
    """Return the place of a URL that `check_url` has passed. Raises CannotStart where its library is missing."""
    folder = folder_of(url)
    if folder is not None:
        return DirectoryPlace(folder)
    try:
        from services.backup.copies.s3 import Bucket, S3Place  # noqa: PLC0415 (optional)
    except ImportError:
        raise CannotStart(
            "MAILER_BACKUP_COPY_URL: the library for S3 is not installed: pip install 'campaign-mailer[s3]'"
        ) from None
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    bucket = Bucket(
        name=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint_url=endpoint_url,
        region=region,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
    )
    try:
        return S3Place(bucket)
    except ValueError as error:
        raise CannotStart(f"MAILER_BACKUP_COPY_ENDPOINT_URL: {error}; write https://host:port") from None
