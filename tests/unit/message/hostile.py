"""Texts put together from what breaks mail: thousands of them, the same in every run."""

from collections.abc import Iterator
from random import Random

WORDS = ["Ada", "x", "rye bread", "12.50", "=20", "=", "==", "=?", "=?utf-8?q?a?=", "xn--", "--", "-", "_", "0"]
MARKS = [
    ".",
    "..",
    "@",
    ",",
    ";",
    "<b>",
    "&amp;",
    "&",
    '"',
    "'",
    "\\",
    "(",
    "{{ x }}",
    "{%",
    "%",
    "\u00a0",
    "~",
    "\x7f",
]
ENDS = ["\n", "\r", "\r\n", "\n.", "\r\n.\r\n", " \n", "\t\r\n", "  ", "\t", "\0", "\x85", "\u2028", "\x0b"]
FOREIGN = ["é", "Zoë", "e\u0308", "名前", "Привет", "🍞", "\u200b", "\uff20", "İ", "ß"]
LONG = ["a" * 60, "b" * 73, "c" * 76, "." * 75, "word " * 30, "é" * 40, "d" * 1000, " " * 80]


def texts(count: int, *, fragments: list[str] | None = None, most: int = 6) -> Iterator[str]:
    """Yield so many texts of 0 to `most` fragments each."""
    random = Random(count)
    chosen = fragments or [*WORDS * 3, *MARKS, *ENDS, *FOREIGN, *LONG]
    for _ in range(count):
        yield "".join(random.choices(chosen, k=random.randint(0, most)))
