"""`python -m benchmarks [NAME ...]`: run these benchmarks, or all of them, and print a table each."""

from __future__ import annotations

import argparse
from importlib import import_module

NAMES = ("control_plane", "recovery", "overhead", "first_step")


def main() -> None:
    """Run what was asked for, one after the other: side by side they would measure each other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--repeats", type=int, help="measurements of each kind; default: the benchmark's own")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in arguments.names or NAMES:
        import_module(f"benchmarks.{name}").main(*([arguments.repeats] if arguments.repeats else []))


if __name__ == "__main__":
    main()
