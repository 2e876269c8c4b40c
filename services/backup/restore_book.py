"""What restores have answered: so that a repeated call restores nothing a second time.

A restore rolls the database back, so its own answer cannot lie in it: it lies beside the snapshots. The entry
is written before the database changes and names the incarnation to come: if the database has it, it happened.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mailer.errors import AlreadyExists
from mailer.log import get_logger
from services.backup.durable import UNFINISHED, replace_file

log = get_logger(__name__)

_KEPT_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class TableChange:
    """Rows of one table, in the live database before and in the snapshot."""

    table: str
    live_row_count: int
    snapshot_row_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did, or with `validate_only` would do."""

    snapshot_id: str
    pre_restore_snapshot_id: str = ""
    tables: tuple[TableChange, ...] = ()
    held_run_ids: tuple[str, ...] = ()
    held_campaign_ids: tuple[str, ...] = ()
    sent_since_count: int = 0
    carried_row_count: int = 0
    write_lock_seconds: float = 0.0
    incarnation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One restore: who asked, for what, and how it came out."""

    request_id: str
    snapshot_id: str
    done: bool
    """False: begun. It happened if, and only if, the database has its incarnation."""
    restored: Restored


class RestoreBook:
    """Keeps entries as files in a directory beside the snapshots."""

    def __init__(self, directory: Path) -> None:
        """Name the directory; it is made with the first entry."""
        self._directory = directory

    def find(self, request_id: str, *, snapshot_id: str) -> Entry | None:
        """Return the entry of an earlier call. Raises AlreadyExists when it was for another snapshot."""
        entry = self._read(self._path(request_id))
        if entry is None:
            return None
        if entry.snapshot_id != snapshot_id:
            raise AlreadyExists(
                f"request_id {request_id} was used to restore {entry.snapshot_id}: use a new one.",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": request_id, "snapshot_id": entry.snapshot_id},
            )
        return entry

    def write(self, entry: Entry) -> None:
        """Keep an entry, on disk when this returns; the oldest ones beyond the limit go."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(entry.request_id), json.dumps(asdict(entry), indent=1).encode())
        files = sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_KEPT_ENTRIES:]:
            path.unlink(missing_ok=True)

    def unfinished(self) -> list[Entry]:
        """Return the restores that were begun and did not say how they ended."""
        entries = [self._read(path) for path in sorted(self._directory.glob("*.json"))]
        return [entry for entry in entries if entry is not None and not entry.done]

    def forget(self, entry: Entry) -> None:
        """Remove the entry of a restore that did not happen."""
        self._path(entry.request_id).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process did not finish writing. Only under the lock of the store."""
        for path in self._directory.glob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> Entry | None:
        """Return the entry; None where there is none, or none that can be read: no restore may fail by an old one."""
        try:
            return _entry(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            aside = path.with_suffix(".damaged")
            log.warning(
                "what a restore has answered cannot be read and is set aside", file=str(aside), error=str(error)
            )
            with suppress(FileNotFoundError):  # another call was faster
                path.replace(aside)
            return None

    def _path(self, request_id: str) -> Path:
        return self._directory / f"{hashlib.sha256(request_id.encode()).hexdigest()}.json"


def _entry(body: dict[str, Any]) -> Entry:
    restored = body.pop("restored")
    restored["tables"] = tuple(TableChange(**change) for change in restored["tables"])
    for name in ("held_run_ids", "held_campaign_ids"):
        restored[name] = tuple(restored.get(name, ()))
    return Entry(**body, restored=Restored(**restored))
