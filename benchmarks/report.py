"""What a benchmark hands over: a table, a file with every value, a plot, and one JSON object as the last line."""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.goals import Goal, lines
from benchmarks.rounds import Series
from mailer.clock import SystemClock

RESULTS = Path("benchmarks/results")
PEERS = ("nodemailer", "aiosmtplib", "smtp_source", "limit")  # how their rows begin: ours are drawn in colour


def table(series: Mapping[str, Series], columns: Mapping[str, str]) -> str:
    """Return rows with median (lowest to highest) of the figures; `columns` names them for people."""
    head = ["", *columns.values()]
    body = [[name, *(_cell(figures, key) for key in columns)] for name, figures in series.items()]
    widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [head, *body]
    )


def conclude(
    name: str,
    *,
    title: str,
    unit: str,
    key: str,
    series: Mapping[str, Series],
    columns: Mapping[str, str],
    summary: Mapping[str, object],
    goals: Sequence[Goal] = (),
    keep: bool = False,
) -> None:
    """Print the table and what became of the goals, keep file and plot when asked, and end with the summary."""
    print(f"\n{title}: median (lowest to highest)\n")
    print(table(series, columns))
    judged = lines(goals, summary)
    if judged:
        print("\n" + "\n".join(judged))
    if keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        rounds = {row: {figure: list(spread.values) for figure, spread in each.items()} for row, each in series.items()}
        whole = {
            "title": title,
            "time": f"{SystemClock().now():%Y-%m-%dT%H:%MZ}",
            "machine": machine(),
            "summary": summary,
            "goals": judged,
            "rounds": rounds,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        draw(
            RESULTS / f"{name}.svg",
            title=title,
            unit=unit,
            series={row: each for row, each in series.items() if key in each},
            key=key,
        )
    print()
    print(json.dumps(summary), flush=True)


def draw(path: Path, *, title: str, unit: str, series: Mapping[str, Series], key: str) -> None:
    """Draw a bar per row with its spread."""
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError:
        print("\nNo plot: matplotlib is missing (pip install -e '.[bench]').")
        return
    pyplot.rcParams["svg.hashsalt"] = path.name
    names = list(series)[::-1]
    spreads = [series[name][key] for name in names]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.45 * len(names)))
    errors = [[one.median - one.lowest for one in spreads], [one.highest - one.median for one in spreads]]
    colours = ["#b8b8b8" if name.startswith(PEERS) else "#2f6f9f" for name in names]
    axes.barh(names, [one.median for one in spreads], xerr=errors, color=colours, capsize=3)
    for at, one in enumerate(spreads):
        axes.text(one.highest, at, f"  {number(one.median)}", va="center", fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    model = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "node": _version("node"),
        "load": os.getloadavg(),
    }


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(figures: Series, key: str) -> str:
    if key not in figures:
        return "-"
    one = figures[key]
    if len(one.values) == 1:
        return number(one.median)
    return f"{number(one.median)} ({number(one.lowest)}-{number(one.highest)})"


def _lines(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _version(program: str) -> str:
    if shutil.which(program) is None:
        return ""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
