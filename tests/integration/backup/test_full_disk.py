"""The disk is full, for real: in the middle of every operation, at each step that writes.

Each case runs in a process with a small file system of its own (see `filling`), so the kernel says no.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def _can_mount() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and not subprocess.run(
            [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, capture_output=True
        ).returncode
    )


pytestmark = pytest.mark.skipif(not _can_mount(), reason="needs a mount namespace of its own")


@pytest.fixture(autouse=True)
def template(tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "empty.db").write_bytes(empty_database)


def filled(folder: Path, what: str, operation: str, where: str) -> dict[str, Any]:
    """Return what came out of an operation on a disk that was full when it had come so far."""
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.integration.backup.filling", folder, what, operation, where],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize("where", ["before", "copying", "packing", "publishing"])
def test_a_create_says_so_and_leaves_nothing(tmp_path: Path, where: str) -> None:
    report = filled(tmp_path, "store", "create", where)
    assert report["reason"] == "NOT_ENOUGH_SPACE"
    assert "nothing was changed" in report["message"]
    assert report["leftovers"] == []
    assert report["states"] == ["ok"]
    assert report["repeated"] == ""


RESTORES = [
    ("store", "before"),
    ("store", "staging"),
    ("store", "rebuilding"),
    ("store", "preparing"),
    ("store", "copying the state before"),
    ("store", "packing the state before"),
    ("store", "publishing"),
    ("store", "carrying"),
    ("store", "writing down"),
    ("live", "swapping"),
    ("both", "swapping"),
]


@pytest.mark.parametrize(("what", "where"), RESTORES)
def test_a_restore_says_so_and_leaves_the_old_state_and_nothing_else(tmp_path: Path, what: str, where: str) -> None:
    report = filled(tmp_path, what, "restore", where)
    assert report["reason"] == "NOT_ENOUGH_SPACE"
    assert "nothing was changed" in report["message"]
    assert report["leftovers"] == []
    assert (report["era"], report["is_sound"], report["states"]) == ("new", True, ["ok"])
    assert (report["repeated"], report["era_after"]) == ("", "old")


def test_a_restore_that_has_happened_is_written_down_later(tmp_path: Path) -> None:
    report = filled(tmp_path, "store", "restore", "closing")
    assert (report["reason"], report["era"], report["leftovers"]) == ("", "old", [])
    assert report["states"] == ["ok", "ok"]
    assert report["repeated"] == ""


def test_a_restore_that_has_happened_says_so_when_the_database_cannot_be_looked_at(tmp_path: Path) -> None:
    report = filled(tmp_path, "live", "restore", "settling")
    assert (report["reason"], report["era"], report["is_sound"]) == ("DATABASE_FULL", "old", True)
    assert "was restored" in report["message"]
    assert report["repeated"] == ""


def test_a_lost_database_is_put_back_whole_or_not_at_all(tmp_path: Path) -> None:
    report = filled(tmp_path, "live", "restore offline", "putting in place")
    assert (report["reason"], report["era"], report["leftovers"]) == ("NOT_ENOUGH_SPACE", "", [])
    assert (report["repeated"], report["era_after"]) == ("", "old")


def test_a_snapshot_that_cannot_be_unpacked_for_want_of_space_is_not_called_damaged(tmp_path: Path) -> None:
    report = filled(tmp_path, "store", "verify", "unpacking to verify")
    assert (report["reason"], report["leftovers"], report["states"]) == ("NOT_ENOUGH_SPACE", [], ["ok"])


def test_a_prune_works_on_a_full_disk(tmp_path: Path) -> None:
    report = filled(tmp_path, "store", "prune", "before")
    assert (report["reason"], report["leftovers"], report["states"]) == ("", [], ["ok"])
