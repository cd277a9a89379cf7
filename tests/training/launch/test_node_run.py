"""A whole attempt on one node: what it leaves, what it shows, and what the next one makes of it."""

import os
import subprocess
import sys

import pytest

from finetune_trainer.contract.launch_protocol import NodeHealth
from finetune_trainer.contract.records import Outcome, PodPhase, Progress, ResultRecord
from finetune_trainer.shared.checkpoints import manifest
from tests.support.launched import PACKAGES, START, Launches, until

LONG = {"steps": 400, "step_seconds": 0.05, "save_every": 10, "wait_sealed": False}


def test_two_ranks_to_the_end_and_nothing_left_to_do(launches: Launches) -> None:
    launches.processes = 2
    (record,) = launches.run(plan={"steps": 6, "save_every": 2, "best": 2})
    attempt = launches.layout.run.attempt(1)
    assert record.outcome is Outcome.SUCCEEDED
    assert launches.started[0].process.returncode == 0
    assert (record.step, record.evaluation) == (6, {"accuracy": 0.75})
    assert record.model_path == "/output/reviews/runs/11111111-aaaa/attempts/1/model"
    assert record.checkpoint is not None
    assert (record.checkpoint.step, record.checkpoint.attempt) == (6, 1)
    assert record.resolved is not None
    assert record.resolved.precision == "fp32"
    assert ResultRecord.model_validate_json(attempt.result(0).read_text()) == record
    # Rotation kept two, and the best one.
    assert sorted(folder.name for folder in attempt.checkpoints.iterdir()) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    ]
    for folder in (*attempt.checkpoints.iterdir(), attempt.model):
        assert manifest.problem(folder) is None
    sealed = manifest.read(attempt.checkpoint(6))
    assert sealed is not None
    assert (sealed.step, sealed.attempt, sealed.world_size) == (6, 1, 2)
    assert set(sealed.files) == {"model.safetensors", "sub/part.bin", "rng_state_0.pth", "rng_state_1.pth"}
    assert (launches.layout.model_link / "model.safetensors").is_file()
    assert not attempt.staging.exists()
    # Rank 0 speaks, the others only where something fails.
    text = launches.started[0].text()
    assert "rank 0 of 2" in text
    assert "rank 1 of 2" not in text

    launches.layout.model_link.unlink()  # as if the end had come right after the sealing
    (again,) = launches.run(2)
    assert (launches.layout.model_link / "model.safetensors").is_file()
    assert (again.outcome, again.model_path, again.attempt) == (Outcome.SUCCEEDED, record.model_path, 2)
    assert (again.step, again.evaluation) == (6, {"accuracy": 0.75})  # the model's own, sealed with it
    assert "rank 0" not in launches.started[1].text()


def test_progress_metrics_and_health_during_the_run(launches: Launches) -> None:
    (node,) = launches.start(plan=LONG)
    progress = until(lambda: (seen := node.progress()) and (seen.step or 0) >= 12 and seen.checkpoint and seen)
    assert isinstance(progress, Progress)
    assert (progress.uid, progress.attempt, progress.phase) == (launches.uid, 1, PodPhase.TRAINING)
    assert progress.begun is not None
    assert progress.total_steps == 400
    assert progress.loss == pytest.approx(1 / (progress.step or 1))
    assert 5 < (progress.eta_seconds or 0) < 2000
    assert progress.checkpoint is not None
    assert progress.checkpoint.path.startswith("/output/reviews/runs/")
    assert progress.prepared is not None
    assert progress.prepared.train_rows == 8
    text = node.get("/metrics").decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples["finetune_global_step"]) >= (progress.step or 0)
    assert float(samples["finetune_max_steps"]) == 400
    assert float(samples['finetune_phase{phase="training"}']) == 1
    assert float(samples["finetune_step_duration_seconds_count"]) >= 12
    assert float(samples["finetune_checkpoint_last_success_timestamp_seconds"]) > 1.7e9
    assert float(samples['finetune_checkpoint_duration_seconds_count{stage="seal"}']) >= 1
    assert float(samples["finetune_output_free_bytes"]) > 0
    assert launches.uid not in text
    health = NodeHealth.model_validate_json(node.get("/healthz"))
    assert health == NodeHealth(uid=launches.uid, attempt=1, node=0, begun=True)

    # Loopback alone does not open the ranks' door, nor a peer's.
    for path, method in (("/rank/prepared", "GET"), ("/kubeflow", "POST"), ("/peer/join", "POST")):
        assert node.ask(method, path)[0] == 401
        assert node.ask(method, path, token="guessed")[0] == 401
    # And a body that is not of the protocol is refused, not half understood.
    secret = launches.layout.run.attempt(1).secret.read_text().strip()
    assert node.ask("POST", "/peer/superseded", secret, '{"attempt": "x"}')[0] == 400
    assert node.ask("POST", "/rank/result", secret, "{}")[0] == 401
    assert oct(launches.layout.run.attempt(1).secret.stat().st_mode & 0o777) == "0o600"


LOOKS_AT_NUMBERS_ONCE_ALLOWED = """
import os, time
from finetune_trainer.shared.checkpoints import finite

def late(file, not_finite=finite.not_finite):
    while not os.path.exists({allowed!r}):
        time.sleep(0.02)
    return not_finite(file)

finite.not_finite = late
"""


def test_ranks_go_on_while_checkpoint_is_examined(launches: Launches) -> None:
    """Ranks go on while a checkpoint is searched for numbers that are not finite."""
    allowed = launches.folder / "allowed"
    launches.start_code = LOOKS_AT_NUMBERS_ONCE_ALLOWED.format(allowed=str(allowed)) + START
    (node,) = launches.start(plan=LONG)
    progress = until(lambda: (seen := node.progress()) and (seen.step or 0) >= 15 and seen)
    assert progress.checkpoint is None, "the one of step 10 waits for the look"
    allowed.touch()
    progress = until(lambda: (seen := node.progress()) and seen.checkpoint and seen)
    assert progress.checkpoint.step >= 10


def test_a_script_that_only_has_the_stock_callback(launches: Launches) -> None:
    (node,) = launches.start(plan=LONG | {"plain_kubeflow": True, "save_every": 1000})
    progress = until(lambda: (seen := node.progress()) and (seen.step or 0) >= 3 and seen)
    assert (progress.phase, progress.total_steps) == (PodPhase.TRAINING, 400)
    assert progress.epoch == pytest.approx(progress.step / 10)
    assert progress.eta_seconds > 1


def test_launch_is_up_at_once_and_knows_no_torch() -> None:
    code = """
import psutil, sys
from finetune_trainer.launch import node_run
own = psutil.Process()
used = own.cpu_times()
print(sorted({"torch", "transformers", "datasets", "kubernetes"} & set(sys.modules)))
print(used.user + used.system, own.memory_info().rss)
"""
    env = dict(os.environ) | {"PYTHONPATH": str(PACKAGES)}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    slow, figures = shown.stdout.splitlines()
    seconds, resident_bytes = map(float, figures.split())
    assert slow == "[]"
    assert seconds < 4  # of CPU time, on a machine that does other things too
    assert resident_bytes < 120 * 1024**2
