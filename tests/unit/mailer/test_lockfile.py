import subprocess
import sys
from pathlib import Path

from mailer.lockfile import LockFile, is_owner_gone

HOLD = """
import sys
from pathlib import Path
from mailer.lockfile import LockFile
lock = LockFile(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path / "w.lock"), LockFile(tmp_path / "w.lock")
    assert first.acquire()
    assert first.acquire(), "taking it twice is harmless"
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_any_number_may_share(tmp_path: Path) -> None:
    first, second, alone = (LockFile(tmp_path / "w.lock") for _ in range(3))
    assert first.acquire(shared=True)
    assert second.acquire(shared=True)
    assert not alone.acquire()
    first.release()
    second.release()
    assert alone.acquire()
    alone.release()


def test_a_killed_owner_is_gone_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.lock"
    assert is_owner_gone(path), "there was never an owner"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"True\n"
    assert not is_owner_gone(path)
    owner.kill()
    owner.communicate()
    assert is_owner_gone(path)


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "w.lock")
    assert lock.acquire()
    script = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
    )
    assert child.stdout is not None
    child.stdout.readline()
    lock.release()
    assert is_owner_gone(lock.path)
    child.communicate(b"\n")
