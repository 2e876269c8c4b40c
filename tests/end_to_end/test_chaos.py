"""`make chaos` in small: the books are exact after every kill, and the harness would notice if they were not."""

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.plan import Life, plan
from services.sender.failpoints import Window

ROOT = Path(__file__).parents[2]
ACCEPTED_AND_NOT_BOOKED = Window.BETWEEN_REPLY_AND_COMMIT
KEYS = [
    "policy",
    "kills",
    "messages",
    "accepted",
    "lost",
    "duplicates",
    "falsely_sent",
    "unknown",
    "unknown_bound",
    "stuck",
    "recovery_max_s",
]

pytestmark = pytest.mark.timeout(300)


async def chaos(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it; return the exit status, the figures of the last line, and everything it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chaos",
        "--directory",
        str(folder),
        "--recovery",
        "30",  # tests run beside each other
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode is not None
    return process.returncode, json.loads(output.splitlines()[-1]), output


@pytest.mark.parametrize("policy", ["at_most_once", "at_least_once"])
async def test_a_dozen_kills_break_no_promise(tmp_path: Path, policy: str) -> None:
    status, figures, output = await chaos(tmp_path, "--kills", "12", "--policy", policy)
    assert status == 0, output
    assert list(figures) == KEYS
    assert figures["kills"] == 12
    assert figures["lost"] == figures["falsely_sent"] == figures["stuck"] == 0
    if policy == "at_most_once":
        assert figures["duplicates"] == 0
        assert figures["unknown"] <= figures["unknown_bound"]
    else:
        assert figures["unknown"] == 0
        assert figures["accepted"] == figures["messages"]


def seed_where(condition: Callable[[list[Life]], bool], *, kills: int) -> str:
    """Return a seed whose plan has what a mutant stumbles over within the first few kills."""
    return next(str(seed) for seed in count() if condition(list(plan(kills=kills, random=Random(seed)))))


@pytest.mark.parametrize(
    ("mutant", "seed"),
    [
        ("intent", seed_where(lambda lives: any(life.window is ACCEPTED_AND_NOT_BOOKED for life in lives), kills=4)),
        ("mark", seed_where(lambda lives: any(life.window is ACCEPTED_AND_NOT_BOOKED for life in lives), kills=4)),
        ("token", seed_where(lambda lives: lives[1].freezes_companion, kills=4)),
    ],
)
async def test_a_sender_that_breaks_a_rule_is_caught(tmp_path: Path, mutant: str, seed: str) -> None:
    status, figures, output = await chaos(
        tmp_path, "--kills", "4", "--policy", "at_most_once", "--seed", seed, "--mutant", mutant
    )
    assert status == 1, output
    assert "BROKEN" in output
    assert figures["duplicates"] > 0
