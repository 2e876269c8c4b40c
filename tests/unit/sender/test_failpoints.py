"""Crash windows: a process dies at the one that a test has armed, and at no other."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.sender.failpoints import Window, reached

ROOT = Path(__file__).parents[3]
DIE = """
from services.sender.failpoints import Window, arm, reached
arm(Window.AFTER_BODY, passing=3)
for number in range(5):
    reached(Window.AFTER_CLAIM)
    reached(Window.AFTER_BODY)
    print(number, flush=True)
"""


def test_it_dies_at_the_passing_that_was_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", DIE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1"]
    assert "WARNING" in done.stderr
    assert done.stderr.endswith("failpoint after_body\n")


@pytest.mark.parametrize("window", list(Window))
def test_nothing_happens_where_nothing_is_armed(window: Window) -> None:
    reached(window)
