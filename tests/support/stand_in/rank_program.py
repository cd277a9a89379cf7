"""A stand-in for a training rank: speaks the ranks' protocol under a real torchrun, without torch or a model.

`PLAN` (JSON) says how it behaves; files of a checkpoint hold the step, so that a resume can be followed.
"""

import http.client
import json
import os
import signal
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.contract.launch_protocol import RankCheckpoint, RankEnv, RankModel, RankProgress, RankResult
from finetune_trainer.contract.records import Outcome, PodPhase
from finetune_trainer.launch.rank_output import attach

DEFAULTS: dict[str, Any] = {
    "steps": 4,
    "save_every": 2,
    "step_seconds": 0.02,
    "file_bytes": 2000,
    "wait_sealed": True,  # wait for each checkpoint to be sealed before going on
    "linger_seconds": 0,  # stay after the result was reported
    "kill": None,  # {"rank", "step", "signal"}
    "fail": None,  # {"rank", "step", "failure"}
    "exit": None,  # {"rank", "step", "code", "text"}: without a report
    "orphan": False,  # leave a grandchild behind that ends at once
    "plain_kubeflow": False,  # report as transformers' own callback does, without our detail
    "ignore_sigterm": False,
    "sleep_at": None,  # {"step", "seconds"}
    "best": None,  # the step of the best checkpoint
    "leave": None,  # {"step", "file"}: make a file
    "await": None,  # {"step", "file"}: wait until somebody has made it
    "until": None,  # a file: train on until somebody has made it
    "signs": True,  # report that this rank makes progress
    "nan": False,  # the final model holds a number that is not finite
    "fetch": [],  # steps of checkpoints that this rank asks for at the end, as it does for the best one
}


class RefusedError(Exception):
    """A refusal by launch."""


def ask(method: str, path: str, body: Document | dict[str, Any] | None = None) -> bytes:
    """Send one request to our own launch."""
    token = Path(os.environ[RankEnv.TOKEN_FILE]).read_text(encoding="utf-8")
    data = None if body is None else (body.to_json() if isinstance(body, Document) else json.dumps(body)).encode()
    connection = http.client.HTTPConnection(urlsplit(os.environ[RankEnv.LAUNCH_URL]).netloc, timeout=120)
    try:
        connection.request(method, path, data, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise RefusedError(f"{method} {path}: {answer.status} {content.decode()}")
    return content


def applies(plan: dict[str, Any], what: str, step: int, rank: int) -> dict[str, Any] | None:
    entry: dict[str, Any] | None = plan[what]
    return entry if entry and entry.get("rank", rank) == rank and entry["step"] == step else None


def write(folder: Path, name: str, text: str, size: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text.ljust(size), encoding="utf-8")
    return name


def report_progress(plan: dict[str, Any], step: int) -> None:
    if plan["plain_kubeflow"]:
        metrics = {"current_step": step, "total_steps": plan["steps"], "loss": 1.0 / step, "epoch": step / 10}
        listed = [{"name": name, "value": str(value)} for name, value in metrics.items()]
        ask("POST", "/kubeflow", {"trainerStatus": {"progressPercentage": 1, "metrics": listed}})
        return
    ask(
        "POST",
        "/rank/progress",
        RankProgress(
            phase=PodPhase.TRAINING,
            step=step,
            total_steps=plan["steps"],
            loss=1.0 / step,
            learning_rate=1e-5,
            grad_norm=0.5,
            samples_per_second=100.0,
            tokens_total=step * 64,
            samples_total=step * 8,
            step_seconds=(plan["step_seconds"],),
            precision="fp32",
            evaluation={"accuracy": 0.5},
        ),
    )


def save(plan: dict[str, Any], step: int, rank: int) -> None:
    staging = Path(os.environ[RankEnv.STAGING])
    names = [write(staging / f"checkpoint-{step}", f"rng_state_{rank}.pth", f"{rank}", 10)]
    if rank == 0:
        names.append(write(staging / f"checkpoint-{step}", "model.safetensors", f"{step}", plan["file_bytes"]))
        names.append(write(staging / f"checkpoint-{step}" / "sub", "part.bin", f"{step}", 10) and "sub/part.bin")
    best = plan["best"] == step
    ask("POST", "/rank/checkpoint", RankCheckpoint(step=step, rank=rank, files=tuple(names), best=best))
    if plan["wait_sealed"]:
        fetch(step)


def fetch(step: int) -> None:
    try:
        print("sealed", json.loads(ask("GET", f"/rank/checkpoint/{step}"))["path"])
    except RefusedError as error:
        print("not sealed", error)


def misbehave(plan: dict[str, Any], step: int, rank: int) -> None:
    if entry := applies(plan, "leave", step, rank):
        Path(entry["file"]).touch()
    if entry := applies(plan, "await", step, rank):
        while not Path(entry["file"]).exists():
            time.sleep(0.02)
    if entry := applies(plan, "sleep_at", step, rank):
        time.sleep(entry["seconds"])
    if entry := applies(plan, "kill", step, rank):
        os.kill(os.getpid(), entry["signal"])
        time.sleep(60)
    if entry := applies(plan, "exit", step, rank):
        print(entry["text"], flush=True)
        os._exit(entry["code"])
    if entry := applies(plan, "fail", step, rank):
        ask("POST", "/rank/result", {"rank": rank, "outcome": "failed", "failure": entry["failure"], "step": step})
        os._exit(1)


def main() -> None:
    attach()
    plan = DEFAULTS | json.loads(os.environ.get("PLAN", "{}"))
    rank = int(os.environ["RANK"])
    if plan["ignore_sigterm"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if plan["orphan"] and os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.3)
        os._exit(0)
    print(f"rank {rank} of {os.environ['WORLD_SIZE']}: {os.environ.get('GLOO_SOCKET_IFNAME')}")
    ask("GET", "/rank/prepared")
    resume = os.environ.get(RankEnv.RESUME)
    start = int((Path(resume) / "model.safetensors").read_text(encoding="utf-8")) if resume else 0
    print(f"starting after step {start}")
    step = start
    while step < plan["steps"] or (plan["until"] and not Path(plan["until"]).exists()):
        step += 1
        time.sleep(plan["step_seconds"])
        misbehave(plan, step, rank)
        if rank == 0:
            report_progress(plan, step)
        elif plan["signs"]:
            ask("POST", "/rank/advanced")
        if step % plan["save_every"] == 0:
            save(plan, step, rank)
    for wanted in plan["fetch"]:
        fetch(wanted)
    if rank == 0:
        files = (write(Path(os.environ[RankEnv.STAGING]) / "model", "model.safetensors", str(step), 100),)
        if plan["nan"]:
            header = b'{"head": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
            weights = len(header).to_bytes(8, "little") + header + b"\x00\x00\xc0\x7f"
            (Path(os.environ[RankEnv.STAGING]) / "model" / files[0]).write_bytes(weights)
        ask("POST", "/rank/model", RankModel(files=files, step=step, evaluation={"accuracy": 0.75}))
    result = RankResult(rank=rank, outcome=Outcome.SUCCEEDED, step=step, evaluation={"accuracy": 0.75})
    ask("POST", "/rank/result", result)
    sys.stdout.flush()
    time.sleep(plan["linger_seconds"])
    os._exit(0)


if __name__ == "__main__":
    main()
