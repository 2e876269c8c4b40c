"""`make up` and `make down` find each other by the process that runs, never by a file that is left over."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Looks like the command in the process list, and ends by a signal.
STAND_IN = ["import signal; signal.pause()", "-m", "mailer.cli", "up", ""]
# Whatever the environment of this test is, it is not renewed.
AS_IT_IS = ("-o", ".venv/.installed")

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not Path("/proc/self/cmdline").exists(), reason="needs make and /proc"
)


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", *STAND_IN]) as process:
        yield process
        process.kill()


def test_a_second_up_is_refused_and_down_still_ends_the_first(tmp_path: Path, running: subprocess.Popen[bytes]) -> None:
    file = tmp_path / "up.pid"
    file.write_text(str(running.pid))
    second = make(*AS_IT_IS, "up", f"UP_PID={file}")
    assert second.returncode == 2
    assert f"The services run already (process {running.pid})" in second.stderr
    down = make("down", f"UP_PID={file}")
    assert (down.stdout, down.stderr) == ("Ended.\n", "")
    assert running.wait(timeout=30) < 0
    assert not file.exists()


@pytest.mark.parametrize("left", ["", "999999999", "1"])
def test_down_says_in_one_line_that_nothing_runs(tmp_path: Path, left: str) -> None:
    file = tmp_path / "up.pid"
    if left:
        file.write_text(left)
    down = make("down", f"UP_PID={file}")
    assert (down.returncode, down.stderr) == (0, "")
    assert down.stdout == "Nothing to end: `make up` is not running.\n"


def test_a_python_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    setup = make("setup", "PYTHON=python9", folder=tmp_path)
    assert "python9 is not Python 3.11 or newer" in setup.stderr
