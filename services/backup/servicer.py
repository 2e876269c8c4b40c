"""The service Backup: requests checked, work asked of the keeper, answers in the words of the contract."""

import hashlib
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import grpc

from mailer.clock import Clock
from mailer.pagination import read_page
from mailer.v1 import backup_pb2 as pb
from mailer.v1 import backup_pb2_grpc
from mailer.validation import Violations, check_request_id, updated_paths
from services.backup import messages
from services.backup.create import Wish
from services.backup.keeper import Keeper, Report
from services.backup.progress import Feed
from services.backup.settings import Settings
from services.backup.shown import Shown
from services.backup.snapshot import Trigger, is_snapshot_id
from services.backup.ticker import Ticker

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
CreateRequest = pb.BackupCreateRequest | pb.BackupCreateStreamRequest
RestoreRequest = pb.BackupRestoreRequest | pb.BackupRestoreStreamRequest

_LONGEST_NOTE = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SETTINGS_FIELDS = frozenset({"backup_schedule", "time_zone", "backup_retention", "retention_policy", "drill_schedule"})


class BackupServicer(backup_pb2_grpc.BackupServicer):
    """Answers the methods of the contract."""

    def __init__(self, *, keeper: Keeper, ticker: Ticker, clock: Clock) -> None:
        """Take who does the work, and who knows when it is due next."""
        self._keeper = keeper
        self._ticker = ticker
        self._clock = clock

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server."""
        backup_pb2_grpc.add_BackupServicer_to_server(self, server)

    async def Create(self, request: pb.BackupCreateRequest, context: Context) -> pb.BackupCreateResponse:
        """Take a snapshot."""
        return await self._create(_wish(request), context)

    async def CreateStream(
        self, request: pb.BackupCreateStreamRequest, context: Context
    ) -> AsyncGenerator[pb.BackupCreateStreamResponse, None]:
        """Take a snapshot and tell how far it has come."""
        wish = _wish(request)
        feed = Feed(self._clock, lambda report: self._create(wish, context, report))
        async with aclosing(feed.progress()) as reports:
            async for progress in reports:
                yield pb.BackupCreateStreamResponse(progress=messages.progress_message(progress))
        yield pb.BackupCreateStreamResponse(result=await feed.result())

    async def List(self, request: pb.BackupListRequest, context: Context) -> pb.BackupListResponse:
        """List snapshots, newest first."""
        violations = Violations()
        states = messages.wanted_states(list(request.states), violations)
        page = read_page(
            request.page_size,
            request.page_token,
            violations,
            method="Backup.List",
            filters=sorted(state.value for state in states),
            key=(int, str),
        )
        violations.raise_if_any()
        chosen = [one for one in await self._keeper.listed() if one.state in states]
        if page.after is not None:
            chosen = [one for one in chosen if _sort_key(one) < page.after]
        shown, token = page.cut(chosen[: page.limit], _sort_key)
        return pb.BackupListResponse(
            snapshots=[messages.snapshot_message(one) for one in shown],
            next_page_token=token,
            health=await self._health(),
        )

    async def Prune(self, request: pb.BackupPruneRequest, context: Context) -> pb.BackupPruneResponse:
        """Remove what the policy does not keep."""
        violations = Violations()
        policy = messages.read_policy(request.policy, violations, field="policy")
        if policy.is_empty:
            violations.add("policy", "must have a rule, for example keep_last_count 7: without any, all would go")
        violations.raise_if_any()
        return messages.pruned_message(await self._keeper.prune(policy, validate_only=request.validate_only))

    async def Restore(self, request: pb.BackupRestoreRequest, context: Context) -> pb.BackupRestoreResponse:
        """Bring a snapshot back, or say what that would change."""
        _check_restore(request)
        return await self._restore(request, context)

    async def RestoreStream(
        self, request: pb.BackupRestoreStreamRequest, context: Context
    ) -> AsyncGenerator[pb.BackupRestoreStreamResponse, None]:
        """Bring a snapshot back, or say what that would change, and tell how far it has come."""
        _check_restore(request)
        feed = Feed(self._clock, lambda report: self._restore(request, context, report))
        async with aclosing(feed.progress()) as reports:
            async for progress in reports:
                yield pb.BackupRestoreStreamResponse(progress=messages.progress_message(progress))
        yield pb.BackupRestoreStreamResponse(result=await feed.result())

    async def Verify(self, request: pb.BackupVerifyRequest, context: Context) -> pb.BackupVerifyResponse:
        """Read a snapshot whole and prove it."""
        violations = Violations()
        _check_snapshot_id(request.snapshot_id, violations)
        violations.raise_if_any()
        known = await self._keeper.verify(request.snapshot_id, limit_seconds=_remaining(context))
        return pb.BackupVerifyResponse(snapshot=messages.snapshot_message(await self._keeper.shown(known)))

    async def GetSettings(self, request: pb.BackupGetSettingsRequest, context: Context) -> pb.BackupGetSettingsResponse:
        """Return the settings."""
        return pb.BackupGetSettingsResponse(
            settings=messages.settings_message(self._keeper.settings), health=await self._health()
        )

    async def UpdateSettings(
        self, request: pb.BackupUpdateSettingsRequest, context: Context
    ) -> pb.BackupUpdateSettingsResponse:
        """Change the settings named in update_mask."""
        violations = Violations()
        paths = updated_paths(request.update_mask, violations, updatable=_SETTINGS_FIELDS)
        settings = _changed(self._keeper.settings, request.settings, paths, violations)
        for field, problem in settings.problems():
            violations.add(f"settings.{field}", problem)
        violations.raise_if_any()
        await self._keeper.change_settings(settings)
        return pb.BackupUpdateSettingsResponse(
            settings=messages.settings_message(settings), health=await self._health()
        )

    async def _create(self, wish: Wish, context: Context, report: Report | None = None) -> pb.BackupCreateResponse:
        snapshot = await self._keeper.create(wish, limit_seconds=_remaining(context), report=report)
        return messages.created_message(await self._keeper.shown(snapshot))

    async def _restore(
        self, request: RestoreRequest, context: Context, report: Report | None = None
    ) -> pb.BackupRestoreResponse:
        if request.validate_only:
            planned = await self._keeper.plan_restore(
                request.snapshot_id, limit_seconds=_remaining(context), report=report
            )
            return messages.restored_message(planned)
        restored = await self._keeper.restore(
            request.snapshot_id,
            request_id=request.request_id,
            limit_seconds=_remaining(context),
            report=report,
        )
        return messages.restored_message(restored)

    async def _health(self) -> pb.BackupHealth:
        return messages.health_message(await self._keeper.health(), self._ticker.next_due())


def _wish(request: CreateRequest) -> Wish:
    """Return what a Create asks for. Raises InvalidArgument."""
    violations = Violations()
    _check_request_id(request.request_id, violations)
    if len(request.note) > _LONGEST_NOTE or _CONTROL.search(request.note):
        violations.add("note", f"use at most {_LONGEST_NOTE} characters in one line")
    violations.raise_if_any()
    body = json.dumps([request.note, request.pinned]).encode()
    return Wish(
        trigger=Trigger.MANUAL,
        request_id=request.request_id,
        request_digest=hashlib.sha256(body).hexdigest(),
        note=request.note,
        pinned=request.pinned,
    )


def _check_restore(request: RestoreRequest) -> None:
    violations = Violations()
    _check_request_id(request.request_id, violations)
    _check_snapshot_id(request.snapshot_id, violations)
    violations.raise_if_any()


def _check_request_id(request_id: str, violations: Violations) -> None:
    check_request_id(request_id, violations)
    if not request_id:
        violations.add("request_id", "is required: a new one for each intention, for example a UUID")


def _check_snapshot_id(snapshot_id: str, violations: Violations) -> None:
    if not is_snapshot_id(snapshot_id):
        violations.add("snapshot_id", "must be an id from List, like mailer_20261224T020000Z-0a1b2c3d")


def _changed(settings: Settings, wanted: pb.BackupSettings, paths: frozenset[str], violations: Violations) -> Settings:
    """Return the settings with the named fields changed."""
    values: dict[str, Any] = {}
    if "backup_schedule" in paths:
        values["backup_schedule"] = " ".join(wanted.backup_schedule.split())
    if "drill_schedule" in paths:
        values["drill_schedule"] = " ".join(wanted.drill_schedule.split())
    if "time_zone" in paths:
        values["time_zone"] = wanted.time_zone
    if "backup_retention" in paths:
        values["backup_retention"] = wanted.backup_retention
    if "retention_policy" in paths:
        policy = messages.read_policy(wanted.retention_policy, violations, field="settings.retention_policy")
        if policy.keep_last:
            violations.add("settings.retention_policy.keep_last_count", "set backup_retention instead: it is that rule")
        values["further_rules"] = policy
    return replace(settings, **values)


def _sort_key(shown: Shown) -> tuple[int, str]:
    snapshot = shown.snapshot
    return (snapshot.created_time - _EPOCH) // timedelta(microseconds=1), snapshot.snapshot_id


def _remaining(context: Context) -> float | None:
    """Return the seconds that the client still waits; None when it waits for ever."""
    return context.time_remaining()
