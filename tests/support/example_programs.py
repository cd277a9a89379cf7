"""The programs of `examples/scripts` on ranks of this machine, with what torchrun sets in their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.shared.host import free_port
from tests.support.forked_ranks import KILLED, Rank

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "scripts"


@dataclass(frozen=True)
class Finished:
    """A program that has ended, on all its ranks."""

    exit_codes: tuple[int, ...]
    output: str
    """Standard output and standard error of all ranks, one after the other."""

    @property
    def was_killed(self) -> bool:
        return KILLED in self.output.splitlines()


@dataclass(frozen=True)
class Programs:
    """Runs programs, one after the other."""

    server: subprocess.Popen[str]

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        world: int = 2,
        environment: dict[str, str] | None = None,
        kill_before: str | None = None,
    ) -> Finished:
        """Run a program of the examples until its end; what its ranks print is written to `folder`.

        `kill_before` is the name of a folder: when a rank is about to make it, all are SIGKILLed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        of_all = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port("127.0.0.1")),
            **(environment or {}),
        }
        argv = (str(SCRIPTS / name), *arguments)
        logs = [folder / f"rank-{rank}.log" for rank in range(world)]
        ranks = [
            Rank(argv, {**of_all, "RANK": str(rank), "LOCAL_RANK": str(rank)}, str(log), kill_before)
            for rank, log in enumerate(logs)
        ]
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps([rank.to_json() for rank in ranks]) + "\n")
        self.server.stdin.flush()
        codes = tuple(json.loads(self.server.stdout.readline()))
        return Finished(codes, "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs))


@contextmanager
def programs(cache: Path) -> Iterator[Programs]:
    """Yield what runs programs; `cache` is the folder of the libraries' caches."""
    variables = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forked_ranks"],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Programs(server)
    finally:
        server.communicate()
