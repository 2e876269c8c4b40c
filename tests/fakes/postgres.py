"""A PostgreSQL server for tests: real, on loopback, in a folder of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

_PROGRAMS = ("initdb", "postgres", "pg_ctl")


def is_installed() -> bool:
    """Say whether there is a PostgreSQL to run."""
    return all(shutil.which(name) for name in _PROGRAMS)


class PostgresServer:
    """One server with throw-away data; `start` and `stop` as often as a test likes."""

    def __init__(self) -> None:
        """Make an empty cluster."""
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        # PostgreSQL refuses to run as root: in containers, where tests are root, it runs as nobody.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("initdb", "-D", str(self._data), "-U", "mailer", "-A", "trust", "--no-sync", "-E", "UTF8")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://mailer@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self._folder} -c fsync=off"
        )
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._folder / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Delete its data."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=60)
