"""The sender's second process among real ones: it ends with the sender, however that ends, and blocks no restore."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from mailer.v1 import backup_pb2, scheduler_pb2
from tests.fakes.system import Operator, running_system

COUNT = 300
MODULE = "mailer.database.writer_main"


def writers_of(operator: Operator) -> list[int]:
    """Return the ids of the processes that write for the sender."""
    process_id = operator.system.process_id("sender")
    children = [
        int(child)
        for path in Path(f"/proc/{process_id}/task").glob("*/children")
        for child in path.read_text(encoding="ascii").split()
    ]
    return [child for child in children if MODULE in command_of(child)]


def command_of(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except FileNotFoundError:
        return ""


async def at_work(operator: Operator) -> int:
    """Return the id of the one process that writes for the sender, once it has opened the database."""
    database = operator.system.directory / "mailer.db"

    def has_it_open(writer: int) -> bool:
        return any(handle.readlink() == database.absolute() for handle in Path(f"/proc/{writer}/fd").iterdir())

    await until(lambda: any(has_it_open(writer) for writer in writers_of(operator)), seconds=20)
    (writer,) = writers_of(operator)
    return writer


def logged(operator: Operator) -> str:
    return operator.system.log_file("sender").read_text(encoding="utf-8")


async def until(condition: Callable[[], object], *, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["killed", "told to end", "Ctrl-C in its terminal"])
async def test_it_ends_with_the_sender(tmp_path: Path, how: str) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(60)
        writer = await at_work(operator)
        match how:
            case "killed":
                await operator.kill("sender")
            case "told to end":
                await operator.system.end("sender", signal.SIGTERM)
            case _:
                os.killpg(operator.system.process_id("sender"), signal.SIGINT)
                await operator.system.end("sender", signal.SIGCONT)
        await until(lambda: not command_of(writer), seconds=2)
        if how != "killed":
            assert '"event": "stopped"' in logged(operator)
            assert "Traceback" not in logged(operator)
            assert "has ended" not in logged(operator)
        await operator.start("sender")
        campaign = await operator.finished(campaign_id)
        assert max(operator.copies().values()) == 1
        counts = campaign.latest_run.counts
        assert counts.sent_count + counts.unknown_count == COUNT
        assert counts.unknown_count <= (10 if how == "killed" else 0)


async def test_it_is_killed_and_the_campaign_does_not_notice(tmp_path: Path) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        campaign_id = await operator.campaign(COUNT)
        await operator.arrived(60)
        writer = await at_work(operator)
        os.kill(writer, signal.SIGKILL)
        campaign = await operator.finished(campaign_id)
        assert campaign.latest_run.counts.sent_count == COUNT
        assert set(operator.copies().values()) == {1}
        assert "by signal SIGKILL" in logged(operator)
        assert "restored" not in logged(operator)
        await until(lambda: writers_of(operator), seconds=10)
        assert writer not in writers_of(operator)


@pytest.mark.parametrize("when", ["idle", "while it writes"])
async def test_it_blocks_no_restore(tmp_path: Path, when: str) -> None:
    async with running_system(tmp_path, "a", delay=0.02) as operator:
        await operator.add_account("a")
        create = backup_pb2.BackupCreateRequest(request_id=uuid4().hex)
        taken = (await operator.system.backup.Create(create, timeout=30)).snapshot.snapshot_id
        campaign_id = await operator.campaign(COUNT)
        if when == "idle":
            await operator.finished(campaign_id)
        else:
            await operator.arrived(60)
        before = [await at_work(operator)]
        restore = backup_pb2.BackupRestoreRequest(request_id=uuid4().hex, snapshot_id=taken)
        async with asyncio.timeout(20):
            answer = await operator.system.backup.Restore(restore, timeout=30)
        assert answer.write_lock.ToTimedelta().total_seconds() < 2
        await until(lambda: "the database was replaced" in logged(operator), seconds=5)
        # The same process goes on, in the new life of the database.
        assert writers_of(operator) == before
        if when == "while it writes":
            async with asyncio.timeout(10):
                while (await operator.progress(campaign_id)).state != scheduler_pb2.Campaign.STATE_HELD:
                    await asyncio.sleep(0.05)
            resume = scheduler_pb2.ResumeCampaignRequest(campaign_id=campaign_id)
            await operator.system.scheduler.ResumeCampaign(resume, timeout=10)
        await operator.finished(campaign_id)
        assert max(operator.copies().values()) == 1
        assert "has ended" not in logged(operator)
