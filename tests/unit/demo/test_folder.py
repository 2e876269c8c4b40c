"""The folder of a demonstration is emptied only when a demonstration made it and nobody uses it."""

from pathlib import Path

import pytest

from demo.folder import MARKER, FolderRefused, claim
from mailer.database.file import users_lock_path
from mailer.lockfile import LockFile


def test_the_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    claim(folder).release()
    (folder / "mailer.db").touch()
    with claim(folder):
        assert [path.name for path in folder.iterdir()] == [MARKER]


def test_a_second_demo_in_the_same_folder_does_not_begin(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with claim(folder):
        (folder / "mailer.db").touch()
        with pytest.raises(FolderRefused, match="another demo is running"):
            claim(folder)
        assert (folder / "mailer.db").exists()


def test_a_folder_that_no_demo_made_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine").touch()
    with pytest.raises(FolderRefused, match="no demo made"):
        claim(tmp_path / "letters")
    assert (tmp_path / "letters" / "mine").exists()


def test_a_database_that_services_have_open_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    claim(folder).release()
    service = LockFile(users_lock_path(folder / "mailer.db"))
    assert service.acquire(shared=True)
    with pytest.raises(FolderRefused, match="services are running"):
        claim(folder)
    service.release()
    claim(folder).release()
