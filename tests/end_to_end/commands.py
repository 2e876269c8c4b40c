"""Commands as the documents show them, run against a system of the tests."""

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from demo.system import System
from mailer.inbox import Event, Inbox, read_journal

ROOT = Path(__file__).parents[2]
# The environment's commands first, as after `. .venv/bin/activate`; grpcurl where .ci/run puts it.
SEARCHED = os.pathsep.join([str(Path(sys.executable).parent), str(ROOT / ".tools" / "bin"), os.environ.get("PATH", "")])
HAS_GRPCURL = shutil.which("grpcurl", path=SEARCHED) is not None
NO_GRPCURL = "grpcurl is not installed: .ci/run installs it where go is there"


@dataclass(frozen=True)
class Finished:
    """What a command answered."""

    status: int
    out: str
    errors: str


async def shell(command: str, system: System) -> Finished:
    """Run a line of sh in the project's folder, where `mailer` finds the system."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILER_")} | {
        "PATH": SEARCHED,
        "MAILER_SETTINGS_FILE": os.devnull,
        "MAILER_DATA_DIR": str(system.directory),
        "MAILER_SCHEDULER_ADDRESS": system.address("scheduler"),
        "MAILER_SENDER_ADDRESS": system.address("sender"),
        "MAILER_BACKUP_ADDRESS": system.address("backup"),
    }
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    return Finished(process.returncode or 0, out.decode(), errors.decode())


def addressed(text: str, system: System, inbox: Inbox) -> str:
    """Return a text of the documents with this system's ports instead of the usual ones."""
    port = inbox.listener("inbox").port
    words = {
        "127.0.0.1:50051": system.address("scheduler"),
        "127.0.0.1:50052": system.address("sender"),
        "127.0.0.1:50053": system.address("backup"),
        '"port": 1025': f'"port": {port}',
        "--port 1025": f"--port {port}",
    }
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    return text


def arrived(inbox: Inbox) -> list[str]:
    """Return the envelope recipients of everything the inbox has accepted."""
    return [
        recipient
        for entry in read_journal(inbox.directory)
        if entry.event is Event.ACCEPTED
        for recipient in entry.recipients
    ]
