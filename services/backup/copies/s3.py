"""Copies in a bucket that speaks the protocol of S3."""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from mailer.errors import MailerError
from mailer.secrets import Secret
from services.backup.copies.place import CHUNK_BYTES, Lying, Moved, away, missing, not_the_same, refused

_SMALLEST_PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_MISSING = {"NoSuchKey", "404", "NotFound"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is, and as whom it is spoken to; what is not given here boto3 finds where it always looks."""

    name: str
    prefix: str = ""
    """Of the names in it: empty, or ends in a slash."""
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = field(default=None, repr=False)


class S3Place:
    """The objects of a bucket that lie directly under a prefix. May be used by several threads."""

    def __init__(self, bucket: Bucket, *, smallest_part_bytes: int = _SMALLEST_PART_BYTES) -> None:
        """Prepare a client; nothing is asked yet. An object that is larger than a part is sent in parts."""
        self._bucket = bucket
        self._url = f"s3://{bucket.name}/{bucket.prefix}"
        self._smallest_part_bytes = smallest_part_bytes
        secret = bucket.secret_access_key
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=bucket.endpoint_url,
            region_name=bucket.region or ("us-east-1" if bucket.endpoint_url else None),
            aws_access_key_id=bucket.access_key_id,
            aws_secret_access_key=secret.reveal() if secret else None,
            config=Config(
                connect_timeout=5,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 2},
                # Names of buckets become host names with the original only.
                s3={"addressing_style": "path" if bucket.endpoint_url else "auto"},
                # Ours are SHA-256, given below; the CRC that boto3 adds by itself is not known to every server.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def names(self) -> dict[str, Lying]:
        """Return the objects directly under the prefix."""
        found = {}
        with self._translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket.name, Prefix=self._bucket.prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self._bucket.prefix)
                    found[name] = Lying(item["Size"], item["ETag"])
        return found

    def put(self, name: str, source: BinaryIO, *, size_bytes: int, sha256: str, moved: Moved) -> None:
        """Send an object, each request with its SHA-256, and ask what has arrived."""
        part_bytes = max(self._smallest_part_bytes, -(-size_bytes // _MOST_PARTS))
        with self._translated(name):
            if size_bytes <= part_bytes:
                checksum = self._put_whole(name, source.read(size_bytes + 1), sha256, moved)
            else:
                checksum = self._put_in_parts(name, source, part_bytes, sha256, moved)
            self._compare(name, size_bytes, sha256, checksum)

    def get(self, name: str, target: BinaryIO, *, moved: Moved) -> None:
        """Read an object."""
        size = 0
        with self._translated(name):
            for chunk in self._chunks(name):
                target.write(chunk)
                size += len(chunk)
                moved(size)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._translated():
            self._client.delete_object(**self._at(name))

    def sweep(self) -> None:
        """Give up the uploads of ours that were killed: their parts are stored and paid for, though never listed."""
        with self._translated():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket.name, Prefix=f"{self._bucket.prefix}mailer_"
            )
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if "/" not in upload["Key"].removeprefix(self._bucket.prefix):
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
                        )

    def _put_whole(self, name: str, data: bytes, sha256: str, moved: Moved) -> str:
        digest = hashlib.sha256(data)
        if digest.hexdigest() != sha256:
            raise not_the_same(self._url, name)
        checksum = _in_base64(digest.digest())
        self._client.put_object(**self._at(name), Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum)
        moved(len(data))
        return checksum

    def _put_in_parts(self, name: str, source: BinaryIO, part_bytes: int, sha256: str, moved: Moved) -> str:
        """Send the parts one by one: nothing has the name before all of them are there."""
        upload = self._client.create_multipart_upload(**self._at(name), ChecksumAlgorithm="SHA256")
        at = {**self._at(name), "UploadId": upload["UploadId"]}
        parts: list[dict[str, Any]] = []
        whole, digests, size = hashlib.sha256(), b"", 0
        try:
            while data := source.read(part_bytes):
                whole.update(data)
                digest = hashlib.sha256(data).digest()
                digests += digest
                number, checksum = len(parts) + 1, _in_base64(digest)
                sent = self._client.upload_part(**at, PartNumber=number, Body=data, ChecksumSHA256=checksum)
                parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
                size += len(data)
                moved(size)
            if whole.hexdigest() != sha256:
                raise not_the_same(self._url, name)
            self._client.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})
        except BaseException:
            # Where that fails, too, the next start does it.
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**at)
            raise
        return f"{_in_base64(hashlib.sha256(digests).digest())}-{len(parts)}"

    def _compare(self, name: str, size_bytes: int, sha256: str, checksum: str) -> None:
        """Compare what has arrived: by the checksum that the server states, else by reading it back."""
        stated = self._client.head_object(**self._at(name), ChecksumMode="ENABLED")
        same = stated["ContentLength"] == size_bytes
        if same and stated.get("ChecksumSHA256") != checksum:
            digest = hashlib.sha256()
            for chunk in self._chunks(name):
                digest.update(chunk)
            same = digest.hexdigest() == sha256
        if not same:
            raise not_the_same(self._url, name)

    def _chunks(self, name: str) -> Iterator[bytes]:
        body = self._client.get_object(**self._at(name))["Body"]
        try:
            yield from body.iter_chunks(CHUNK_BYTES)
        finally:
            body.close()

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.prefix + name}

    @contextmanager
    def _translated(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._of_the_server(error, name) from error
        except BotoCoreError as error:
            is_ours = isinstance(error, (NoCredentialsError, PartialCredentialsError, ParamValidationError))
            why = " ".join(str(error).split()).rstrip(".")
            raise (refused if is_ours else away)(self._url, why) from error

    def _of_the_server(self, error: ClientError, name: str) -> MailerError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if name and code in _MISSING:
            return missing(self._url, name)
        if status >= 500 or status == 429:
            return away(self._url, f"the server answered {status} {code}")
        return refused(self._url, f"the server answered {status} {code}")


def _in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
