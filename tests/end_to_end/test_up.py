"""`mailer up` with the real services: ready, ended by one signal, and never leaving anything behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mailer.health import ask

PATIENCE = 40.0
ARGUMENTS = ("up", "--scheduler-port", "0", "--sender-port", "0", "--backup-port", "0", "--no-metrics", "--json")


@asynccontextmanager
async def up(folder: Path, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")}
    environment |= {"MAILER_SETTINGS_FILE": os.devnull, "MAILER_DATA_DIR": str(folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mailer.cli",
        *ARGUMENTS,
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return what it says when everything is ready: the services by name."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        text = ""
        while not text.endswith("}\n") or text.count("{") != text.count("}"):
            line = (await process.stdout.readline()).decode()
            assert line, "it ended before it was ready"
            text += line
    return {service["name"]: service for service in json.loads(text)["services"]}


async def ended(process: asyncio.subprocess.Process) -> str:
    """Return what it said on stderr, once it has ended."""
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate()
    return errors.decode()


async def gone(services: dict[str, Any]) -> bool:
    """Return True once no service runs any more."""
    async with asyncio.timeout(PATIENCE):
        while any(is_alive(service["pid"]) for service in services.values()):
            await asyncio.sleep(0.1)
    return True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_ends_all_services_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    async with up(tmp_path) as process:
        services = await ready(process)
        assert {await ask(service["address"]) for service in services.values()} == {"SERVING"}
        process.send_signal(number)
        errors = await ended(process)
    assert process.returncode == 0
    assert errors.endswith("Ended.\n")
    assert errors.count("stopped") == 3
    assert await gone(services)
    assert (tmp_path / "mailer.db").exists()


async def test_a_service_that_dies_brings_the_others_down_and_is_named(tmp_path: Path) -> None:
    async with up(tmp_path) as process:
        services = await ready(process)
        os.kill(services["sender"]["pid"], signal.SIGKILL)
        errors = await ended(process)
    assert process.returncode == 1
    assert "the sender ended by SIGKILL" in errors
    assert await gone(services)


async def test_no_service_outlives_a_killed_up(tmp_path: Path) -> None:
    async with up(tmp_path) as process:
        services = await ready(process)
        process.kill()
        await process.wait()
        assert await gone(services)


async def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    async with up(tmp_path / "one") as first:
        port = (await ready(first))["sender"]["address"].rpartition(":")[2]
        async with up(tmp_path / "two", "--sender-port", port) as second:
            errors = await ended(second)
    assert second.returncode == 1
    assert errors.count("\n") == 1
    assert f"port {port} for the sender is in use" in errors
    assert not (tmp_path / "two").exists()
