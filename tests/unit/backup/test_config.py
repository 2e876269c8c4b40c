"""What is asked for and cannot be done, encryption above all, keeps the service from starting."""

import base64
from pathlib import Path

import pytest

from mailer.config import SettingsError, load
from mailer.errors import CannotStart
from mailer.snapshot_key import SnapshotKey, read_keys
from services.backup.config import BackupServiceSettings

FIRST, SECOND = SnapshotKey(b"1" * 32), SnapshotKey(b"2" * 32)


def settings(tmp_path: Path, **values: str) -> BackupServiceSettings:
    given = {f"MAILER_BACKUP_{name.upper()}": value for name, value in values.items()}
    common = {"MAILER_SETTINGS_FILE": "/dev/null", "MAILER_DATA_DIR": str(tmp_path / "data")}
    return load(BackupServiceSettings, common | given)


def problems(tmp_path: Path, **values: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, **values)
    return str(caught.value)


def test_without_a_key_nothing_is_encrypted(tmp_path: Path) -> None:
    assert settings(tmp_path).keys().sealing_id == ""


def test_the_first_key_of_the_file_encrypts(tmp_path: Path) -> None:
    file = tmp_path / "backup.key"
    file.write_text(f"# keys\n{FIRST.to_text()}\n\n{SECOND.to_text()} # old\n")
    assert settings(tmp_path, encryption_key_file=str(file)).keys().sealing_id == FIRST.id


def test_keys_may_stand_in_the_environment(tmp_path: Path) -> None:
    both = f"{SECOND.to_text()},{FIRST.to_text()}"
    assert settings(tmp_path, encryption_key=both).keys().sealing_id == SECOND.id
    assert settings(tmp_path, encryption_key=both, encryption="off").keys().sealing_id == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read: No such file"),
        ("", "there is no key in it"),
        ("# nothing\n", "there is no key in it"),
        (base64.b64encode(b"short").decode(), "32 bytes in base64, this one has 5"),
        (base64.b64encode(b"x" * 33).decode(), "this one has 33"),
        ("no base64!", "no base64"),
    ],
)
def test_a_file_without_a_usable_key_ends_the_start_and_says_what_to_do(
    tmp_path: Path, text: str | None, why: str
) -> None:
    file = tmp_path / "backup.key"
    if text is not None:
        file.write_text(text)
    said = problems(tmp_path, encryption_key_file=str(file))
    assert said.startswith("MAILER_BACKUP_ENCRYPTION_KEY_FILE: ")
    assert why in said
    assert "mailer backup new-key" in said


def test_a_file_that_is_no_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    file = tmp_path / "backup.key"
    file.write_bytes(b"\xff\xfesecret")
    said = problems(tmp_path, encryption_key_file=str(file))
    assert "it is no text" in said
    assert "0xff" not in said


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path, encryption_key_file=str(tmp_path))


def test_a_bad_key_in_the_environment_is_refused_without_quoting_it(tmp_path: Path) -> None:
    said = problems(tmp_path, encryption_key="c2VjcmV0")
    assert said.startswith("MAILER_BACKUP_ENCRYPTION_KEY: ")
    assert "c2VjcmV0" not in said


def test_a_key_in_two_places_is_refused(tmp_path: Path) -> None:
    said = problems(tmp_path, encryption_key=FIRST.to_text(), encryption_key_file="/dev/null")
    assert "set one of them" in said


def test_a_key_among_the_snapshots_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "data" / "backups"
    store.mkdir(parents=True)
    (store / "backup.key").write_text(FIRST.to_text())
    assert "among the snapshots" in problems(tmp_path, encryption_key_file=str(store / "backup.key"))


def test_a_key_does_not_print_itself(tmp_path: Path) -> None:
    text = FIRST.to_text()
    (tmp_path / "backup.key").write_text(text)
    loaded = settings(tmp_path, encryption_key=text)
    assert text not in f"{loaded!r} {loaded} {FIRST!r} {loaded.model_dump()}"


def test_a_key_is_known_by_an_id_that_says_nothing_about_it() -> None:
    assert FIRST.id != SECOND.id
    assert len(FIRST.id) == 12
    assert read_keys(SnapshotKey.generate().to_text())[0].id != FIRST.id


@pytest.mark.parametrize(
    "url",
    ["/mnt/backup", "ftp://host/x", "file://host/x", "file:relative", "file:///", "s3://", "s3:///x",
     "s3://bucket!/x", "s3://bucket:9000/x", "s3://k:s@bucket/x",
     "s3://bucket/x?region=y"],
)  # fmt: skip
def test_a_url_that_names_no_place_is_refused(tmp_path: Path, url: str) -> None:
    assert problems(tmp_path, copy_url=url).startswith("MAILER_BACKUP_COPY_URL: write ")


@pytest.mark.parametrize("url", ["file:///mnt/backup", "file:///mnt/with%20blank", "s3://bucket", "s3://bucket/a/b"])
def test_a_url_that_names_a_place_opens_it(tmp_path: Path, url: str) -> None:
    own = settings(tmp_path, copy_url=url, copy_access_key_id="k", copy_secret_access_key="s3cret", copy_region="x")
    assert own.place() is not None
    assert "s3cret" not in repr(own)


def test_without_a_url_no_copies_are_made(tmp_path: Path) -> None:
    assert settings(tmp_path).place() is None


def test_copies_in_the_store_itself_are_refused(tmp_path: Path) -> None:
    url = (tmp_path / "data" / "backups" / "copies").as_uri()
    assert "lies in the store itself" in problems(tmp_path, copy_url=url)


def test_an_access_key_without_its_secret_is_refused(tmp_path: Path) -> None:
    said = problems(tmp_path, copy_url="s3://bucket", copy_access_key_id="k")
    assert said.startswith("MAILER_BACKUP_COPY_SECRET_ACCESS_KEY: ")


def test_an_endpoint_that_is_no_address_is_refused(tmp_path: Path) -> None:
    own = settings(tmp_path, copy_url="s3://bucket", copy_endpoint_url="no address")
    with pytest.raises(CannotStart, match="MAILER_BACKUP_COPY_ENDPOINT_URL"):
        own.place()
