"""`finetune_trainer.report`: progress of a program that does not use the Trainer, to the `launch` of its pod.

Standard library alone: programs import it. It sends what transformers' own KubeflowCallback sends, to the same address.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

_EVERY_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0
_URL, _TOKEN_FILE = "KUBEFLOW_TRAINER_SERVER_URL", "KUBEFLOW_TRAINER_SERVER_TOKEN"

_sent_at = float("-inf")


def report(
    *,
    step: int,
    total: int | None = None,
    loss: float | None = None,
    epoch: float | None = None,
    learning_rate: float | None = None,
    metrics: Mapping[str, float] | None = None,
) -> bool:
    """Report progress; return whether it was sent.

    `step` and `total` count optimizer steps, `metrics` are those of an evaluation (`{"accuracy": 0.9}`). Call it as often as you like, on
    every rank: rank 0 sends, at most once a second (metrics and the last step always), and outside a job nobody does. It never
    raises because of the network: progress is worth no training.
    """
    global _sent_at
    url = os.environ.get(_URL)
    rank = os.environ.get("RANK") or os.environ.get("NODE_RANK") or "0"
    is_due = metrics is not None or step == total or time.monotonic() - _sent_at >= _EVERY_SECONDS
    if url is None or rank != "0" or not is_due:
        return False
    _sent_at = time.monotonic()
    figures = {"current_step": step, "total_steps": total, "loss": loss, "epoch": epoch, "learning_rate": learning_rate}
    figures |= {name if name.startswith("eval_") else f"eval_{name}": value for name, value in (metrics or {}).items()}
    listed = [{"name": name, "value": str(value)} for name, value in figures.items() if value is not None]
    return _send(url, {"trainerStatus": {"metrics": listed}})


def _send(url: str, body: Mapping[str, object]) -> bool:
    import json
    from http.client import HTTPException
    from pathlib import Path
    from urllib.request import ProxyHandler, Request, build_opener

    headers = {"Content-Type": "application/json"}
    try:
        if token_file := os.environ.get(_TOKEN_FILE):
            headers["Authorization"] = f"Bearer {Path(token_file).read_text(encoding='utf-8').strip()}"
        request = Request(url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - set by launch
        with build_opener(ProxyHandler({})).open(
            request, timeout=_TIMEOUT_SECONDS
        ) as answer:  # past any proxy: it is this pod
            answer.read()
    except (OSError, HTTPException, ValueError):
        return False
    return True
