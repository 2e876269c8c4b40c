"""The methods about runs: what somebody decides about a whole run, and how it stands."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

from sqlalchemy import Connection

from mailer.clock import Clock
from mailer.database import Database
from mailer.go_ahead import says_go_ahead
from mailer.idempotency import request_key, run_once
from mailer.interceptor import Context
from mailer.requests import check_id, check_new_request_id, check_reason
from mailer.v1 import sender_pb2
from mailer.validation import Violations
from mailer.wire import to_timestamp
from services.sender import outbox, runs
from services.sender.bulletin import Bulletin
from services.sender.counts import Changes, read_counts
from services.sender.options import read_options
from services.sender.roster import Outlook
from services.sender.states import OPEN_STATES, DeliveryState, Policy, RunState
from services.sender.tables import requests

# Watchers hear of a change at most four times a second, and look for other processes' changes once a second.
SHORTEST_INTERVAL = 0.25
LONGEST_INTERVAL = 1.0

_Run = sender_pb2.Run
_POLICIES = {
    Policy.AT_MOST_ONCE: sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE,
    Policy.AT_LEAST_ONCE: sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE,
}
_STATES = {
    RunState.ACTIVE: _Run.STATE_ACTIVE,
    RunState.PAUSED: _Run.STATE_PAUSED,
    RunState.HELD: _Run.STATE_HELD,
    RunState.CANCELLED: _Run.STATE_CANCELLED,
}
_ENDED = frozenset({_Run.STATE_DONE, _Run.STATE_CANCELLED})


class RunRpcs:
    """GetRun, WatchRun, PauseRun, ResumeRun, CancelRun, RetryRun."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        bulletin: Bulletin,
        *,
        outlook_for: Callable[[str, bytes], Awaitable[Outlook]],
        on_decided: Callable[[str], None],
        on_go_ahead: Callable[[str], None],
    ) -> None:
        """Take what the methods need.

        `outlook_for(content_hash, options)` tells whether any account could take a run's messages now; `on_decided`
        hears the id of every run that somebody decided about, `on_go_ahead` that of one that may go on after a start.
        """
        self._database = database
        self._clock = clock
        self._bulletin = bulletin
        self._outlook_for = outlook_for
        self._on_decided = on_decided
        self._on_go_ahead = on_go_ahead

    async def GetRun(self, request: sender_pb2.GetRunRequest, context: Context) -> sender_pb2.GetRunResponse:
        """Return a run."""
        _check_run_id(request.run_id)
        run = await self._present(request.run_id)
        if says_go_ahead(context.invocation_metadata()):
            self._on_go_ahead(request.run_id)
        return sender_pb2.GetRunResponse(run=run)

    async def WatchRun(
        self, request: sender_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[sender_pb2.WatchRunResponse]:
        """Yield a run at once and after each change, until it has ended."""
        _check_run_id(request.run_id)
        with self._bulletin.watch(request.run_id) as changed:
            shown = None
            while True:
                changed.clear()
                run = await self._present(request.run_id)
                if run != shown:
                    shown = run
                    yield sender_pb2.WatchRunResponse(run=run)
                if run.state in _ENDED and not run.counts.in_progress_count:
                    return
                await self._clock.sleep(SHORTEST_INTERVAL)
                await self._clock.wait(changed, LONGEST_INTERVAL - SHORTEST_INTERVAL)

    async def PauseRun(self, request: sender_pb2.PauseRunRequest, context: Context) -> sender_pb2.PauseRunResponse:
        """Stop a run: claims that are not at their dot are void at once."""
        violations = Violations()
        check_id(request.run_id, violations, field="run_id")
        check_reason(request.reason, violations)
        violations.raise_if_any()
        await self._database.write(_pause, request.run_id, request.reason, self._clock.now())
        return sender_pb2.PauseRunResponse(run=await self._decided(request.run_id))

    async def ResumeRun(self, request: sender_pb2.ResumeRunRequest, context: Context) -> sender_pb2.ResumeRunResponse:
        """Let a run go on."""
        _check_run_id(request.run_id)
        await self._database.write(_resume, request.run_id, self._clock.now())
        self._on_go_ahead(request.run_id)
        return sender_pb2.ResumeRunResponse(run=await self._decided(request.run_id))

    async def CancelRun(self, request: sender_pb2.CancelRunRequest, context: Context) -> sender_pb2.CancelRunResponse:
        """Cancel what is not at its dot."""
        _check_run_id(request.run_id)
        await self._database.write(_cancel, request.run_id, self._clock.now())
        return sender_pb2.CancelRunResponse(run=await self._decided(request.run_id))

    async def RetryRun(self, request: sender_pb2.RetryRunRequest, context: Context) -> sender_pb2.RetryRunResponse:
        """Queue again what failed."""
        violations = Violations()
        check_new_request_id(request.request_id, violations)
        check_id(request.run_id, violations, field="run_id")
        violations.raise_if_any()
        key = request_key("RetryRun", request, request.request_id)
        now = self._clock.now()

        def effect(connection: Connection) -> sender_pb2.RetryRunResponse:
            return sender_pb2.RetryRunResponse(
                retried_count=_retry(connection, request.run_id, with_expired=request.include_expired, now=now)
            )

        response = await self._database.write(
            run_once, requests, key, effect, response_type=sender_pb2.RetryRunResponse, now=now
        )
        await self._decided(request.run_id)
        return response

    async def _decided(self, run_id: str) -> sender_pb2.Run:
        self._bulletin.publish([run_id])
        self._on_decided(run_id)
        return await self._present(run_id)

    async def _present(self, run_id: str) -> sender_pb2.Run:
        run, counts, next_attempt_time = await self._database.read(_read, run_id)
        message = sender_pb2.Run(
            run_id=run_id,
            campaign_id=run.campaign_id,
            state=_STATES[run.state],
            state_reason=run.state_reason,
            counts=to_counts(counts),
            policy=_POLICIES[run.policy],
            create_time=to_timestamp(run.create_time),
            next_attempt_time=to_timestamp(next_attempt_time),
            removal_time=to_timestamp(run.removal_time),
        )
        if run.state is RunState.ACTIVE:
            if not any(counts.get(state) for state in OPEN_STATES):
                message.state = _Run.STATE_DONE
            elif message.counts.pending_count and not message.counts.in_progress_count:
                outlook = await self._outlook_for(run.content_hash, run.options)
                if not outlook.room:
                    message.state = _Run.STATE_STALLED
                    message.state_reason = outlook.reason
                    if outlook.until is not None:
                        message.stalled_until_time.CopyFrom(to_timestamp(outlook.until))
        return message


def to_counts(counts: dict[str, int]) -> sender_pb2.DeliveryCounts:
    """Return counts by state for the wire."""

    def count(*states: DeliveryState) -> int:
        return sum(counts.get(state, 0) for state in states)

    return sender_pb2.DeliveryCounts(
        total_count=sum(counts.values()),
        pending_count=count(DeliveryState.PENDING),
        in_progress_count=count(DeliveryState.CLAIMED, DeliveryState.DOT_INTENT),
        deferred_count=count(DeliveryState.DEFERRED),
        sent_count=count(DeliveryState.SENT),
        failed_count=count(DeliveryState.FAILED),
        unknown_count=count(DeliveryState.UNKNOWN),
        cancelled_count=count(DeliveryState.CANCELLED),
        suppressed_count=count(DeliveryState.SUPPRESSED),
        expired_count=count(DeliveryState.EXPIRED),
    )


def _check_run_id(run_id: str) -> None:
    violations = Violations()
    check_id(run_id, violations, field="run_id")
    violations.raise_if_any()


def _read(connection: Connection, run_id: str) -> tuple[runs.Run, dict[str, int], datetime | None]:
    run = runs.existing(connection, run_id)
    counts = read_counts(connection, run_id)
    waits = counts.get(DeliveryState.DEFERRED, 0)
    return run, counts, outbox.next_attempt_of(connection, run_id) if waits else None


def _pause(connection: Connection, run_id: str, reason: str, now: datetime) -> None:
    runs.refuse_cancelled(runs.existing(connection, run_id))
    runs.pause(connection, run_id, reason=reason, now=now)


def _resume(connection: Connection, run_id: str, now: datetime) -> None:
    run = runs.existing(connection, run_id)
    runs.refuse_cancelled(run)
    if run.state is not RunState.ACTIVE:
        runs.set_state(connection, run_id, RunState.ACTIVE, reason="", now=now)


def _cancel(connection: Connection, run_id: str, now: datetime) -> None:
    run = runs.ensure(
        connection,
        run_id=run_id,
        campaign_id="",
        policy=Policy.AT_MOST_ONCE,
        options=b"",
        content_hash="",
        now=now,
        state=RunState.CANCELLED,
    )
    if run.state is RunState.CANCELLED:
        return
    runs.set_state(connection, run_id, RunState.CANCELLED, reason="", now=now)
    changes = Changes()
    runs.cancel_open(connection, run_id, now=now, changes=changes)
    changes.apply(connection)


def _retry(connection: Connection, run_id: str, *, with_expired: bool, now: datetime) -> int:
    run = runs.existing(connection, run_id)
    runs.refuse_cancelled(run)
    runs.refuse_removed(run)
    options = read_options(sender_pb2.DeliveryOptions.FromString(run.options), default=run.policy)
    changes = Changes()
    retried = sum(
        runs.requeue(
            connection,
            run_id,
            before,
            now=now,
            expire_time=now + options.expire_after,
            flag=False,
            changes=changes,
        )
        for before in (DeliveryState.FAILED, *((DeliveryState.EXPIRED,) if with_expired else ()))
    )
    changes.apply(connection)
    return retried
