"""What an SMTP server answered: the code, the enhanced code and the words."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

MAX_TEXT = 1_000
"""Longest text of a reply that is kept and shown, in characters."""

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class EnhancedCode(NamedTuple):
    """An enhanced status code, RFC 3463."""

    class_digit: int
    subject: int
    detail: int

    def __str__(self) -> str:
        """Return it as written, "5.1.1"."""
        return f"{self.class_digit}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the code with which the text begins, or None."""
        found = _ENHANCED.match(text)
        return cls(*map(int, found.groups())) if found else None


@dataclass(frozen=True)
class Reply:
    """One complete reply. The lines are what follows the code on each line, as the server wrote them."""

    code: int
    lines: tuple[str, ...] = ("",)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the reply written as `550 5.1.1 no such user`, lines separated by line feeds."""
        lines = text.splitlines()
        return cls(int(lines[0][:3]), tuple(line[4:] for line in lines))

    @property
    def first_digit(self) -> int:
        """Return the digit that says what kind of answer it is: 2 yes, 3 go on, 4 not now, 5 no."""
        return self.code // 100

    @property
    def is_positive(self) -> bool:
        """Say whether the command was done: 250, and also 251 or 200."""
        return 200 <= self.code <= 299

    @cached_property
    def enhanced(self) -> EnhancedCode | None:
        """Return the enhanced code, as long as its class agrees with the basic code; None otherwise."""
        found = EnhancedCode.parse(self.lines[0])
        return found if found and found.class_digit == self.first_digit else None

    @cached_property
    def enhanced_text(self) -> str:
        """Return the enhanced code as it is written; empty when there is none."""
        return str(self.enhanced or "")

    @cached_property
    def text(self) -> str:
        """Return the words on one line, without enhanced codes and controls, at most MAX_TEXT characters."""
        words = (_ENHANCED.sub("", line, count=1) if _ENHANCED.match(line) else line for line in self.lines)
        return _UNPRINTABLE.sub(" ", " ".join(words)).strip()[:MAX_TEXT]

    def __str__(self) -> str:
        """Return it for people: `550 5.1.1 no such user`."""
        return " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)
