"""The judgement: an incident, what came before and the policy give a verdict. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from services.sender.replies.conditions import matches
from services.sender.replies.consequences import SENT
from services.sender.replies.incident import Incident, Stage
from services.sender.replies.reply import Reply
from services.sender.replies.rows import Patience, Row
from services.sender.replies.table import TABLE
from services.sender.replies.verdict import Action, Breaker, History, Scope, Verdict
from services.sender.replies.words import named_wait, rest_of_window, without_addresses

_NEVER = History()
_ROWS = {stage: tuple(row for row in TABLE if stage in row.stages) for stage in Stage}
_ACCEPTED = replace(SENT, rule="sent")


def judge(incident: Incident, *, history: Mapping[str, History] | None = None, retry_on: Sequence[str] = ()) -> Verdict:
    """Return what follows from the incident.

    `history` has, by the name of the row (`Verdict.rule`), how often and since when it applied before without
    a success in between: to the account where `Verdict.remember` says ACCOUNT, to the delivery where it says
    DELIVERY. What is missing counts as never. `retry_on` are codes ("550", "5.7.1") and classes ("5xx") that
    are deferred where the table says fail.
    """
    reply = incident.reply
    if incident.stage is Stage.DOT and reply is not None and reply.is_positive:
        return _ACCEPTED
    row = next(row for row in _ROWS[incident.stage] if row.when(incident))
    verdict, remember = row.then, Scope.NONE
    if row.patience:
        remember = row.patience.scope
        if _is_exhausted(row.patience, (history or {}).get(row.name, _NEVER)):
            verdict = row.patience.then
    if reply and verdict.action is Action.FAIL and is_named(reply, retry_on):
        verdict = replace(verdict, action=Action.DEFER, suppress=False, counts_against_run=False, tell_run=False)
    wait = named_wait(reply.text) if reply and verdict.action in _WAITS else None
    return replace(
        verdict,
        rule=row.name,
        remember=remember,
        rest=_rest(row, verdict, reply, wait),
        retry_after=wait,
        close_connection=verdict.close_connection or _is_the_end(incident),
        reason=f"{str(incident).rstrip('.')}. {verdict.reason}".rstrip(),
    )


def is_named(reply: Reply, patterns: Sequence[str]) -> bool:
    """Say whether one of the patterns ("550", "5.7.1", "5xx") names the basic or the enhanced code."""
    codes = [str(part) for part in (reply.code, reply.enhanced) if part]
    return any(matches(pattern, code) for pattern in patterns for code in codes)


_WAITS = frozenset({Action.REQUEUE, Action.DEFER})


def _is_the_end(incident: Incident) -> bool:
    """Say whether the connection is over: by 421, or because the rest of the body would be commands."""
    return incident.stage is Stage.BODY or (incident.reply is not None and incident.reply.code == 421)


def _is_exhausted(patience: Patience, before: History) -> bool:
    if patience.count is not None and before.count + 1 >= patience.count:
        return True
    return patience.lasting is not None and before.count > 0 and before.lasting >= patience.lasting


def _rest(row: Row, verdict: Verdict, reply: Reply | None, wait: timedelta | None) -> timedelta | None:
    if not (row.names_rest and reply and verdict.breaker is Breaker.REST):
        return verdict.rest
    named = wait or (None if verdict.rest else rest_of_window(without_addresses(reply.text)))
    return max((rest for rest in (named, verdict.rest) if rest), default=None)
