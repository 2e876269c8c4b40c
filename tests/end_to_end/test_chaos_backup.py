"""`make chaos-backup` in small: nothing is lost or mixed after any kill, and the harness would notice if it were."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.backup.moments import Moment
from chaos.backup.plan import Life, plan

ROOT = Path(__file__).parents[2]
KEYS = [
    "kills",
    "restores",
    "mixed_reads",
    "acknowledged_lost",
    "bad_listed",
    "leftovers",
    "writer_p99_ms_during_create",
    "restore_write_lock_s",
]

pytestmark = pytest.mark.timeout(300)


async def started(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chaos.backup",
        "--directory",
        str(folder / "chaos"),
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def chaos(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run it; return the exit status, the figures of the last line, and everything it said."""
    process = await started(folder, *arguments)
    output = (await process.communicate())[0].decode()
    assert process.returncode is not None
    return process.returncode, json.loads(output.splitlines()[-1]), output


async def test_three_dozen_kills_break_no_promise(tmp_path: Path) -> None:
    status, figures, output = await chaos(tmp_path, "--kills", "36")
    assert status == 0, output
    assert list(figures)[: len(KEYS)] == KEYS
    assert figures["kills"] == 36
    assert figures["restores"] > 1
    assert figures["mixed_reads"] == figures["acknowledged_lost"] == figures["duplicates"] == 0
    assert figures["bad_listed"] == figures["leftovers"] == 0
    assert min(figures[name] for name in ("acknowledged", "reads", "messages", "snapshots_verified")) > 0


def seed_where(condition: Callable[[list[Life]], bool], *, kills: int) -> str:
    """Return a seed whose plan has what a mutant stumbles over within the first few kills."""
    return next(str(seed) for seed in count() if condition(list(plan(kills=kills, random=Random(seed)))))


@pytest.mark.parametrize(
    ("mutant", "figure", "seed"),
    [
        ("early", "acknowledged_lost", "1"),
        ("replace", "acknowledged_lost", "1"),
        ("halves", "mixed_reads", "1"),
        ("manifest", "bad_listed", seed_where(lambda lives: lives[0].moment is Moment.CREATE_PUBLISHED, kills=1)),
        (
            "sweep",
            "leftovers",
            seed_where(lambda lives: (lives[0].moment, lives[0].passing) == (Moment.CREATE_PACKING, 1), kills=1),
        ),
    ],
)
async def test_a_backup_service_that_breaks_a_rule_is_caught(
    tmp_path: Path, mutant: str, figure: str, seed: str
) -> None:
    status, figures, output = await chaos(tmp_path, "--kills", "1", "--seed", seed, "--mutant", mutant)
    assert status == 1, output
    assert "BROKEN" in output
    assert figures[figure] > 0


async def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    process = await started(tmp_path, "--kills", "10000")
    assert process.stdout is not None
    while not list((tmp_path / "chaos").glob("backups/mailer_*.json")):
        await asyncio.sleep(0.05)
    assert len(workers(tmp_path)) > 3
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    assert workers(tmp_path) == []


def workers(folder: Path) -> list[int]:
    """Return the processes that have the folder's database open, or write their log there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            targets = [handle.readlink() for handle in (process / "fd").iterdir()]
        except OSError:
            continue  # it has just ended, or is not ours
        if any(target.is_relative_to(folder) for target in targets):
            found.append(int(process.name))
    return found
