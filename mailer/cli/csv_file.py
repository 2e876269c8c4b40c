"""Recipients from a CSV file, one by one and never all at once; a line that cannot be used is said, not guessed at."""

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

_DELIMITERS = ",;\t"
_ADDRESS = {"address", "email", "e-mail", "mail"}
_NAME = ("display_name", "name")
_LONGEST_LINE = 1024 * 1024
_DEEPEST = 20
_OPENING = frozenset("[{")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_LARGEST_WHOLE_NUMBER = 2**53
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class CsvProblem(ValueError):
    """The file as a whole cannot be used; `str()` says why and the cure."""


@dataclass(frozen=True, slots=True)
class Person:
    """One usable line. Variables are text, or what the JSON in their cell says."""

    line: int
    address: str
    display_name: str
    variables: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """One line that is left out."""

    line: int
    reason: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    address: int
    display_name: int | None
    variables: tuple[tuple[int, str], ...]
    """Column and name of each."""


def check_encoding(file: BinaryIO) -> None:
    """Read the file to its end; raises CsvProblem naming the first line that is not UTF-8."""
    for _ in _lines(file):
        pass


def read_people(file: BinaryIO) -> Iterator[Person | BadLine]:
    """Yield the lines behind the header, in their order.

    The column `address` (or `email`, `e-mail`, `mail`) is required; `display_name` is the name in the To field, or
    else `name` is. Every column but address and display_name is a variable of the templates. Raises CsvProblem when
    the file as a whole cannot be used.
    """
    lines = _lines(file)
    first = next(lines, "")
    skipped = 0
    if re.match("sep=[,;|\t]", first, re.IGNORECASE):  # how a spreadsheet says which delimiter it used
        skipped, delimiter, first = 1, first[4:5], next(lines, "")
    else:
        delimiter = max(_DELIMITERS, key=first.count)
    try:
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header = _header(next(reader))
    except csv.Error as error:
        if "\r" in first.rstrip("\r\n"):
            raise CsvProblem("its lines end with a carriage return alone: save it with line feeds") from None
        raise CsvProblem(f"the first line cannot be read ({error}): it must name the columns") from None
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(line, _quoting_reason(error, line, skipped + reader.line_num))
            continue
        if any(cell.strip() for cell in cells):
            yield _person(line, cells, header)


def _lines(file: BinaryIO) -> Iterator[str]:
    number = 0
    while raw := file.readline(_LONGEST_LINE + 1):
        number += 1
        if number == 1:
            if raw[:2] in _OTHER_ENCODINGS:
                raise CsvProblem(f"the file is {_OTHER_ENCODINGS[raw[:2]]}: save it as UTF-8 and import it again")
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw) > _LONGEST_LINE:
            raise CsvProblem(f"line {number} is longer than 1 MiB: is it a CSV file with a line for each recipient?")
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CsvProblem(
                f"line {number} is not UTF-8 (byte 0x{raw[error.start]:02X} after "
                f'"{raw[: error.start].decode("utf-8")[-20:]}"): save the file as UTF-8, and import it again'
            ) from None


def _header(cells: Sequence[str]) -> _Header:
    names = tuple(cell.strip() for cell in cells)
    if not any(names):
        raise CsvProblem("the file is empty: its first line must name the columns, such as address,name,city")
    folded = [name.casefold() for name in names]
    addresses = [number for number, name in enumerate(folded) if name in _ADDRESS]
    if len(addresses) != 1:
        found = ", ".join(names[:8])
        what = "two columns for the address" if addresses else "no column for the address"
        raise CsvProblem(
            f"the first line has {what} (it names {found}): call exactly one column address, email, e-mail or mail"
        )
    if "" in names:
        raise CsvProblem(f"column {names.index('') + 1} has no name: name it in the first line, or remove the column")
    twice = {name for name in folded if folded.count(name) > 1}
    if twice:
        raise CsvProblem(f'two columns are called "{min(twice)}": rename one of them')
    display_name = next((folded.index(name) for name in _NAME if name in folded), None)
    others = {addresses[0], folded.index("display_name") if "display_name" in folded else addresses[0]}
    variables = tuple((number, name) for number, name in enumerate(names) if number not in others)
    return _Header(len(names), addresses[0], display_name, variables)


def _person(line: int, cells: Sequence[str], header: _Header) -> Person | BadLine:
    address = cells[header.address].strip() if header.address < len(cells) else ""
    if len(cells) != header.width:
        return BadLine(line, f"has {len(cells)} cells where the first line names {header.width}", address)
    if not address:
        return BadLine(line, "has no address")
    variables: dict[str, Any] = {}
    for number, name in header.variables:
        cell = cells[number]
        try:
            variables[name] = cell_value(cell) if cell[:1] in _OPENING else cell
        except ValueError as error:
            return BadLine(line, f'column "{name}" looks like JSON and is none ({error}): correct it', address)
    display_name = "" if header.display_name is None else cells[header.display_name].strip()
    return Person(line, address, display_name, variables)


def cell_value(cell: str) -> Any:
    """Return the text, or what its JSON says when it begins with [ or {; raises ValueError when that is none."""
    if cell[:1] not in _OPENING:
        return cell
    try:
        value = _JSON.decode(cell)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("too many brackets within brackets") from None
    _check(value, _DEEPEST)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


# Making one for each cell would take longer than reading the cell.
_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def _check(value: Any, depth: int) -> None:
    """Refuse what does not travel: depth that the wire forbids, whole numbers that it rounds."""
    if depth == 0:
        raise ValueError("too many brackets within brackets")
    match value:
        case dict():
            for name, item in value.items():
                _check(name, depth - 1)
                _check(item, depth - 1)
        case list():
            for item in value:
                _check(item, depth - 1)
        case str() if not value.isprintable() and _HALF_CHARACTER.search(value):
            raise ValueError("half a character, written as \\ud800 or the like")
        case bool():
            pass
        case int() if abs(value) > _LARGEST_WHOLE_NUMBER:
            raise ValueError(f"{value} is too large for a number, write it in quotes")
        case float() if math.isinf(value):
            raise ValueError("a number too large")
        case _:
            pass


def _quoting_reason(error: csv.Error, first: int, last: int) -> str:
    if "unexpected end" in str(error) or "field larger" in str(error):
        return f'a quote (") opens here and is not closed; lines {first} to {last} are left out: close or double it'
    return f'a quote (") stands where none may ({error}): put the whole cell in quotes and double those inside'
