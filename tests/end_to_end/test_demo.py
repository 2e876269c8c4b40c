"""The main job, as a new user runs it."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def test_the_main_job_ends_with_figures_that_are_all_right(tmp_path: Path) -> None:
    process = await start(tmp_path)
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    figures = json.loads(output.splitlines()[-1])
    assert figures["recipients"] == figures["sent"] == 500
    assert figures["rejected"] == 3
    assert figures["failed"] == figures["unknown"] == figures["duplicates"] == figures["lost"] == 0
    assert figures["circuit_opened"] >= 1
    assert figures["circuit_closed"] >= 1
    assert figures["snapshot_verified"] is True


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_demo_that_is_interrupted_leaves_no_service_behind(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = await start(tmp_path)
    services = await started(process)
    process.send_signal(number)
    output = (await process.communicate())[0].decode()
    assert process.returncode == status
    assert "Interrupted: the services have ended" in output
    assert "Traceback" not in output
    assert await gone(services)


async def test_no_service_outlives_a_killed_demo(tmp_path: Path) -> None:
    process = await start(tmp_path)
    services = await started(process)
    process.kill()
    await process.wait()
    assert await gone(services)


async def start(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "demo",
        "--directory",
        str(folder / "demo"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def started(process: asyncio.subprocess.Process) -> list[int]:
    """Return the pids of the services, once the demo works with them."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"Account market" not in await process.stdout.readline():
            assert process.returncode is None
    services = children(process.pid)
    assert len(services) == 3
    return services


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


async def gone(pids: list[int]) -> bool:
    """Return True once none of them runs any more."""
    async with asyncio.timeout(40):
        while any(map(is_there, pids)):
            await asyncio.sleep(0.1)
    return True


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
