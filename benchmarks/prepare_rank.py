"""The product's side of the benchmark `prepare`, in processes of its own; figures go to the file of RESULT."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

BATCHES = 200
BATCH_ROWS = 8


def prepare() -> int:
    """Run the command of a pod, and time the part that the script by hand does too: from rows to tokens on disk."""
    from finetune_trainer.prepare import build, prepare_command, store

    begun: dict[str, float] = {}
    written, seal = build._written, store.seal

    def timed(*arguments: Any) -> Any:
        begun.update(seconds=time.perf_counter(), cpu=_cpu())
        return written(*arguments)

    def sealed(*arguments: Any) -> None:
        seal(*arguments)
        _write_result({"seconds": time.perf_counter() - begun["seconds"], "cpu": _cpu() - begun["cpu"], "rows": 0})

    build._written, store.seal = timed, sealed  # type: ignore[assignment]
    return prepare_command.main()


def rank() -> int:
    """Open prepared rows as a rank does, order them, read some batches; write the memory that the process then has of its own."""
    import numpy as np

    from finetune_trainer.data.prepared_dataset import PreparedDataset
    from finetune_trainer.data.sampler import GlobalBatchOrder

    before = _anonymous()
    rows = PreparedDataset.from_file(Path(sys.argv[2]) / "train.arrow")
    order = GlobalBatchOrder(rows.lengths, BATCH_ROWS, seed=0)
    numbers = order.epoch(0)
    for batch in np.array_split(numbers[: BATCHES * BATCH_ROWS], BATCHES):
        rows.__getitems__([int(number) for number in batch])
    del numbers
    _write_result({"rows": len(rows), "before": before, "after": _anonymous()})
    return 0


def _cpu() -> float:
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _anonymous() -> int:
    """Return the bytes of this process alone: mapped files are in the page cache, which all ranks share."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def _write_result(measured: dict[str, Any]) -> None:
    Path(os.environ["RESULT"]).write_text(json.dumps(measured))


MODES: dict[str, Callable[[], int]] = {"prepare": prepare, "rank": rank}

if __name__ == "__main__":
    sys.exit(MODES[sys.argv[1]]())
