"""What a user's own program prints: progress in its lines, and more of them than anybody reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Outcome
from tests.support.script_launches import ScriptLaunches

PATTERN = "step (?P<step>[0-9]+)/(?P<total>[0-9]+) loss=(?P<loss>[0-9.]+)"
FLOOD = """
import os, sys
line = "x" * 99 + "\\n"
for _ in range(1000):
    sys.stdout.write(line * 1000)
open("model.bin", "w").write("weights")
"""
FLOOD_OF_ONE_LINE = """
import sys
for _ in range(1000):
    sys.stdout.write("y" * 100_000)
open("model.bin", "w").write("weights")
"""
LAUNCH_MEMORY_BYTES = 200 << 20
"""Memory of `launch` that no output may make it exceed: it has 60 MB without any, the output is 100 MB."""


@pytest.mark.parametrize(
    "script",
    [{}, {"progressPattern": PATTERN, "arguments": ("--print=text",)}],
    ids=["JSON", "pattern"],
)
def test_progress_is_found_in_printed_lines(scripts: ScriptLaunches, tmp_path: Path, script: dict[str, Any]) -> None:
    go = tmp_path / "go"
    scripts.script = script | {"arguments": (*script.get("arguments", ()), "--pause_at=4", f"--go={go}")}
    (node,) = scripts.start()
    seen = scripts.wait_for_step(node, 4)
    assert (seen.total_steps, seen.loss) == (6, 0.25)
    assert seen.evaluation == (None if "progressPattern" in script else {"eval_accuracy": 0.5})
    go.touch()
    assert node.wait() == 0
    assert node.record().step == 6


@pytest.mark.parametrize("text", [FLOOD, FLOOD_OF_ONE_LINE], ids=["lines", "one line"])
def test_program_that_prints_very_much_ends_normally(scripts: ScriptLaunches, text: str) -> None:
    scripts.text = text
    (node,) = scripts.start()
    highest = 0
    while node.process.poll() is None:
        highest = max(highest, peak_memory(node.process.pid))
        time.sleep(0.02)
    assert node.record().outcome is Outcome.SUCCEEDED, node.text()[-2000:]
    assert 0 < highest < LAUNCH_MEMORY_BYTES
    assert node.output.stat().st_size >= 100_000_000


def peak_memory(process: int) -> int:
    """Return the most memory that a process has had so far, in bytes; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) << 10 if lines else 0
