"""Runs that a later run of their campaign has overtaken since: they end as the live database says.

A campaign is resumed and cancelled at its newest run, so an older one that came back unfinished would be held for
ever. It need not: the next run began only because this one had ended. That is a fact; and what was given up in it is
not sent after all beside the newer one.

Works, like carry, on the stage (`main`) with the live database attached as `live`.
"""

import sqlite3

from services.backup.proof import quoted
from services.backup.rows import both_have, shared_columns

_OVER = "('finished', 'cancelled')"
_OPEN = "('pending', 'claimed', 'dot_intent', 'deferred')"


def end_overtaken(stage: sqlite3.Connection) -> int:
    """End them; returns how many rows were carried. Once runs and deliveries have come along, in a transaction."""
    if not (both_have(stage, "runs") and {"campaign_id", "slot_time", "state"} <= set(shared_columns(stage, "runs"))):
        return 0
    found = stage.execute(
        "SELECT s.run_id FROM main.runs s JOIN live.runs l ON l.run_id = s.run_id"
        f" WHERE s.state NOT IN {_OVER} AND l.state IN {_OVER} AND EXISTS"
        " (SELECT 1 FROM main.runs n WHERE n.campaign_id = s.campaign_id AND n.slot_time > s.slot_time)"
    ).fetchall()
    return sum(_end(stage, run_id) for (run_id,) in found)


def _end(stage: sqlite3.Connection, run_id: str) -> int:
    carried = _copy(stage, "runs", "run_id", "s.run_id = ?", run_id)
    if both_have(stage, "sender_runs"):
        carried += _copy(stage, "sender_runs", "run_id", "s.run_id = ?", run_id)
    if both_have(stage, "deliveries"):
        given_up = f"s.run_id = ? AND s.state IN {_OPEN} AND l.state IN ('cancelled', 'expired')"
        carried += _copy(stage, "deliveries", "delivery_key", given_up, run_id)
    return carried


def _copy(stage: sqlite3.Connection, table: str, key: str, where: str, run_id: str) -> int:
    """Let live rows replace those of the stage, but for the names by which they are known."""
    names = [quoted(name) for name in shared_columns(stage, table) if name not in {key, "id"}]
    changes = ", ".join(f"{name} = l.{name}" for name in names)
    return stage.execute(
        f"UPDATE main.{table} AS s SET {changes} FROM live.{table} AS l WHERE l.{key} = s.{key} AND {where}", (run_id,)
    ).rowcount
