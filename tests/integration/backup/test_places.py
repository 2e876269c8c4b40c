"""What every kind of place must do, and what each kind says when it is ill."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mailer.errors import DataLoss, FailedPrecondition, NotFound, Unavailable
from mailer.secrets import Secret
from services.backup.copies.directory import DirectoryPlace
from services.backup.copies.place import Place
from services.backup.copies.s3 import S3Place
from tests.fakes.s3_server import BUCKET, S3Server
from tests.integration.backup.sites import PART_BYTES, BucketSite, Site

NAME = "mailer_20261123T123456Z-0a1b2c3d.db.zst"
OTHER = "mailer_20261123T123456Z-ffffffff.db.zst"


@pytest.fixture
def place(site: Site) -> Place:
    return site.place()


class Stop(BaseException):
    """What a kill looks like from inside."""


def ignored(_: int) -> None: ...


def put(place: Place, data: bytes, name: str = NAME, *, sha256: str = "") -> list[int]:
    """Store data; returns what was told of the progress."""
    told: list[int] = []
    digest = sha256 or hashlib.sha256(data).hexdigest()
    place.put(name, io.BytesIO(data), size_bytes=len(data), sha256=digest, moved=told.append)
    return told


def got(place: Place, name: str = NAME) -> bytes:
    target = io.BytesIO()
    place.get(name, target, moved=ignored)
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, PART_BYTES, 2 * PART_BYTES + 17])
def test_what_is_put_comes_back_and_progress_is_told(place: Place, site: Site, size: int) -> None:
    data = os.urandom(size)
    told = put(place, data)
    assert got(place) == data
    assert site.files() == {f"a/{NAME}": data}
    assert told == sorted(told)
    assert told[-1:] == [size] or size == 0


def test_files_are_listed_with_their_sizes_and_a_version_that_changes(place: Place) -> None:
    assert place.names() == {}
    put(place, b"one")
    first = place.names()[NAME]
    assert place.names()[NAME] == first
    put(place, b"other")
    assert (first.size_bytes, place.names()[NAME].size_bytes) == (3, 5)
    assert place.names()[NAME].version != first.version


@pytest.mark.parametrize("size", [10, PART_BYTES + 1])
def test_what_is_not_what_it_should_be_is_refused_and_leaves_nothing(place: Place, site: Site, size: int) -> None:
    with pytest.raises(DataLoss) as caught:
        put(place, bytes(size), sha256="00" * 32)
    assert caught.value.reason == "COPY_NOT_THE_SAME"
    assert site.files() == {}
    assert site.halves() == []


def test_a_failed_upload_leaves_the_old_file(place: Place) -> None:
    put(place, b"old")
    with pytest.raises(DataLoss):
        put(place, b"new", sha256="00" * 32)
    assert got(place) == b"old"


def test_a_stopped_upload_is_not_listed(place: Place, site: Site) -> None:
    def stop(_: int) -> None:
        raise Stop

    data = bytes(2 * PART_BYTES)
    with pytest.raises(Stop):
        place.put(NAME, io.BytesIO(data), size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), moved=stop)
    assert place.names() == {}
    assert site.halves() == []


def test_what_is_not_there_is_said_and_may_be_removed_all_the_same(place: Place) -> None:
    with pytest.raises(NotFound) as caught:
        got(place)
    assert caught.value.reason == "COPY_MISSING"
    place.remove(NAME)


def test_a_removed_file_is_gone(place: Place, site: Site) -> None:
    put(place, b"x")
    put(place, b"y", OTHER)
    place.remove(NAME)
    assert site.files() == {f"a/{OTHER}": b"y"}


def test_places_side_by_side_do_not_touch_one_another(site: Site) -> None:
    one, other = site.place("a"), site.place("ab")
    site.write(f"a/deeper/{NAME}", b"deeper")
    put(one, b"one")
    put(other, b"other")
    assert (set(one.names()), got(one), got(other)) == ({NAME}, b"one", b"other")
    one.remove(NAME)
    assert site.files() == {f"ab/{NAME}": b"other", f"a/deeper/{NAME}": b"deeper"}


def test_a_sweep_removes_what_our_killed_uploads_left_and_nothing_else(site: Site) -> None:
    for name, folder in ((NAME, "a"), ("theirs", "a"), (NAME, "ab")):
        site.leave_half(name, folder)
    left = site.halves()
    site.place("a").sweep()
    assert len(left) == 3
    assert [half for half in left if half not in site.halves()] == [left[0] if NAME in left[0] else left[1]]
    assert site.place("a").names() == {}


def test_a_place_that_is_not_there_is_said_whatever_is_asked_of_it(place: Place, site: Site) -> None:
    site.go()
    for call in (place.names, place.sweep, lambda: put(place, b"x"), lambda: got(place), lambda: place.remove(NAME)):
        with pytest.raises((Unavailable, FailedPrecondition), match="The place of the copies") as caught:
            call()
        assert caught.value.reason in {"COPIES_AWAY", "COPIES_REFUSED"}
    site.come_back()
    put(place, b"x")
    assert got(place) == b"x"


class TestFolder:
    def test_a_folder_that_is_not_there_is_never_made(self, tmp_path: Path) -> None:
        place = DirectoryPlace(tmp_path / "not mounted")
        with pytest.raises(FailedPrecondition, match="No such file") as caught:
            put(place, b"x")
        assert caught.value.reason == "COPIES_REFUSED"
        assert not (tmp_path / "not mounted").exists()

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / f".{NAME}.new").symlink_to("/dev/full")
        with pytest.raises(FailedPrecondition, match="No space left") as caught:
            put(DirectoryPlace(tmp_path), bytes(1 << 21))
        assert caught.value.reason == "COPIES_REFUSED"
        assert list(tmp_path.iterdir()) == []

    def test_what_the_disk_did_not_keep_is_not_listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fade(handle: int, *_: int) -> None:
            os.pwrite(handle, b"?", 0)

        monkeypatch.setattr(os, "posix_fadvise", fade)
        with pytest.raises(DataLoss, match="SHA-256 differs"):
            put(DirectoryPlace(tmp_path), b"data")
        assert list(tmp_path.iterdir()) == []

    def test_a_copy_is_for_its_owner_only(self, tmp_path: Path) -> None:
        put(DirectoryPlace(tmp_path), b"x")
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


class TestBucket:
    def test_a_server_killed_in_mid_upload_is_away_and_lists_nothing_afterwards(self, server: S3Server) -> None:
        site = BucketSite(server)
        data = bytes(3 * PART_BYTES)
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            site.place().put(
                NAME,
                io.BytesIO(data),
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                moved=lambda _: server.kill(),
            )
        assert caught.value.reason == "COPIES_AWAY"
        site.come_back()
        assert site.place().names() == {}

    def test_a_missing_bucket_is_said(self, server: S3Server) -> None:
        server.start()
        for call in (S3Place(server.bucket()).names, lambda: put(S3Place(server.bucket()), b"x")):
            with pytest.raises(FailedPrecondition, match="NoSuchBucket") as caught:
                call()
            assert caught.value.reason == "COPIES_REFUSED"

    def test_wrong_credentials_are_said_and_not_shown(self, server: S3Server) -> None:
        server.start(INITIAL_NO_AUTH_ACTION_COUNT="4")
        users = server.client("iam")
        users.create_user(UserName="mailer")
        key = users.create_access_key(UserName="mailer")["AccessKey"]
        allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        users.put_user_policy(UserName="mailer", PolicyName="all", PolicyDocument=policy)
        server.client().create_bucket(Bucket=BUCKET)
        secret = Secret(key["SecretAccessKey"])
        right = replace(server.bucket("a/"), access_key_id=key["AccessKeyId"], secret_access_key=secret)
        put(S3Place(right), b"x")
        with pytest.raises(FailedPrecondition, match="403") as caught:
            S3Place(replace(right, secret_access_key=Secret("wrong"))).names()
        assert caught.value.reason == "COPIES_REFUSED"
        assert "wrong" not in caught.value.message.replace("credentials are", "")
        assert secret.reveal() not in repr(right)

    def test_missing_credentials_are_said(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.start()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(FailedPrecondition, match="credentials"):
            S3Place(replace(server.bucket(), access_key_id=None, secret_access_key=None)).names()

    @pytest.mark.parametrize("other", [b"12345", b"1234"])
    def test_what_has_arrived_differently_is_found(self, server: S3Server, other: bytes) -> None:
        site = BucketSite(server)
        with pytest.raises(DataLoss, match="SHA-256 differs"):
            site.place().put(
                NAME,
                io.BytesIO(b"54321"),
                size_bytes=5,
                sha256=hashlib.sha256(b"54321").hexdigest(),
                moved=lambda _: site.write(f"a/{NAME}", other),
            )

    def test_more_files_than_a_page_are_all_listed(self, server: S3Server) -> None:
        server.start(MOTO_S3_DEFAULT_MAX_KEYS="2")
        server.client().create_bucket(Bucket=BUCKET)
        place = S3Place(server.bucket("a/"))
        names = {f"{number}.txt" for number in range(5)}
        for name in names:
            put(place, b"x", name)
        assert set(place.names()) == names
