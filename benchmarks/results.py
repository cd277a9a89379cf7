"""The output of figures: to the terminal, into `results/<name>.json`, and from there into the pages that show them.

A page shows tables between two comments, `<!-- benchmarks: all -->` (every row) or `<!-- benchmarks: targets -->` (the
rows that have a target), and `<!-- benchmarks end -->`.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.common import Figure, Table
from tests.support.cluster.binaries import KUBERNETES
from tests.support.cluster.client import REPOSITORY

FOLDER = Path(__file__).with_name("results")
PAGES = (REPOSITORY / "benchmarks" / "README.md", REPOSITORY / "README.md")
SECTION = re.compile(r"(<!-- benchmarks: (all|targets) -->\n).*?(<!-- benchmarks end -->)", re.DOTALL)
COLUMNS = ("measured", "target", "")


def show(tables: Iterable[Table]) -> None:
    """Print the tables."""
    console = Console(width=max(160, Console().width))
    for table in tables:
        rich = RichTable(box=box.MARKDOWN)
        for heading in (table.title, *table.headings, *COLUMNS):
            rich.add_column(heading, overflow="fold")
        for figure in table.figures:
            rich.add_row(*_cells(figure))
        console.print(rich)


def save(name: str, tables: Sequence[Table], begun: datetime, load: float) -> Path:
    """Save tables with their command and machine; `load` is the machine's load average before the benchmark."""
    ended = datetime.now(UTC)
    content = {
        "command": f"make bench BENCH={name}",
        "date": f"{ended:%Y-%m-%d}",
        "minutes": round((ended - begun).total_seconds() / 60, 1),
        "machine": _machine(),
        "load": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "tables": [asdict(table) for table in tables],
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def write_pages(names: Iterable[str]) -> None:
    """Bring the pages up to date with the saved results."""
    saved = [json.loads(path.read_text()) for path in (FOLDER / f"{name}.json" for name in names) if path.exists()]
    for page in PAGES:
        text = page.read_text()
        page.write_text(SECTION.sub(lambda match: f"{match[1]}\n{_markdown(saved, match[2])}\n{match[3]}", text))


def _markdown(saved: list[dict[str, Any]], which: str) -> str:
    if not saved:
        return "Not measured yet: `make bench`.\n"
    if which == "targets":
        tables = [table for result in saved for table in result["tables"]]
        figures = [(table["title"], Figure(**figure)) for table in tables for figure in table["figures"]]
        rows = [(f"{title}: {f.what}", *_cells(f)[1:]) for title, f in figures if f.target is not None]
        lines = _lines(("what", "baseline", "ours", *COLUMNS), rows)
        return "\n".join([*lines, "", _conditions(saved)]) + "\n"
    blocks = []
    for result in saved:
        for table in result["tables"]:
            rows = [_cells(Figure(**figure)) for figure in table["figures"]]
            blocks.append("\n".join(_lines((table["title"], *table["headings"], *COLUMNS), rows)))
        blocks.append(f"`{result['command']}`, {result['minutes']:g} minutes; {_conditions([result])}")
    return "\n\n".join(blocks) + "\n"


def _lines(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    head, *body = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return [head, "|" + "---|" * len(header), *body]


def _cells(figure: Figure) -> tuple[str, ...]:
    return (figure.what, figure.baseline, figure.ours, figure.result, figure.goal, figure.verdict)


def _conditions(saved: list[dict[str, Any]]) -> str:
    machines = list(dict.fromkeys(result["machine"] for result in saved))
    dates = sorted({result["date"] for result in saved})
    loads = [load for result in saved for load in result["load"].values()]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{'; '.join(machines)}; {when}; load average {min(loads):g} to {max(loads):g}."


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB, Python {python}, Kubernetes {KUBERNETES}"
