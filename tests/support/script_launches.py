"""Attempts of a user's own program: the real `launch`, its launcher and the command `script`, without anything prepared."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_trainer.contract.records import Progress
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.shared.checkpoints import manifest
from tests.support.launched import Launches, NodeProcess, until

PROGRAMS = Path(__file__).parent / "programs"
REAL = "import sys; from finetune_trainer.__main__ import main; sys.exit(main(['launch']))"


@dataclass
class ScriptLaunches(Launches):
    """A starter of attempts of one program on one claim."""

    program: str = "counting.py"
    """A file of `tests/support/programs`."""
    text: str | None = None
    """Source text of a program of a few lines, in place of `program`."""
    script: dict[str, Any] = field(default_factory=dict)
    """Fields of `contract.script.Script`."""
    start_code: str = REAL
    grace_period_seconds: int = 60

    @property
    def output(self) -> Path:
        """OUTPUT_DIR."""
        return self.layout.run.output

    @property
    def model(self) -> Path:
        """The sealed model, by the link that users follow."""
        return self.layout.model_link

    def config(self) -> ScriptConfig:
        file = PROGRAMS / self.program
        if self.text is not None:
            file = self.folder / "train.py"
            file.write_text(self.text, encoding="utf-8")
        return ScriptConfig.model_validate(
            {
                "namespace": "default",
                "job": "reviews",
                "uid": self.uid,
                "script": {"path": str(file), "launcher": "python", **self.script},
                "nodes": self.nodes,
                "processesPerNode": self.processes,
                "accelerators": False,
                "output": "/output",
                "prepare": "none",
                "gracePeriodSeconds": self.grace_period_seconds,
            }
        )

    def wait_for_step(self, node: NodeProcess, step: int, *, checkpoint: int | None = None) -> Progress:
        """Wait until a step is reported and, where one is given, until a checkpoint is sealed; fail where the node ends before."""

        def reached() -> Progress | None:
            assert node.process.poll() is None, node.text()
            seen = node.progress()
            if seen is None or seen.step != step:
                return None
            is_sealed = checkpoint is None or (seen.checkpoint is not None and seen.checkpoint.step == checkpoint)
            return seen if is_sealed else None

        progress: Progress = until(reached)
        return progress

    def sealed(self, attempt: int = 1) -> list[str]:
        """Return where the program wrote the checkpoints that are sealed, older ones first."""
        folders = self.layout.run.attempt(attempt).checkpoints.glob("checkpoint-*[0-9]")
        contents = [content for folder in folders if (content := manifest.read(folder)) is not None]
        return [str(content.written_as) for content in sorted(contents, key=lambda content: content.step)]

    def aside(self) -> list[str]:
        """Return the names of the folders that were moved aside."""
        return sorted(path.name for path in self.layout.run.broken.glob("*") if path.is_dir())


def kill(*nodes: NodeProcess) -> None:
    """Kill whole nodes at one blow: `launch`, the launcher and the program."""
    for node in nodes:
        os.killpg(node.process.pid, signal.SIGKILL)
    for node in nodes:
        node.process.wait()
