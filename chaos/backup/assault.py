"""The attack: lets the backup service live and die as planned, and looks after every death at what it left."""

import asyncio
import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
import zstandard

from chaos.backup.call import Call
from chaos.backup.judge import Observed
from chaos.backup.moments import Operation
from chaos.backup.plan import Life
from chaos.backup.scene import Scene
from chaos.backup.tables import Content, Ledger
from chaos.patience import patiently
from chaos.processes import Victim
from mailer.v1 import backup_pb2 as pb

if TYPE_CHECKING:
    from mailer.v1.backup_pb2_grpc import BackupAsyncStub

LIVE = "the live database"


class Wedged(Exception):
    """It does not go on; the text says what was waited for."""


class Assault:
    """Kills, looks, and keeps the score."""

    def __init__(self, scene: Scene) -> None:
        """Take what is attacked."""
        self.observed = Observed(seed=scene.system.seed, writes=scene.writes)
        self._scene = scene
        self._numbers = count(1)
        self._contents: dict[str, Content] = {}  # of the snapshots, by id
        self._pending: Call | None = None

    async def prepare(self) -> None:
        """Switch the schedule off, take a snapshot and restore it: everything once in peace."""
        victim = await self._scene.start_backup()
        client = await self._client(victim)
        update = pb.BackupUpdateSettingsRequest(settings=pb.BackupSettings())
        update.update_mask.paths.append("backup_schedule")
        await patiently(client.UpdateSettings, update)
        for operation in (Operation.CREATE, Operation.RESTORE):
            await self._finish(self._call(operation), client, victim)
            count = len(self._scene.writes)
            # So that a restore has something to take back, and something to carry over.
            if not await self._scene.until(lambda: len(self._scene.writes) > count + 10, seconds=20):  # noqa: B023
                raise Wedged("nobody writes")
        await victim.end()

    async def live(self, life: Life) -> None:
        """Live through one life: what the last one left unanswered first, then what this one dies of."""
        victim = await self._scene.start_backup(life)
        if life.operation is Operation.START:
            await victim.ended(life.seconds if life.moment is None else 20)
            await self._kill(victim, life)
            return
        client = await self._client(victim)
        await self._look(client)
        if self._pending is not None and self._pending.operation is not life.operation:
            await self._finish(self._pending, client, victim)
        if life.operation is not Operation.VERIFY:
            await self._verify(life.choice, client, victim)
        call = self._pending or self._call(life.operation, life)
        answer, _ = await asyncio.gather(self._ask(call, client, victim), self._kill_later(victim, life))
        await self._kill(victim, life)
        if answer is None:
            self._pending = call
        else:
            await self._settle(call, answer)

    async def rest(self) -> None:
        """Kill nobody any more: finish what is unfinished, verify everything, and look a last time."""
        victim = await self._scene.start_backup()
        client = await self._client(victim)
        await self._look(client)
        if self._pending is not None:
            await self._finish(self._pending, client, victim)
        for snapshot_id in list(self._contents):
            await self._verify_one(snapshot_id, client, victim)
        await self._look(client)
        await victim.end()

    async def look_at_live(self) -> None:
        """Compare the live database with what has been acknowledged."""
        self._scene.take_notes()
        self.observed.mixed += self._scene.mixed_looks
        self.observed.looks = self._scene.looks
        self._scene.mixed_looks = 0
        known = self._scene.history.known()
        content = await self._read(LIVE)
        if content is None:
            return
        is_ours = content.era == self._scene.history.current
        if not is_ours and (self._pending is None or self._pending.operation is not Operation.RESTORE):
            self.observed.surprises.append("the database has an identity that no restore gave it")
        self._judge(f"{LIVE} in era {content.era[:8]}", content, known=known)

    async def _look(self, client: "BackupAsyncStub") -> None:
        """Look at the store and the live database after a start."""
        self.observed.leftovers += self._scene.leftovers()
        await self.look_at_live()
        known = self._pending.known if self._pending is not None else {}
        listed = (await patiently(client.List, pb.BackupListRequest(page_size=1000))).snapshots
        for snapshot in listed:
            if snapshot.state == pb.Snapshot.STATE_DAMAGED:
                self.observed.bad_listed.add(snapshot.snapshot_id)
            if snapshot.snapshot_id not in self._contents:
                await self._learn(snapshot.snapshot_id, known)
        for gone in self._contents.keys() - {one.snapshot_id for one in listed}:
            if self._pending is None or self._pending.operation is not Operation.PRUNE:
                self.observed.lost[f"the list, which has {gone} no more"] = 1
            del self._contents[gone]
        notes = [one.note for one in listed if one.trigger == pb.Snapshot.TRIGGER_MANUAL]
        if len(notes) != len(set(notes)):
            self.observed.surprises.append("a repeated Create has taken a second snapshot")

    async def _finish(self, call: Call, client: "BackupAsyncStub", victim: Victim) -> None:
        """Ask until it is answered, in a life that does not end meanwhile."""
        answer = await self._ask(call, client, victim)
        if answer is None:
            raise Wedged(f"the backup service ended by itself in {call.operation}: {_last_line(victim)}")
        await self._settle(call, answer)

    async def _ask(self, call: Call, client: "BackupAsyncStub", victim: Victim) -> Any:
        try:
            return await call.ask(client, victim)
        except grpc.aio.AioRpcError as error:
            raise Wedged(f"{call.operation} was refused: {error.code().name} {error.details()}") from error

    async def _settle(self, call: Call, answer: Any) -> None:
        """Take in an answer, and compare it with what is there."""
        self._pending = None
        match call.operation:
            case Operation.CREATE:
                self.observed.creates += call.spans
                self.observed.repeated_creates += call.lives > 1
                await self._learn(answer.snapshot.snapshot_id, call.known)
            case Operation.RESTORE:
                await self._settle_restore(call, answer)
            case Operation.PRUNE:
                for snapshot_id in answer.removed_snapshot_ids:
                    self._contents.pop(snapshot_id, None)
            case Operation.VERIFY:
                self.observed.verified += 1
                if answer.snapshot.state != pb.Snapshot.STATE_OK:
                    self.observed.bad_listed.add(call.snapshot_id)
            case Operation.START:
                pass

    async def _settle_restore(self, call: Call, answer: pb.BackupRestoreResponse) -> None:
        history = self._scene.history
        era = answer.incarnation
        if era == history.current:
            self.observed.surprises.append("a repeated restore has answered with another one")
            return
        if not await self._scene.writers_go_on_in(era):
            raise Wedged(f"after the restore of {call.snapshot_id} a writer does not go on")
        # The last of what they did in the era before is in their diaries now.
        await self._learn(answer.pre_restore_snapshot_id, history.known(before=era))
        history.begin(era, self._contents[call.snapshot_id].ledger)
        self.observed.locks.append(answer.write_lock.ToTimedelta().total_seconds())
        self.observed.repeated_restores += call.lives > 1
        await self.look_at_live()

    async def _learn(self, snapshot_id: str, known: Ledger) -> None:
        """Read a snapshot, and compare it with what it must hold."""
        content = await self._read(snapshot_id)
        if content is not None:
            self._contents[snapshot_id] = content
            self._judge(snapshot_id, content, known=known)

    async def _read(self, name: str) -> Content | None:
        """Return what the live database or a snapshot has; one that cannot be read is a broken promise."""
        try:
            if name == LIVE:
                return await asyncio.to_thread(self._scene.live)
            return await asyncio.to_thread(self._scene.content_of, name)
        except (sqlite3.Error, OSError, zstandard.ZstdError) as error:
            self.observed.bad_listed.add(name)
            self.observed.surprises.append(f"{name} cannot be read: {error}")
            return None

    def _judge(self, name: str, content: Content, *, known: Ledger) -> None:
        self.observed.mixed += content.is_mixed
        missing = self._scene.history.missing(content, known)
        self.observed.lost[name] = max(missing, self.observed.lost.get(name, 0))

    async def _verify(self, choice: float, client: "BackupAsyncStub", victim: Victim) -> None:
        """Verify the newest snapshot, and another one."""
        chosen = sorted(self._contents)
        for snapshot_id in {chosen[-1], chosen[int(choice * len(chosen))]}:
            await self._verify_one(snapshot_id, client, victim)

    async def _verify_one(self, snapshot_id: str, client: "BackupAsyncStub", victim: Victim) -> None:
        call = Call(Operation.VERIFY, snapshot_id=snapshot_id)
        answer = await self._ask(call, client, victim)
        if answer is None:
            raise Wedged(f"the backup service ended by itself in verify: {_last_line(victim)}")
        pending = self._pending
        await self._settle(call, answer)
        self._pending = pending

    def _call(self, operation: Operation, life: Life | None = None) -> Call:
        """Return a new call; which snapshot it is about is the life's choice."""
        self._scene.take_notes()
        chosen = sorted(self._contents)
        return Call(
            operation,
            request_id=f"{operation}-{next(self._numbers)}",
            snapshot_id=chosen[int((life.choice if life else 0.0) * len(chosen))] if chosen else "",
            is_streamed=life is not None and life.is_streamed,
            known=self._scene.history.known(),
        )

    async def _client(self, victim: Victim) -> "BackupAsyncStub":
        client = await self._scene.client_of(victim)
        if client is None:
            raise Wedged(f"the backup service does not start: {_last_line(victim)}")
        return client

    async def _kill_later(self, victim: Victim, life: Life) -> None:
        if life.moment is None:
            await victim.ended(life.seconds)
            await victim.kill()

    async def _kill(self, victim: Victim, life: Life) -> None:
        """Kill what still lives, and count it by how it died."""
        at_moment = life.moment is not None and victim.died_at_window
        if not victim.has_ended:
            await victim.kill()
        elif not at_moment and not victim.is_condemned:
            raise Wedged(f"the backup service ended by itself: {_last_line(victim)}")
        if at_moment and life.moment is not None:
            self.observed.kills[life.moment] += 1
        elif life.moment is not None:
            self.observed.kills[f"{life.operation}: its moment did not come"] += 1
        else:
            self.observed.kills[f"{life.operation}: at a random time"] += 1


def _last_line(victim: Victim) -> str:
    lines = victim.last_words().strip().splitlines()
    return lines[-1] if lines else "without a word"
