"""What we are compared with, brought into .tools/bench: Debian's smtp-sink and smtp-source, and nodemailer with SQLite.

Nothing is installed on the machine and no service is started by it.
"""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import start

DIRECTORY = Path(".tools/bench")
NPM_PACKAGES = ("nodemailer@10", "better-sqlite3@12")


class PeerMissing(Exception):
    """A peer cannot be had here; `str()` says why and what helps."""


@dataclass(frozen=True, slots=True)
class Postfix:
    """The two load tools of Postfix, unpacked."""

    directory: Path

    @property
    def sink(self) -> Path:
        """Return the server that takes everything and keeps nothing."""
        return self.directory / "usr/sbin/smtp-sink"

    @property
    def source(self) -> Path:
        """Return the load generator."""
        return self.directory / "usr/sbin/smtp-source"

    @property
    def environment(self) -> dict[str, str]:
        """Return what lets them find their libraries, and no configuration of the machine."""
        return {
            "LD_LIBRARY_PATH": str((self.directory / "usr/lib/postfix").absolute()),
            "MAIL_CONFIG": str((self.directory / "etc/postfix").absolute()),
        }


async def postfix() -> Postfix:
    """Return the tools of Postfix. Raises PeerMissing."""
    found = Postfix(DIRECTORY / "postfix")
    if not found.sink.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise PeerMissing(
                "smtp-sink comes from Debian's package postfix, and there is no apt-get and dpkg-deb here"
            )
        print("Unpacking Debian's postfix for smtp-sink and smtp-source (neither installed nor started)", flush=True)
        DIRECTORY.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (nobody waits)
        await _run("apt-get", "download", "postfix", cwd=DIRECTORY, cure="`apt-get update` may help")
        await _run("sh", "-c", "dpkg-deb -x postfix_*.deb postfix && rm postfix_*.deb", cwd=DIRECTORY)
    config = found.directory / "etc/postfix"
    config.mkdir(parents=True, exist_ok=True)
    (config / "main.cf").touch()
    return found


async def node_modules() -> Path:
    """Return the folder with nodemailer and better-sqlite3, built when it is missing. Raises PeerMissing."""
    modules = DIRECTORY / "npm/node_modules"
    if not (modules / "nodemailer").exists():
        if shutil.which("npm") is None:
            raise PeerMissing("nodemailer needs Node 20 or newer with npm (Debian: apt-get install nodejs npm)")
        print("Installing nodemailer and better-sqlite3 from npm (a minute, where the latter is compiled)", flush=True)
        modules.parent.mkdir(parents=True, exist_ok=True)
        (modules.parent / "package.json").write_text('{"private": true}\n', encoding="ascii")
        await _run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", *NPM_PACKAGES, cwd=modules.parent)
    return modules.absolute()


async def _run(*command: str, cwd: Path, cure: str = "") -> None:
    # `env -C` changes the folder of the program alone.
    process = await start("env", "-C", cwd, *command, output=asyncio.subprocess.PIPE, environment=dict(os.environ))
    said, _ = await process.communicate()
    if process.returncode != 0:
        words = " | ".join(said.decode(errors="replace").strip().splitlines()[-4:])
        raise PeerMissing(f"`{' '.join(command)}` failed: {words}" + (f" ({cure})" if cure else ""))
