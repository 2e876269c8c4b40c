"""Lists that come in pages, and things that people call by their names."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Generic, TypeVar

import typer
from google.protobuf.message import Message
from rich.console import RenderableType

from mailer.cli.campaign_view import campaign_state
from mailer.cli.exit_code import ExitCode
from mailer.cli.failure import Failure, usage
from mailer.cli.output import Output, to_dict
from mailer.cli.session import QUICK
from mailer.cli.words import instant
from mailer.v1 import scheduler_pb2, scheduler_pb2_grpc, sender_pb2, sender_pb2_grpc

R = TypeVar("R", bound=Message)
T = TypeVar("T", bound=Message)

Limit = Annotated[int, typer.Option(min=0, metavar="N", help="Show at most so many; 0 means all.")]

_LARGEST_PAGE = 1000
_WHOLE_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORTEST_PREFIX = 4


async def pages(call: Callable[..., Awaitable[R]], request: Any, field: str, *, limit: int) -> AsyncIterator[R]:
    """Yield the answers of a list call, page by page, with up to `limit` items (0: all) in `field` together."""
    count = 0
    while True:
        request.page_size = min(_LARGEST_PAGE, limit - count) if limit else _LARGEST_PAGE
        page = await call(request, timeout=QUICK)
        count += len(getattr(page, field))
        yield page
        request.page_token = page.next_page_token  # type: ignore[attr-defined]
        if not request.page_token or (limit and count >= limit):
            return


async def collect(call: Callable[..., Awaitable[R]], request: Any, field: str) -> R:
    """Return the answer of a list call with all items in `field`: for what there are few of."""
    whole: R | None = None
    async for page in pages(call, request, field, limit=0):
        if whole is None:
            whole = page
        else:
            getattr(whole, field).extend(getattr(page, field))
            whole.next_page_token = ""  # type: ignore[attr-defined]
    assert whole is not None
    return whole


async def print_list(
    out: Output,
    call: Callable[..., Awaitable[R]],
    request: Any,
    field: str,
    table: Callable[[Sequence[Any]], RenderableType | str],
    *,
    limit: int,
) -> R:
    """Print a list of any length as it comes, and return its last page.

    As JSON it is one document in the form of the answer; else one table a page.
    """
    count, last = 0, None
    async for page in pages(call, request, field, limit=limit):
        items = getattr(page, field)
        if out.as_json:
            begin = f'{{"{field}": [' if last is None else ""
            out.write(begin + "".join(_json_lines(items, is_first=count == 0)))
        elif items or not count:
            out.print(table(items))
        count, last = count + len(items), page
    assert last is not None
    if out.as_json:
        out.write(_json_end(last, field))
    if last.next_page_token:  # type: ignore[attr-defined]
        out.note("There are more: --limit 0 shows all.", style="dim")
    return last


def _json_lines(items: Iterable[Message], *, is_first: bool) -> Iterator[str]:
    for item in items:
        yield ("\n" if is_first else ",\n") + json.dumps(to_dict(item), ensure_ascii=False)
        is_first = False


def _json_end(last: Message, field: str) -> str:
    """Return what closes the list and follows it: the other fields of the answer."""
    rest = {name: value for name, value in to_dict(last).items() if name != field}
    others = json.dumps(rest, ensure_ascii=False).removeprefix("{")
    return f"\n], {others}\n"


@dataclass(frozen=True)
class Noun(Generic[T]):
    """How things of one kind are told apart."""

    word: str
    id_of: Callable[[T], str]
    name_of: Callable[[T], str]
    tell_apart: Callable[[T], str]
    """What is said of it where several have its name: the id, and what a person knows them by."""

    def choose(self, things: Sequence[T], wanted: str) -> T:
        """Return the one thing with this id, name, or beginning of an id; raises Failure when there is not one."""
        for thing in things:
            if self.id_of(thing) == wanted:
                return thing
        named = [thing for thing in things if self.name_of(thing) == wanted]
        if not named and len(wanted) >= _SHORTEST_PREFIX:
            named = [thing for thing in things if self.id_of(thing).startswith(wanted)]
        if len(named) == 1:
            return named[0]
        if named:
            those = "; ".join(map(self.tell_apart, named[:5]))
            raise usage(f'{len(named)} {self.word}s are called "{wanted}", name one by its id: {those}.')
        close = get_close_matches(wanted, [self.name_of(thing) for thing in things], n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"mailer {self.word} list shows what there is."
        raise Failure(f'there is no {self.word} "{wanted}": {hint}', ExitCode.NOT_FOUND, code="NOT_FOUND")


def one_of_several(campaign: scheduler_pb2.Campaign) -> str:
    """Return what tells a campaign from others of its name."""
    parts = (campaign_state(campaign), f"created {instant(campaign.create_time) or 'at an unknown time'}")
    return f"{campaign.campaign_id} ({', '.join(parts)})"


ACCOUNT = Noun[sender_pb2.Account](
    "account", lambda one: one.account_id, lambda one: one.name, lambda one: one.account_id
)
TEMPLATE = Noun[scheduler_pb2.Template](
    "template", lambda one: one.template_id, lambda one: one.name, lambda one: one.template_id
)
CAMPAIGN = Noun[scheduler_pb2.Campaign]("campaign", lambda one: one.campaign_id, lambda one: one.name, one_of_several)


async def account_id(stub: "sender_pb2_grpc.SenderAsyncStub", wanted: str) -> str:
    """Return the id of the account with this id or name."""
    if _WHOLE_ID.fullmatch(wanted):
        return wanted
    answer = await collect(stub.ListAccounts, sender_pb2.ListAccountsRequest(), "accounts")
    return ACCOUNT.choose(answer.accounts, wanted).account_id


async def template_id(stub: "scheduler_pb2_grpc.SchedulerAsyncStub", wanted: str) -> str:
    """Return the id of the template with this id or name."""
    if _WHOLE_ID.fullmatch(wanted):
        return wanted
    answer = await collect(stub.ListTemplates, scheduler_pb2.ListTemplatesRequest(), "templates")
    return TEMPLATE.choose(answer.templates, wanted).template_id


async def campaign_id(stub: "scheduler_pb2_grpc.SchedulerAsyncStub", wanted: str) -> str:
    """Return the id of the campaign with this id or name."""
    if _WHOLE_ID.fullmatch(wanted):
        return wanted
    answer = await collect(stub.ListCampaigns, scheduler_pb2.ListCampaignsRequest(), "campaigns")
    return CAMPAIGN.choose(answer.campaigns, wanted).campaign_id
