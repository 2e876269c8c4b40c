"""`unshare -rm python -m tests.integration.mailer.small_disk <folder>`: the writer's process on a disk that fills up.

The disk is a tmpfs that only this process and its child see, so it is the kernel that refuses. Prints one JSON object.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mailer.clock import SystemClock
from mailer.database import Database, DatabaseFull
from tests.fakes import portable_tasks as tasks

SIZE = 24 * 1024 * 1024


async def main(folder: Path) -> None:
    """Fill the disk between two groups, and make room again."""
    database = await Database.open(
        f"sqlite:///{folder}/mailer.db", clock=SystemClock(), portable_modules=[tasks.MODULE]
    )
    await database.write(tasks.create)
    while (process_id := await database.write(tasks.where)) == os.getpid():
        await asyncio.sleep(0.02)
    await database.write(tasks.add, "before")
    ballast = folder / "ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 4096, 1):
        with suppress(OSError):
            while True:
                os.write(handle, bytes(size))
    os.close(handle)
    results = await asyncio.gather(
        database.write(tasks.add, "a"), database.write(tasks.fill, 4), return_exceptions=True
    )
    report: dict[str, Any] = {
        "refused": [isinstance(one, DatabaseFull) for one in results],
        "healthy": [database.healthy, await database.probe()],
        "kept": await database.read(tasks.names),
    }
    ballast.unlink()
    report["healthy"] += [await database.probe()]
    report["same"] = await database.write(tasks.add, "after") == process_id
    report["names"] = await database.read(tasks.names)
    await database.close()
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", sys.argv[1]], check=True)
    asyncio.run(main(Path(sys.argv[1])))
