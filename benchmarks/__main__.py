"""`python -m benchmarks [NAME ...]`: run these benchmarks, or all of them, print their tables and keep them.

`python -m benchmarks table` writes the tables that were kept into the pages that show them.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from importlib import import_module

from benchmarks import results

MINUTES = {
    "control_plane": 5,
    "recovery": 3,
    "bad_input": 1,
    "hostile": 4,
    "crowd": 3,
    "throughput": 6,
    "tasks": 12,
    "prepare": 3,
    "generation": 1,
    "loss": 1,
    "overhead": 2,
    "scripts": 3,
    "first_step": 4,
}
"""Benchmark -> about how long it takes on two quiet cores, with programs and images built."""


def main() -> None:
    """Run the benchmarks one after the other: side by side they would measure each other."""
    listed = ", ".join(f"{name} ({minutes} min)" for name, minutes in MINUTES.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {listed}, or table; default: all")
    parser.add_argument("--repeats", type=int, help="measurements of each kind: to try one out; nothing is kept")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MINUTES) - {"table"}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {listed}")
    for name in [name for name in arguments.names or MINUTES if name != "table"]:
        _run(name, arguments.repeats)
    if not arguments.repeats:
        results.write_pages(MINUTES)


def _run(name: str, repeats: int | None) -> None:
    begun, load = datetime.now(UTC), os.getloadavg()[0]
    tables = import_module(f"benchmarks.{name}").main(*([repeats] if repeats else []))
    results.show(tables)
    if not repeats:
        print(f"kept in {results.save(name, tables, begun, load)}\n", flush=True)


if __name__ == "__main__":
    main()
