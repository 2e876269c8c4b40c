"""Years of finished work in a database, made in a minute."""

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.copied_rows import copy_row, spread_id

INSERTED_AT_ONCE = 500_000


def make_old(database: Path, campaigns: int, deliveries: int) -> None:
    """Fill the database of services that are not running with finished campaigns and sent deliveries."""
    each = max(deliveries // campaigns, 1)
    number = f"(n / {each})"
    run = spread_id("aaaa").replace("n)", f"{number})")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1048576")
        with connection:
            copy_row(
                connection,
                "campaigns",
                "true",
                campaigns,
                replaced={"campaign_id": spread_id("cccc"), "latest_run_id": spread_id("aaaa")},
            )
            of_first = "campaign_id NOT LIKE 'cccc%'"
            copy_row(
                connection,
                "runs",
                of_first,
                campaigns,
                replaced={"campaign_id": spread_id("cccc"), "run_id": spread_id("aaaa")},
            )
            copy_row(
                connection,
                "sender_runs",
                "run_id NOT LIKE 'aaaa%'",
                campaigns,
                # The sender notes the end of a run a moment after it; for these it has done so long ago.
                replaced={
                    "campaign_id": spread_id("cccc"),
                    "run_id": spread_id("aaaa"),
                    "end_time": "one.update_time",
                },
            )
            copy_row(
                connection,
                "run_counts",
                "state = 'sent'",
                campaigns,
                replaced={"run_id": spread_id("aaaa"), "delivery_count": str(each)},
            )
        (first,) = connection.execute("SELECT min(id) FROM deliveries").fetchone()
        address = "'old.' || printf('%010d', n) || '@post.example'"
        for begin in range(0, deliveries, INSERTED_AT_ONCE):
            count = min(INSERTED_AT_ONCE, deliveries - begin)
            with connection:
                copy_row(
                    connection,
                    "deliveries",
                    f"id = {first}",
                    count,
                    first=begin,
                    replaced={
                        "delivery_key": spread_id("dddd"),
                        "run_id": run,
                        "address": address,
                        "canonical": address,
                    },
                )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
