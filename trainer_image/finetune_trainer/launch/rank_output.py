"""The stream of each rank to `launch`, which prints that of rank 0 and keeps the last lines of all.

A rank attaches to its stream before other imports. Without the variable (a rank started by hand) nothing changes.
"""

from __future__ import annotations

import os
from pathlib import Path

from finetune_trainer.contract.launch_protocol import RankEnv


def attach() -> None:
    """Point stdout and stderr at this rank's FIFO. A launcher that starts one process a node may name no local rank."""
    folder = os.environ.get(RankEnv.OUTPUT)
    if folder is None:
        return
    stream = os.open(Path(folder) / os.environ.get("LOCAL_RANK", "0"), os.O_WRONLY)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.close(stream)
