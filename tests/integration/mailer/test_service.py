"""A service's process from the outside: how it starts, how it says that it cannot, how it stops."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = """
import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import ClassVar
from mailer.config import CommonSettings
from mailer.database.errors import DatabaseFull
from mailer.service import run_service
from mailer.v1 import sender_pb2, sender_pb2_grpc

class Settings(CommonSettings):
    prefix: ClassVar[str] = "MAILER_ECHO_"

class Servicer(sender_pb2_grpc.SenderServicer):
    pass

@asynccontextmanager
async def build(process):
    sender_pb2_grpc.add_SenderServicer_to_server(Servicer(), process.server.grpc)
    async with asyncio.TaskGroup() as tasks:
        if os.environ.get("FULL"):
            raise DatabaseFull()
        if os.environ.get("TOUCH"):
            open(os.environ["TOUCH"], "w")
        if os.environ.get("CRASH"):
            tasks.create_task(crash())
        print("built", flush=True)
        yield
    print("ended", flush=True)

async def crash():
    await asyncio.sleep(0.2)
    raise LookupError("on purpose")

if __name__ == "__main__":
    service = sender_pb2.DESCRIPTOR.services_by_name["Sender"]
    sys.exit(run_service("echo", Settings, service=service, migrations=[], build=build))
"""


@dataclass
class Running:
    process: asyncio.subprocess.Process
    address: str

    async def health(self) -> str:
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="mailer.v1.Sender"), timeout=5)
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def becomes(self, status: str) -> None:
        async with asyncio.timeout(10):
            while await self.health() != status:
                await asyncio.sleep(0.05)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "echo.py"
    path.write_text(SERVICE)
    return path


async def start(script: Path, **environ: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        cwd=script.parent,
        env=clean | {"PYTHONPATH": str(Path(__file__).parents[3])} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@asynccontextmanager
async def running(script: Path, port: int, **environ: str) -> AsyncIterator[Running]:
    process = await start(script, MAILER_ECHO_PORT=str(port), **environ)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"built\n"
    service = Running(process, f"127.0.0.1:{port}")
    async with asyncio.timeout(10):
        while True:
            try:
                await service.health()
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
    try:
        yield service
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def failed(script: Path, **environ: str) -> tuple[int | None, list[str]]:
    process = await start(script, **environ)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    lines = [line for line in errors.decode().splitlines() if not line.startswith("{")]
    assert "Traceback" not in errors.decode()
    return process.returncode, lines


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
async def test_it_starts_serves_and_stops_in_good_order(script: Path, port: int, loop: str) -> None:
    async with running(script, port, MAILER_EVENT_LOOP=loop) as service:
        await service.becomes("SERVING")
        service.process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(service.process.communicate(), 10)
        assert service.process.returncode == 0, errors.decode()
        assert output == b"ended\n"
        assert b'"event": "stopped"' in errors
    assert (script.parent / "data" / "mailer.db").exists()


async def test_bad_settings_are_all_named_and_end_with_2(script: Path) -> None:
    code, lines = await failed(script, MAILER_LOG_LEVEL="loud", MAILER_ECHO_PORT="none", MAILER_ECHO_PRT="1")
    assert code == 2
    assert sorted(line.split(":")[1].strip() for line in lines) == [
        "MAILER_ECHO_PORT",
        "MAILER_ECHO_PRT",
        "MAILER_LOG_LEVEL",
    ]


async def test_a_port_in_use_is_one_line(script: Path, port: int) -> None:
    async with running(script, port):
        code, lines = await failed(script, MAILER_ECHO_PORT=str(port))
        assert code == 1
        (line,) = lines
        assert "MAILER_ECHO_PORT" in line


async def test_a_metrics_port_in_use_is_one_line(script: Path, port: int) -> None:
    async with running(script, port):
        code, lines = await failed(script, MAILER_ECHO_METRICS_PORT=str(port))
        assert (code, len(lines)) == (1, 1)
        assert "MAILER_ECHO_METRICS_PORT" in lines[0]
        assert "--no-metrics" in lines[0]


@pytest.mark.parametrize(("folder", "why"), [("file", "file is a file"), ("/proc/nowhere", "cannot be made")])
async def test_a_data_folder_that_cannot_be_made_is_one_line(
    script: Path, tmp_path: Path, folder: str, why: str
) -> None:
    (tmp_path / "file").touch()
    code, lines = await failed(script, MAILER_DATA_DIR=folder)
    assert (code, len(lines)) == (1, 1)
    assert "MAILER_DATA_DIR" in lines[0]
    assert why in lines[0]


async def test_a_database_of_somebody_else_is_one_line_and_kept(script: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("not a database")
    code, lines = await failed(script, MAILER_DATABASE_URL=f"sqlite:///{other}")
    assert (code, len(lines)) == (1, 1)
    assert "not a Mailer database" in lines[0]
    assert other.read_text() == "not a database"


async def test_a_locked_database_is_one_line(script: Path, tmp_path: Path, port: int) -> None:
    async with running(script, port):
        pass
    with closing(sqlite3.connect(tmp_path / "data" / "mailer.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, lines = await failed(script, MAILER_DATABASE_BUSY_TIMEOUT="100ms")
    assert (code, len(lines)) == (1, 1)
    assert "locked by another process" in lines[0]


async def test_listening_beyond_this_machine_without_tls_is_refused(script: Path) -> None:
    code, lines = await failed(script, MAILER_HOST="0.0.0.0")
    assert code == 2
    assert "MAILER_TLS_CERTIFICATE_FILE" in lines[0]


async def test_a_task_that_crashes_ends_the_process_and_says_so_in_the_log(script: Path) -> None:
    process = await start(script, CRASH="1")
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert "the service ended by a bug" in errors.decode()
    assert "on purpose" in errors.decode()


async def test_health_follows_the_database(script: Path, tmp_path: Path, port: int) -> None:
    path = tmp_path / "data" / "mailer.db"
    async with running(script, port) as service:
        await service.becomes("SERVING")
        path.rename(path.with_name("away.db"))
        await service.becomes("NOT_SERVING")
        path.with_name("away.db").rename(path)
        await service.becomes("SERVING")


async def test_metrics_are_served_where_the_settings_say(script: Path, port: int, tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_port = int(probe.getsockname()[1])
    async with running(script, port, MAILER_ECHO_METRICS_PORT=str(metrics_port)):
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{metrics_port}/metrics") as answer:
            text = answer.read().decode()
    assert "mailer_rpc_running" in text
    assert "process_resident_memory_bytes" in text


async def test_a_database_that_takes_no_entry_at_the_start_is_one_line(script: Path) -> None:
    status, (line,) = await failed(script, FULL="1", MAILER_ECHO_PORT="0")
    assert status == 1
    assert line.startswith("mailer echo: the database cannot be used: The database cannot be written: the disk is full")


async def test_a_file_that_cannot_be_made_is_one_line_with_its_name(script: Path) -> None:
    # A folder's name where a file is wanted: fails for every user, also for root.
    status, lines = await failed(script, TOUCH="/dev/full/workers", MAILER_ECHO_PORT="0")
    assert (status, lines) == (
        1,
        ["mailer echo: cannot use /dev/full/workers: Not a directory; check its folder, or set MAILER_DATA_DIR"],
    )
