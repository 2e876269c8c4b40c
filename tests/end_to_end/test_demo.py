"""The main job, as a new user runs it."""

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def test_the_main_job_ends_with_figures_that_are_all_right(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "demo",
        "--directory",
        str(tmp_path / "demo"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    figures = json.loads(output.splitlines()[-1])
    assert figures["recipients"] == figures["sent"] == 500
    assert figures["rejected"] == 3
    assert figures["failed"] == figures["unknown"] == figures["duplicates"] == figures["lost"] == 0
    assert figures["circuit_opened"] >= 1
    assert figures["circuit_closed"] >= 1
    assert figures["snapshot_verified"] is True
