"""Write the table of values in the chart's README from the comments of its values.yaml.

With `--check` it only says whether the table is up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "charts" / "finetune-operator"
BEGIN, END = "<!-- values: generated from values.yaml by `make generate` -->\n", "<!-- end of values -->\n"
KEY = re.compile(r"( *)(\w+):")


def rows(text: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (path, default, comment) of every value that has a comment above it, in the order of the file."""
    values, path, comment = yaml.safe_load(text), [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment = f"{comment} {line.lstrip(' #').rstrip()}".strip()
        elif match := KEY.match(line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                yield ".".join(path), value, comment
            comment = ""
        else:
            comment = ""


def table(text: str) -> str:
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, comment in rows(text):
        meaning = comment.replace("|", "\\|")
        lines.append(f"| `{path}` | `{json.dumps(default)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where the table is out of date")
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    wanted = before + BEGIN + table((CHART / "values.yaml").read_text()) + END + after
    if parser.parse_args().check:
        return 0 if readme.read_text() == wanted else 1
    readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
