"""Recipients from CSV files of every kind that people have."""

import io
import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.cli.csv_file import BadLine, CsvProblem, Person, check_encoding, read_people


def read(text: str | bytes) -> list[Person | BadLine]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_people(io.BytesIO(content)))


def test_every_column_but_address_and_display_name_is_a_variable() -> None:
    assert read("address,display_name,city\nada@example.org,Ada,Hà Nội\n") == [
        Person(2, "ada@example.org", "Ada", {"city": "Hà Nội"})
    ]


def test_the_column_name_is_the_display_name_and_a_variable_too() -> None:
    assert read("email,name\nada@example.org,Ada\n") == [Person(2, "ada@example.org", "Ada", {"name": "Ada"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_in_the_first_line(delimiter: str) -> None:
    lines = ("address", "city"), ("ada@example.org", "Ulm")
    assert read("\n".join(delimiter.join(line) for line in lines)) == [
        Person(2, "ada@example.org", "", {"city": "Ulm"})
    ]


def test_a_spreadsheet_may_name_its_delimiter_in_a_line_of_its_own() -> None:
    assert read("sep=;\r\nEmail;City\r\nada@example.org;Ulm\r\n") == [Person(3, "ada@example.org", "", {"City": "Ulm"})]


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    assert read(b"\xef\xbb\xbfaddress\nada@example.org\n") == [Person(2, "ada@example.org", "", {})]


def test_a_cell_that_looks_like_json_is_json() -> None:
    row = read('address,items,more\nada@example.org,"[""a"", 1]","{""x"": null}"\n')
    assert row == [Person(2, "ada@example.org", "", {"items": ["a", 1], "more": {"x": None}})]


def test_a_line_break_inside_quotes_keeps_later_line_numbers_true() -> None:
    people = read('address,note\na@example.org,"two\nlines"\nb@example.org,one\n')
    assert [(one.line, one.address) for one in people] == [(2, "a@example.org"), (4, "b@example.org")]


def test_empty_lines_are_no_recipients() -> None:
    assert read("address,city\n\n , \nada@example.org,\n") == [Person(4, "ada@example.org", "", {"city": ""})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b@example.org,Ulm,extra,[]", "has 4 cells where the first line names 3"),
        ("b@example.org", "has 1 cells"),
        (",Ulm,[]", "has no address"),
        ("b@example.org,Ulm,[1", 'column "items" looks like JSON and is none'),
        ("b@example.org,Ulm,[NaN]", "NaN is no number"),
        ("b@example.org,Ulm,[1e999]", "a number too large"),
        ("b@example.org,Ulm,[12345678901234567890]", "write it in quotes"),
        ("b@example.org,Ulm," + "[" * 50 + "]" * 50, "too many brackets"),
        ("b@example.org,Ulm," + "[" * 100_000, "too many brackets"),
        (r'b@example.org,Ulm,"[""\ud800""]"', "half a character"),
        ('"b@example.org"x,Ulm,[]', "put the whole cell in quotes"),
    ],
)
def test_a_bad_line_is_named_with_its_reason_and_the_others_are_kept(line: str, reason: str) -> None:
    before, bad, after = read(f"address,city,items\na@example.org,Ulm,[]\n{line}\nc@example.org,Ulm,[]\n")
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert reason in bad.reason
    assert [before.address, after.address] == ["a@example.org", "c@example.org"]


def test_a_quote_that_is_never_closed_says_which_lines_it_swallowed() -> None:
    found = read('address,city\na@example.org,Ulm\nb@example.org,"Ulm\nc@example.org,Ulm\n')
    assert found[0].address == "a@example.org"
    assert isinstance(found[1], BadLine)
    assert "lines 3 to 4 are left out" in found[1].reason


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"city,name\nUlm,Ada\n", "no column"),
        (b"address,email\na,b\n", "two columns for the address"),
        (b"address,city\ra@example.org,Ulm\r", "carriage return alone"),
        (b"address,,city\n", "column 2 has no name"),
        (b"address,city,City\n", 'two columns are called "city"'),
        ("address\nada@example.org\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"address,city\na@example.org,Ulm\nb@example.org,Z\xfcrich\n", 'line 3 is not UTF-8 (byte 0xFC after "b@exa'),
        (b"address\n" + b"x" * (2 * 1024 * 1024), "line 2 is longer than 1 MiB"),
        (b'"address\n', "the first line cannot be read"),
        (b"sep=\naddress\n", "no column"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_cure(content: bytes, problem: str) -> None:
    with pytest.raises(CsvProblem) as caught:
        read(content)
    assert problem in str(caught.value)


def test_a_wrong_encoding_is_found_before_anything_is_read() -> None:
    with pytest.raises(CsvProblem, match="line 3"):
        check_encoding(io.BytesIO(b"address\na@example.org\n\xff\n"))


class Endless(io.RawIOBase):
    """A file that is longer than memory should be."""

    def __init__(self, count: int) -> None:
        self._lines: Iterator[bytes] = itertools.chain(
            [b"address,city\n"], (b"person%d@example.org,Ulm\n" % number for number in range(count))
        )

    def readline(self, size: int | None = -1, /) -> bytes:
        return next(self._lines, b"")


def test_memory_stays_flat_however_long_the_file_is() -> None:
    tracemalloc.start()
    count = sum(isinstance(one, Person) for one in read_people(Endless(100_000)))  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 1_000_000


def test_the_examples_are_read_whole() -> None:
    with Path("examples/recipients.csv").open("rb") as file:
        assert sum(isinstance(one, Person) for one in read_people(file)) >= 500
