"""The commands of examples/grpcurl.md, taken apart."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COOKBOOK = Path(__file__).parents[1] / "examples" / "grpcurl.md"


@dataclass(frozen=True)
class Command:
    """One grpcurl command that calls a method of ours."""

    words: tuple[str, ...]

    @property
    def port(self) -> str:
        """Return the port as the cookbook writes it."""
        return self.words[-2].rpartition(":")[2]

    @property
    def service(self) -> str:
        """Return the full name of the service."""
        return self.words[-1].split("/")[0]

    @property
    def method(self) -> str:
        """Return the name of the method."""
        return self.words[-1].split("/")[1]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Return the requests: one, or several of a stream."""
        return documents(self.words[self.words.index("-d") + 1]) if "-d" in self.words else [{}]

    def __str__(self) -> str:
        """Return the method, as the name of a test."""
        return self.method


def commands() -> list[Command]:
    """Return the commands that call our services, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", COOKBOOK.read_text(encoding="utf-8"), re.DOTALL)
    lines = [tuple(shlex.split(line)) for block in blocks for line in block.splitlines()]
    return [
        Command(words) for words in lines if words[0] == "grpcurl" and re.fullmatch(r"mailer\.v1\.\w+/\w+", words[-1])
    ]


def documents(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that stand one after the other in the text."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found
