"""A program without torch that "trains" by counting: it saves, goes on from its newest checkpoint, and saves at SIGTERM."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path
from types import FrameType


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--save_steps", type=int, default=2)
    parser.add_argument(
        "--pause_at", type=int, default=0, help="step at which to wait until --go exists, or for SIGTERM"
    )
    parser.add_argument("--go", type=Path, default=Path("go"))
    parser.add_argument("--print", dest="style", choices=("json", "text", "nothing"), default="json")
    arguments = parser.parse_args()

    asked_to_end = False

    def end(_: int, __: FrameType | None) -> None:
        nonlocal asked_to_end
        asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    output = Path(os.environ["OUTPUT_DIR"])
    newest = max(output.glob("step_*"), key=lambda folder: int(folder.name.removeprefix("step_")), default=None)
    step = json.loads((newest / "state.json").read_text())["step"] if newest is not None else 0
    print(f"goes on from step {step}", flush=True)
    while step < arguments.steps and not asked_to_end:
        step += 1
        if arguments.style == "json":
            print(json.dumps({"step": step, "total_steps": arguments.steps, "loss": 1 / step, "eval_accuracy": 0.5}))
        elif arguments.style == "text":
            print(f"[train] step {step}/{arguments.steps} loss={1 / step:.3f}")
        while step == arguments.pause_at and not arguments.go.exists() and not asked_to_end:
            time.sleep(0.02)
        if step % arguments.save_steps == 0 or asked_to_end:
            (output / f"step_{step}").mkdir(exist_ok=True)
            (output / f"step_{step}" / "state.json").write_text(json.dumps({"step": step}))
    (output / "model.json").write_text(json.dumps({"step": step}))
    print("ended, asked to" if asked_to_end else "ended", flush=True)


if __name__ == "__main__":
    main()
