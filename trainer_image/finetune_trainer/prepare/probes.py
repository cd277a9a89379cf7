"""Questions that only torch can answer, asked in a process of its own: prepare itself has no use for torch.

A probe is a module that prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from finetune_trainer.contract.text import log_line

SECONDS = 600.0


def ask(probe: str, *arguments: str) -> dict[str, Any]:
    """Ask a probe of `finetune_trainer.train`; the answer is empty where the probe fails: then the ranks will see."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"finetune_trainer.train.{probe}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "HF_HUB_OFFLINE": "1"},  # as the ranks have it
            timeout=SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        log_line("prepare", "Whether these weights can be trained upon could not be found out; the ranks will see.")
        return {}
    return answer if isinstance(answer, dict) else {}
