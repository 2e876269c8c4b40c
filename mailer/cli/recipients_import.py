"""Recipients from a file into a campaign: one stream, repeated from the start when it breaks."""

import asyncio
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import grpc
from google.protobuf.struct_pb2 import Value
from rich.console import RenderableType
from rich.progress import Progress, TaskID, TaskProgressColumn

from mailer.cli.csv_file import BadLine, CsvProblem, Person, check_encoding, read_people
from mailer.cli.failure import usage
from mailer.cli.output import Column, Output, to_dict
from mailer.cli.session import QUICK, Session
from mailer.cli.words import count_of
from mailer.v1 import scheduler_pb2, sender_pb2

_BATCH = 1000
_BATCH_BYTES = 1024 * 1024
_LARGEST_RECIPIENT = 256 * 1024
_MOST_BAD_LINES = 1000
_WAITS = (0.5, 1.0, 2.0, 4.0)
_HOURS = 6 * 3600.0
_LACKING = re.compile("lacks what the templates need: ([^;]+);")


@dataclass(slots=True)
class _Reading:
    """What one pass over the file has seen; line numbers are kept in runs, so that memory stays flat."""

    people: int = 0
    columns: tuple[str, ...] = ()
    """The columns that became variables."""
    bad_count: int = 0
    bad: list[BadLine] = field(default_factory=list)
    problem: CsvProblem | None = None
    """Why the reading ended early."""
    _starts: list[int] = field(default_factory=list)
    _offsets: list[int] = field(default_factory=list)

    def note_person(self, line: int) -> None:
        """Remember that the next recipient of the stream stands in this line."""
        offset = line - self.people
        if not self._offsets or self._offsets[-1] != offset:
            self._starts.append(self.people)
            self._offsets.append(offset)
        self.people += 1

    def note_bad(self, bad: BadLine) -> None:
        """Count a line that is left out, and keep the first of them."""
        self.bad_count += 1
        if len(self.bad) < _MOST_BAD_LINES:
            self.bad.append(bad)

    def line_of(self, index: int) -> int:
        """Return the line of a recipient by its position in the stream."""
        return index + self._offsets[bisect_right(self._starts, index) - 1]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file."""

    campaign_id: str
    accepted_count: int
    duplicate_count: int
    rejected_count: int
    rejected: list[BadLine]
    """The first 1,000 of them, by line."""
    recipient_count: int

    def document(self) -> dict[str, Any]:
        """Return the JSON form: AddRecipientsResponse, with lines of the file in place of positions."""
        counts = scheduler_pb2.AddRecipientsResponse(
            accepted_count=self.accepted_count,
            duplicate_count=self.duplicate_count,
            rejected_count=self.rejected_count,
            recipient_count=self.recipient_count,
        )
        rejected = [{"line": one.line, "address": one.address, "description": one.reason} for one in self.rejected]
        return {"campaign_id": self.campaign_id, **to_dict(counts), "rejected": rejected}

    def summary(self) -> str:
        """Return what happened, in one sentence."""
        parts = [f"Imported {count_of(self.accepted_count, 'recipient')}"]
        if self.duplicate_count:
            parts.append(f"{count_of(self.duplicate_count, 'address', 'addresses')} already there")
        if self.rejected_count:
            parts.append(f"{count_of(self.rejected_count, 'line')} not taken")
        return f"{', '.join(parts)}; the campaign has {count_of(self.recipient_count, 'recipient')}."

    def bad_lines(self, out: Output) -> RenderableType | str:
        """Return the lines that were not taken, as a table."""
        rows = [(str(one.line), one.address, one.reason) for one in self.rejected]
        return out.table((Column("line", "right"), Column("address"), Column("why it was not taken")), rows)


def _of_columns(reason: str, columns: Sequence[str]) -> str:
    """Return the service's reason in words of the file: its variables are columns here."""
    reason = reason.replace("add it to the variables", "add it as a column")
    lacking = _LACKING.search(reason)
    if lacking is None:
        return reason
    missing = {name.casefold(): name for name in lacking[1].split(", ")}
    hints = [
        f'the file has "{column}", the template says "{missing[column.casefold()]}"'
        for column in columns
        if column.casefold() in missing
    ]
    return "; ".join([reason, *hints])


def check_file(path: Path) -> None:
    """See that the file can be used as a whole; raises Failure. For stdin ("-") nobody knows before it is read."""
    with _opened(path):
        pass


async def import_file(session: Session, scheduler: Any, campaign_id: str, path: Path) -> Imported:
    """Add the recipients of a CSV file ("-" is stdin) to a campaign.

    Whatever breaks, the same file can be imported again: an address that the campaign has is not added twice.
    Raises Failure.
    """
    before = (
        await scheduler.GetCampaign(scheduler_pb2.GetCampaignRequest(campaign_id=campaign_id), timeout=QUICK)
    ).campaign.recipient_count
    with _opened(path) as (file, size), session.out.progress(TaskProgressColumn()) as progress:
        advance = _advance(progress, progress.add_task("Importing", total=size), file if size else None)
        answer, reading = await _upload(
            session, scheduler, campaign_id, path, file, advance=advance, can_repeat=bool(size)
        )
    refused = [
        BadLine(reading.line_of(one.index), _of_columns(one.description, reading.columns), one.address)
        for one in answer.rejected
    ]
    # Over several tries the service's own counts are those of the last one alone.
    accepted = answer.recipient_count - before
    return Imported(
        campaign_id=campaign_id,
        accepted_count=accepted,
        duplicate_count=reading.people - answer.rejected_count - accepted,
        rejected_count=answer.rejected_count + reading.bad_count,
        rejected=sorted((*reading.bad, *refused), key=lambda bad: bad.line)[:_MOST_BAD_LINES],
        recipient_count=answer.recipient_count,
    )


async def _upload(
    session: Session,
    scheduler: Any,
    campaign_id: str,
    path: Path,
    file: BinaryIO,
    *,
    advance: Callable[[int], None],
    can_repeat: bool,
) -> tuple[scheduler_pb2.AddRecipientsResponse, _Reading]:
    """Stream the file, over again when the scheduler goes away meanwhile; returns the answer to the last stream."""
    waits = iter(_WAITS if can_repeat else ())
    while True:
        reading = _Reading()
        try:
            batches = _batches(campaign_id, file, reading, advance)
            # grpc cancels the call when the iterator raises: what is wrong with the first lines is said before.
            whole = chain([next(batches)], _until_problem(batches, reading))
            answer = await scheduler.AddRecipients(whole, timeout=_HOURS)
            if reading.problem is None:
                return answer, reading
            raise reading.problem
        except asyncio.CancelledError:
            session.out.note("What has arrived is kept; import the same file again, nobody is added twice.")
            raise
        except CsvProblem as problem:
            raise usage(f"{path}: {problem}.") from None
        except grpc.aio.AioRpcError as error:
            wait = next(waits, None)
            if wait is None or error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        session.out.note("The scheduler went away; importing from the start, nobody is added twice.")
        await session.clock.sleep(wait)
        file.seek(0)


def _until_problem(
    batches: Iterator[scheduler_pb2.AddRecipientsRequest], reading: _Reading
) -> Iterator[scheduler_pb2.AddRecipientsRequest]:
    try:
        yield from batches
    except CsvProblem as problem:
        reading.problem = problem


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the file, see that it can be used as a whole, and tell its size; stdin has none and is read once."""
    if str(path) == "-":
        yield sys.stdin.buffer, None
        return
    with path.open("rb") as file:
        try:
            check_encoding(file)
            size = file.tell()
            file.seek(0)
            next(read_people(file), None)
        except CsvProblem as problem:
            raise usage(f"{path}: {problem}.") from None
        file.seek(0)
        yield file, size


def _advance(progress: Progress, task: TaskID, file: BinaryIO | None) -> Callable[[int], None]:
    def advance(people: int) -> None:
        done = None if file is None else file.tell()
        progress.update(task, completed=done, description=f"Importing, {people:,} so far")

    return advance


def _batches(
    campaign_id: str, file: BinaryIO, reading: _Reading, advance: Callable[[int], None]
) -> Iterator[scheduler_pb2.AddRecipientsRequest]:
    batch, size, count = scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id), 0, 0
    for one in read_people(file):
        if isinstance(one, BadLine):
            reading.note_bad(one)
            continue
        recipient = batch.recipients.add()
        fill_recipient(recipient, one)
        weight = recipient.ByteSize()
        if weight > _LARGEST_RECIPIENT:
            del batch.recipients[-1]
            reading.note_bad(BadLine(one.line, f"has {weight} bytes of variables: shorten them", one.address))
            continue
        if not reading.people:
            reading.columns = tuple(one.variables)
        reading.note_person(one.line)
        size += weight
        if len(batch.recipients) == _BATCH or size > _BATCH_BYTES:
            advance(reading.people)
            yield batch
            batch, size, count = scheduler_pb2.AddRecipientsRequest(), 0, count + 1
    if batch.recipients or not count:
        yield batch


def fill_recipient(recipient: sender_pb2.Recipient, person: Person) -> None:
    """Put the person into the message as it travels."""
    recipient.address = person.address
    if person.display_name:
        recipient.display_name = person.display_name
    fields = recipient.variables.fields
    for name, value in person.variables.items():
        if type(value) is str:
            fields[name].string_value = value
        else:
            _fill(fields[name], value)


def _fill(target: Value, value: Any) -> None:
    match value:
        case str():
            target.string_value = value
        case bool():
            target.bool_value = value
        case int() | float():
            target.number_value = value
        case list():
            target.list_value.SetInParent()
            for item in value:
                _fill(target.list_value.values.add(), item)
        case dict():
            target.struct_value.SetInParent()
            for name, item in value.items():
                _fill(target.struct_value.fields[name], item)
        case _:
            target.null_value = 0  # type: ignore[assignment]
