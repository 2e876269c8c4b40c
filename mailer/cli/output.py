"""What a command prints: one JSON document or tables on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mailer.cli.words import printable, style_of

# Wide enough that nothing is cut: what reads a pipe has no margin.
_PIPE_WIDTH = 10_000
_NARROW = 100
_ID_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; where the terminal is narrow, an `optional` one is left out and an id is cut short."""

    header: str
    justify: Literal["left", "right"] = "left"
    optional: bool = False
    is_id: bool = False
    """An id whose beginning names the thing as well."""
    is_word: bool = False
    """One word that is read at a glance: never broken over two lines."""


class Output:
    """Prints for people or, with `as_json`, for programs."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Print to the streams that are stdout and stderr now."""
        self.as_json = as_json
        self.stdout = _console(sys.stdout)
        self.stderr = _console(sys.stderr)

    @property
    def live(self) -> bool:
        """Say whether progress may redraw itself: stderr is a terminal that can."""
        return self.stderr.is_terminal and not self.stderr.is_dumb_terminal

    def answer(self, message: Message, render: Callable[[], RenderableType | str]) -> None:
        """Print the answer of a service: as JSON, or what `render` makes of it."""
        if self.as_json:
            self.document(to_dict(message))
        else:
            self.print(render())

    def document(self, document: object) -> None:
        """Print one JSON document."""
        print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)

    def print(self, renderable: RenderableType | str) -> None:
        """Print to stdout; a plain str is taken literally, and an empty one prints nothing."""
        if not isinstance(renderable, str):
            self.stdout.print(renderable)
        elif renderable:
            self.write(f"{printable(renderable)}\n")

    def write(self, text: str) -> None:
        """Write to stdout as it is."""
        print(text, end="", flush=True)

    def note(self, sentence: str, *, style: str = "") -> None:
        """Say something on stderr: progress, hints, warnings."""
        self.stderr.print(Text(printable(sentence), style=style), soft_wrap=True)

    def ask_about(self, renderable: RenderableType) -> None:
        """Show on stderr what a question is about: stdout is for what was done."""
        self.stderr.print(renderable)

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], *, empty: str = ""
    ) -> RenderableType | str:
        """Return a table; without rows the sentence `empty`, which says what to do next."""
        if not self.stdout.is_terminal:
            return plain_table(columns, rows) or empty
        narrow = self.stdout.width < _NARROW
        shown = [number for number, column in enumerate(columns) if not (column.optional and narrow)]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
        if len(shown) < len(columns):
            left_out = ", ".join(column.header for column in columns if column.optional)
            table.caption = Text(f"In a wider terminal: {left_out}.", style="dim")
            table.caption_justify = "left"
        for number in shown:
            column = columns[number]
            table.add_column(column.header, justify=column.justify, overflow="fold", no_wrap=column.is_word)
        for row in rows:
            cells = {number: _cell(row[number]) for number in shown}
            table.add_row(*(cell[:_ID_PREFIX] if narrow and columns[at].is_id else cell for at, cell in cells.items()))
        return table if table.row_count else empty

    def fields(self, pairs: Iterable[tuple[str, str | Text]]) -> RenderableType:
        """Return names and values below each other; those without a value are left out."""
        if not self.stdout.is_terminal:
            shown = [(name, printable(str(value))) for name, value in pairs if value]
            width = max((len(name) for name, _ in shown), default=0)
            indent = "\n" + " " * (width + 2)
            return "\n".join(f"{name:<{width}}  {value}".replace("\n", indent) for name, value in shown)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            if value:
                grid.add_row(name, _cell(value))
        return grid

    def progress(self, *columns: ProgressColumn) -> Progress:
        """Return a progress bar on stderr; nowhere when stderr is no terminal."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            *columns,
            TimeElapsedColumn(),
            console=self.stderr,
            disable=not self.live,
            transient=True,
        )


def to_dict(message: Message) -> dict[str, Any]:
    """Return the message in its JSON form, with the names of the proto and every field that has a default."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def state(word: str) -> Text:
    """Return the word for a state in its colour."""
    return Text(word, style=style_of(word))


def plain_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]]) -> str:
    """Return aligned lines for a pipe, a row a line; nothing when there is no row."""
    lines = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        return ""
    lines.insert(0, [column.header for column in columns])
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]

    def aligned(text: str, width: int, column: Column) -> str:
        blanks = " " * (width - cell_len(text))
        return blanks + text if column.justify == "right" else text + blanks

    return "\n".join("  ".join(map(aligned, line, widths, columns)).rstrip() for line in lines)


def _cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(printable(value))


def _console(stream: Any) -> Console:
    is_terminal = bool(getattr(stream, "isatty", lambda: False)())
    return Console(file=stream, width=None if is_terminal else _PIPE_WIDTH, highlight=False, emoji=False, markup=False)
