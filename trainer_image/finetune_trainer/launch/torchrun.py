"""`python -m finetune_trainer.launch.torchrun`: torchrun that imports what it needs before it knows what to run.

Its imports take seconds. They run while `launch` waits for peers or for the attempt before, and not after. It reads one line
of JSON, `{"arguments": [...], "env": {...}}`, and becomes torchrun. It is not a part of `launch`, which imports no torch.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Import torchrun, wait for instructions, and run it."""
    from torch.distributed import run

    line = sys.stdin.readline()
    if not line:  # launch ended without instructions
        return
    instructions = json.loads(line)
    null_device = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_device, 0)
    os.close(null_device)
    os.environ.clear()
    os.environ.update(instructions["env"])
    run.main(instructions["arguments"])


if __name__ == "__main__":
    main()
