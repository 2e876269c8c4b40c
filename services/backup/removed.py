"""Runs whose deliveries the sender has removed, because they are over for long: they come back over, and without rows.

A snapshot from before has their deliveries as they were then, perhaps as waiting, and nothing in the live database
tells any more who has got their mail. That the run is over is the fact that is left (its `removal_time`): so it is over
in the stage, too, and no delivery of it comes back.

Works, like carry, on the stage (`main`) with the live database attached as `live`.
"""

import sqlite3

from services.backup.proof import quoted
from services.backup.rows import both_have, columns, copy_rows, has, shared_columns

IS_REMOVED = "SELECT run_id FROM main.sender_runs WHERE removal_time IS NOT NULL"
_REMOVED_SINCE = (
    "SELECT l.run_id FROM live.sender_runs l WHERE l.removal_time IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM main.sender_runs s WHERE s.run_id = l.run_id AND s.removal_time IS NOT NULL)"
)
_OVER = "('finished', 'cancelled')"
_HELD = "restored from a snapshot; its run is over since: resume it to go on with the next one, or cancel it"


def knows_removal(stage: sqlite3.Connection) -> bool:
    """Say whether the stage keeps removals: it is of today's schema, as every stage of a restore is."""
    return "removal_time" in columns(stage, "main", "sender_runs")


def carry_removed(stage: sqlite3.Connection) -> int:
    """Bring over which runs were removed since, with their counts; returns how many rows. Inside a transaction.

    May be called again: what came along before is not looked at a second time.
    """
    if not ("removal_time" in shared_columns(stage, "sender_runs") and both_have(stage, "run_counts")):
        return 0
    stage.execute(f"CREATE TEMP TABLE removed AS {_REMOVED_SINCE}")
    try:
        return _carry(stage)
    finally:
        stage.execute("DROP TABLE temp.removed")


def drop_rows(stage: sqlite3.Connection) -> None:
    """Let no delivery of a removed run be in the stage, whichever database it came from."""
    if not (knows_removal(stage) and has(stage, "main", "deliveries")):
        return
    if has(stage, "main", "send_logs"):
        stage.execute(
            "DELETE FROM main.send_logs WHERE id IN (SELECT g.id FROM main.deliveries d CROSS JOIN main.send_logs g"
            f" WHERE d.run_id IN ({IS_REMOVED})"
            " AND g.log_key >= d.delivery_key || ':' AND g.log_key < d.delivery_key || ';')"
        )
    stage.execute(f"DELETE FROM main.deliveries WHERE run_id IN ({IS_REMOVED})")


def _carry(stage: sqlite3.Connection) -> int:
    names = shared_columns(stage, "sender_runs")
    carried = copy_rows(
        stage,
        "sender_runs",
        names,
        "temp.removed m CROSS JOIN live.sender_runs l ON l.run_id = m.run_id"
        " WHERE NOT EXISTS (SELECT 1 FROM main.sender_runs s WHERE s.run_id = l.run_id)",
    )
    carried += _replace(stage, "sender_runs", "s.removal_time IS NULL")
    stage.execute("DELETE FROM main.run_counts WHERE run_id IN (SELECT run_id FROM temp.removed)")
    counts = "temp.removed m CROSS JOIN live.run_counts l ON l.run_id = m.run_id"
    carried += copy_rows(stage, "run_counts", shared_columns(stage, "run_counts"), counts)
    if both_have(stage, "runs") and {"state", "campaign_id"} <= set(shared_columns(stage, "runs")):
        _end_campaigns(stage)
        carried += _replace(stage, "runs", f"s.state NOT IN {_OVER} AND l.state IN {_OVER}")
    return carried


def _replace(stage: sqlite3.Connection, table: str, where: str) -> int:
    """Let live rows of the removed runs replace those of the stage."""
    changes = ", ".join(
        f"{quoted(name)} = l.{quoted(name)}" for name in shared_columns(stage, table) if name != "run_id"
    )
    return stage.execute(
        f"UPDATE main.{table} AS s SET {changes} FROM live.{table} AS l"
        f" WHERE s.run_id IN (SELECT run_id FROM temp.removed) AND l.run_id = s.run_id AND {where}"
    ).rowcount


def _end_campaigns(stage: sqlite3.Connection) -> None:
    """Put campaigns that stand at such a run where it stands; a recurring one waits for a person before it goes on."""
    if not {"state", "state_reason", "cron", "latest_run_id"} <= set(columns(stage, "main", "campaigns")):
        return
    stage.execute(
        "UPDATE main.campaigns AS c SET state = CASE WHEN c.cron = '' THEN l.state ELSE 'held' END,"
        " state_reason = CASE WHEN c.cron = '' THEN '' ELSE ? END"
        " FROM temp.removed m JOIN live.runs l ON l.run_id = m.run_id JOIN main.runs s ON s.run_id = m.run_id"
        f" WHERE c.latest_run_id = m.run_id AND c.state NOT IN {_OVER}"
        f" AND l.state IN {_OVER} AND s.state NOT IN {_OVER}",
        (_HELD,),
    )
