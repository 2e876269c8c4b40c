"""To whom the campaigns of a restored snapshot go: a run that is resumed must not stop at half of its recipients.

Recipients are a decision that a restore takes back, but for a run whose hand-over is under way: its cursor is a
position in the list of the live database, and its count is the length of that list. So the campaign of such a run
gets exactly that list. Where the two lists disagree (an earlier restore came in between), a union would send the run
to people whom it never was for, and a renumbered list would pass over some: the live one replaces the other.

Works, like carry, on the stage (`main`) with the live database attached as `live`.
"""

import sqlite3
from collections.abc import Sequence

from services.backup.proof import quoted
from services.backup.rows import both_have, copy_rows, shared_columns

_LENGTHS = ("recipient_count", "duplicate_count", "last_position", "known_variables")
"""What a campaign says of its list."""


def campaigns_to_fill(stage: sqlite3.Connection) -> list[str]:
    """Return the campaigns that need the live list: before their runs are carried.

    They began after the snapshot and have fired, or have a run that the sender does not have all of.
    """
    if not (both_have(stage, "runs") and both_have(stage, "campaigns")):
        return []
    wanted = "NOT EXISTS (SELECT 1 FROM main.campaigns c WHERE c.campaign_id = r.campaign_id)"
    if {"state", "handed_over"} <= set(shared_columns(stage, "runs")):
        wanted += " OR (NOT r.handed_over AND r.state IN ('dispatching', 'sending', 'paused', 'held'))"
    found = stage.execute(f"SELECT DISTINCT r.campaign_id FROM live.runs r WHERE {wanted} ORDER BY 1")
    return [row[0] for row in found]


def fill(stage: sqlite3.Connection, campaign_ids: Sequence[str]) -> int:
    """Give these campaigns the live list; returns how many recipients were carried. Inside a transaction."""
    if not (both_have(stage, "recipients") and both_have(stage, "campaigns")):
        return 0
    return sum(_fill(stage, campaign_id) for campaign_id in campaign_ids)


def _fill(stage: sqlite3.Connection, campaign_id: str) -> int:
    names = shared_columns(stage, "recipients")
    same = " AND ".join(f"l.{quoted(name)} IS recipients.{quoted(name)}" for name in names)
    # Nearly always all are the same, and are looked up in the order in which they lie.
    stage.execute(
        f"DELETE FROM main.recipients WHERE campaign_id = ? AND NOT EXISTS"
        f" (SELECT 1 FROM live.recipients l WHERE {same})",
        (campaign_id,),
    )
    present = "SELECT 1 FROM main.recipients s WHERE s.campaign_id = l.campaign_id AND s.position = l.position"
    missing = f"live.recipients l WHERE l.campaign_id = ? AND NOT EXISTS ({present})"
    carried = copy_rows(stage, "recipients", names, missing, campaign_id)
    known = set(shared_columns(stage, "campaigns"))
    changes = ", ".join(f"{name} = l.{name}" for name in _LENGTHS if name in known)
    if changes:
        stage.execute(
            f"UPDATE main.campaigns SET {changes} FROM live.campaigns AS l"
            " WHERE l.campaign_id = campaigns.campaign_id AND campaigns.campaign_id = ?",
            (campaign_id,),
        )
    return carried
