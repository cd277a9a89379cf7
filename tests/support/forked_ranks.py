"""A process that imports torch and what goes with it once, and forks ranks which would all do so for seconds.

    python -m tests.support.forked_ranks

It reads orders, one JSON object a line, and answers each with the exit codes of its ranks when they have ended. It knows nothing of
what the ranks do: a rank is a Python program, its arguments, environment variables and a file for what it prints.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

IMPORTED = (
    "accelerate",
    "datasets",
    "rouge_score.rouge_scorer",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.t5.modeling_t5",
    "transformers.trainer_seq2seq",
)

KILLED = "killed as the test asked"
"""Line in the log of a rank that was killed before it made a folder. The others may end by themselves before they are killed."""


@dataclass(frozen=True)
class Rank:
    """A program that is to run in a process."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    log: str
    kill_before: str | None = None
    """Name of a folder: the process is SIGKILLed when it is about to make it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def be(rank: Rank) -> None:
    """Run a program as `python PROGRAM ARGUMENTS` would, and end this process."""
    file = os.open(rank.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.environ.update(rank.environment)
    sys.argv = list(rank.argv)

    def kill_at(event: str, details: tuple[Any, ...]) -> None:
        if event == "os.mkdir" and Path(os.fsdecode(details[0])).name == rank.kill_before:
            os.write(2, f"\n{KILLED}\n".encode())  # a progress bar ends in no line break
            os.kill(os.getpid(), signal.SIGKILL)

    if rank.kill_before is not None:
        sys.addaudithook(kill_at)
    code = 1
    try:
        runpy.run_path(rank.argv[0], run_name="__main__")
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads of gloo may abort an interpreter that ends


def forked(rank: Rank) -> int:
    """Start a rank, and return the number of its process."""
    child = os.fork()
    if child == 0:
        be(rank)
    return child


def exit_codes(ranks: list[Rank]) -> list[int]:
    """Run ranks beside each other until all have ended. As under torchrun, the failure of one is the end of the others."""
    children = [forked(rank) for rank in ranks]
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        child, status = os.wait()
        codes[child] = os.waitstatus_to_exitcode(status)
        if codes[child] != 0:
            for other in set(children) - codes.keys():
                os.kill(other, signal.SIGKILL)
    return [codes[child] for child in children]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what imports print is no answer
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        ranks = [Rank(**{**order, "argv": tuple(order["argv"])}) for order in json.loads(line)]
        print(json.dumps(exit_codes(ranks)), file=answers, flush=True)


if __name__ == "__main__":
    main()
