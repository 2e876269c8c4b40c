"""What a process has used, from /proc: time on a core, and memory."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_seconds: float  # user and system, all threads
    rss_mb: float
    peak_rss_mb: float


def read_usage(process_id: int) -> Usage:
    """Return what a running process and its children have used; its peak is the sum of theirs."""
    used = [_own_usage(one) for one in (process_id, *_children(process_id))]
    return Usage(*(round(sum(values), 6) for values in zip(*used, strict=True)))


def _own_usage(process_id: int) -> tuple[float, float, float]:
    folder = Path(f"/proc/{process_id}")
    status = (folder / "status").read_text(encoding="ascii", errors="replace")
    return cpu_seconds(folder), _megabytes(status, "VmRSS"), _megabytes(status, "VmHWM")


def _children(process_id: int) -> list[int]:
    lists = Path(f"/proc/{process_id}").glob("task/*/children")
    return [int(child) for path in lists for child in path.read_text(encoding="ascii").split()]


def cpu_seconds(folder: Path) -> float:
    """Return the time on a core in nanosecond steps: what /proc/*/stat says has steps of 10 ms."""
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in folder.glob("task/*/schedstat")) / 1e9


def _megabytes(status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return round(int(found.group(1)) / 1024, 1) if found else 0.0
