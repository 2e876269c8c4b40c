"""Where copies may lie, as their owner sees it: beside the code that is tested, not through it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from services.backup.copies.directory import DirectoryPlace
from services.backup.copies.place import Place
from services.backup.copies.s3 import S3Place
from tests.fakes.s3_server import BUCKET, S3Server

PART_BYTES = 5 << 20
"""The smallest part that the protocol allows."""


class Site(Protocol):
    """A folder or a bucket with sub-folders."""

    def place(self, folder: str = "a") -> Place:
        """Return the place of a folder."""
        ...

    def url(self, folder: str = "a") -> str:
        """Return what MAILER_BACKUP_COPY_URL is for it."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the other settings."""
        ...

    def files(self) -> dict[str, bytes]:
        """Return everything that lies there, by its path."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Put a file there."""
        ...

    def erase(self, path: str) -> None:
        """Remove a file."""
        ...

    def leave_half(self, name: str, folder: str = "a") -> None:
        """Leave what an upload leaves that is killed."""
        ...

    def halves(self) -> list[str]:
        """Return what has been left so."""
        ...

    def go(self) -> None:
        """Be away."""
        ...

    def come_back(self) -> None:
        """Be there again."""
        ...


class FolderSite:
    """A folder of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for folder in ("a", "ab"):
            (directory / folder).mkdir(parents=True)

    def place(self, folder: str = "a") -> Place:
        return DirectoryPlace(self.directory / folder)

    def url(self, folder: str = "a") -> str:
        return (self.directory / folder).as_uri()

    def environment(self) -> dict[str, str]:
        return {}

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in self._paths()}

    def write(self, path: str, data: bytes) -> None:
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(data)

    def erase(self, path: str) -> None:
        (self.directory / path).unlink()

    def leave_half(self, name: str, folder: str = "a") -> None:
        (self.directory / folder / f".{name}.new").write_bytes(b"half")

    def halves(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self._paths() if path.name.endswith(".new"))

    def go(self) -> None:
        self.directory.rename(self.directory.with_name("gone"))

    def come_back(self) -> None:
        self.directory.with_name("gone").rename(self.directory)

    def _paths(self) -> Iterator[Path]:
        return (path for path in self.directory.rglob("*") if path.is_file())


class BucketSite:
    """A bucket of a server of its own. It comes back empty."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self._client: Any = None
        self.come_back()

    def place(self, folder: str = "a") -> Place:
        return S3Place(self.server.bucket(f"{folder}/"), smallest_part_bytes=PART_BYTES)

    def url(self, folder: str = "a") -> str:
        return f"s3://{BUCKET}/{folder}"

    def environment(self) -> dict[str, str]:
        bucket = self.server.bucket()
        assert bucket.secret_access_key is not None
        return {
            "MAILER_BACKUP_COPY_ENDPOINT_URL": self.server.url,
            "MAILER_BACKUP_COPY_ACCESS_KEY_ID": str(bucket.access_key_id),
            "MAILER_BACKUP_COPY_SECRET_ACCESS_KEY": bucket.secret_access_key.reveal(),
        }

    def files(self) -> dict[str, bytes]:
        names = [item["Key"] for item in self._client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
        return {name: self._client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    def write(self, path: str, data: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=path, Body=data)

    def erase(self, path: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=path)

    def leave_half(self, name: str, folder: str = "a") -> None:
        self._client.create_multipart_upload(Bucket=BUCKET, Key=f"{folder}/{name}")

    def halves(self) -> list[str]:
        uploads = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return sorted(upload["Key"] for upload in uploads)

    def go(self) -> None:
        self.server.kill()

    def come_back(self) -> None:
        self.server.start()
        self._client = self.server.client()
        self._client.create_bucket(Bucket=BUCKET)
