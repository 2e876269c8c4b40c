"""A server that speaks the protocol of S3: moto's, as a process of its own on loopback."""

import os
import re
import signal
import subprocess
import sys
import threading
from typing import Any
from urllib import request

import boto3
from botocore.config import Config

from mailer.secrets import Secret
from services.backup.copies.s3 import Bucket

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "mailer-test-key", "mailer-test-secret"
BUCKET = "copies"


class S3Server:
    """Keeps objects in memory until it is ended; `start` again on the same port begins with nothing."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}
        self._port = 0

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self, **environment: str) -> None:
        """Start it, unless it runs in that environment, and wait until it says where it listens."""
        if self._process is not None and environment == self._environment:
            return
        self.kill()
        self._environment = environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if match := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line):
                self._port = int(match[1])
                # It logs each request: a pipe that nobody reads would stop it.
                self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
                self._reader.start()
                return
        raise AssertionError("the server of moto did not start")

    def empty(self) -> None:
        """Let it forget everything: cheaper than another start."""
        if self._environment:
            self.kill()
        elif self._process is not None:
            request.urlopen(request.Request(f"{self.url}/moto-api/reset", method="POST")).close()

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._reader.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def client(self, service: str = "s3", **how: Any) -> Any:
        """Return a client of boto3 that may do everything."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=Config(s3={"addressing_style": "path"}),
            **how,
        )

    def bucket(self, prefix: str = "", *, name: str = BUCKET) -> Bucket:
        """Return a bucket on it as the service is told of it."""
        return Bucket(
            name=name,
            prefix=prefix,
            endpoint_url=self.url,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=Secret(SECRET_ACCESS_KEY),
        )
