"""`finetune run`: the demo's job, made small, on this machine. Real launch, real torchrun, two nodes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_operator.api.status import FineTuneJobStatus, Phase
from tests.support.local_run import LocalRun
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stub_hub import TOKEN, Fault, stub_hub

QUICK = {"num_train_epochs": 6, "learning_rate": 0.004, "warmup_steps": 0, "logging_steps": 5}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRun]:
    made = LocalRun(tmp_path, arguments=QUICK)
    made.make_data()
    yield made
    made.close()


def test_succeeds_and_prints_the_final_status_alone(local: LocalRun) -> None:
    assert local.finish("--output", "json") == 0, local.errors()
    status = FineTuneJobStatus.model_validate(json.loads(local.output()))
    assert status.phase is Phase.SUCCEEDED
    assert status.attempt == 1
    assert status.evaluation is not None
    assert status.evaluation["accuracy"] > 0.6
    assert status.progress is not None
    assert status.progress.step == status.progress.total_steps == 96
    phases = ["Preparing", "Starting", "Training", "Saving"]  # read twice a second: a short one may pass in between
    seen = [head for head in local.heads() if head in phases]
    assert seen == [phase for phase in phases if phase in seen] != []
    assert "guessing the commonest label" in local.errors()
    assert status.model is not None
    model = local.work_dir / "claims" / status.model.claim_name / status.model.path
    assert (model / "model.safetensors").exists()
    assert (local.work_dir / "claims" / "reviews" / "reviews" / "model").resolve() == model.resolve()
    assert local.processes() == []
    assert list(local.temporary.iterdir()) == []

    again = local.start()  # what is over begins anew, as another job
    local.wait_until(lambda now: now.get("attempt") == 1 and now["phase"] != "Succeeded")
    assert "Continues" not in local.heads()
    for _ in range(2):
        again.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert again.wait(PATIENCE_SECONDS) == 130
    assert (model / "model.safetensors").exists()


def test_first_line_comes_at_once(local: LocalRun) -> None:
    local.start()
    local.wait_until(lambda _: bool(local.output()))
    assert local.output().startswith("Job         reviews: text-classification, 2 nodes x 1 process, CPU")


def test_what_the_data_lacks_ends_the_job_with_the_reason(local: LocalRun) -> None:
    local.spec = {
        "dataset": {
            "files": {"train": ["/data/nowhere.csv"], "validation": ["/data/validation.csv"]},
            "columns": {"text": "review", "label": "stars"},
        }
    }
    assert local.finish() == 1
    assert "nowhere.csv" in local.errors()
    assert local.status()["phase"] == "Failed"
    assert local.status()["failure"]["reason"] == "FileNotFound"
    assert local.processes() == []


def test_a_missing_claim_is_said_before_anything_starts(local: LocalRun) -> None:
    local.spec = {"volumes": [{"name": "data", "mountPath": "/data", "claimName": "elsewhere"}]}
    assert local.finish() == 2
    assert "claim elsewhere has no folder here" in local.errors()
    assert "--volume elsewhere=FOLDER" in local.errors()


def test_a_wrong_manifest_is_refused_with_its_fields(local: LocalRun) -> None:
    local.arguments = {"learnin_rate": 1}
    assert local.finish() == 1
    assert "spec.trainingArguments.learnin_rate" in local.errors()
    assert not (local.work_dir / "jobs").exists()


def test_a_token_is_there_for_preparing_alone(local: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_ranks")
    local.arguments = {**QUICK, "max_steps": 2, "eval_strategy": "no"}
    local.spec = {"hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}, "nodes": 1}
    assert local.finish() == 0, local.errors()
    assert local.status()["prepareAttempt"] == 1
    assert (local.work_dir / "jobs" / "reviews" / "pods" / "reviews-prepare-1-0" / "exit.json").exists()
    written = [
        file for file in local.work_dir.rglob("*") if file.is_file() and b"hf_not_for_ranks" in file.read_bytes()
    ]
    assert written == []


def test_the_model_is_published_and_training_is_not_repeated_for_it(
    local: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    local.arguments = {**QUICK, "max_steps": 2, "eval_strategy": "no"}
    with stub_hub() as hub:
        access = {"endpoint": hub.endpoint, "tokenSecretRef": {"name": "hf", "key": "token"}}
        local.spec = {"nodes": 1, "hub": access, "publish": {"repoId": "me/elsewhere"}}
        refused = Fault(method="POST", path="/commit/", times=1000, status=403, error="not for this token")
        hub.faults.append(refused)
        assert local.finish() == 1
        assert (local.status()["phase"], local.status()["failure"]["reason"]) == ("Failed", "AccessDenied")
        assert "The same command publishes again" in local.errors()

        local.spec["publish"] = {"repoId": "me/reviews"}
        hub.faults[:] = [Fault(method="POST", path="/commit/", times=1000)]
        killed = local.start()
        local.wait_until(lambda now: now["phase"] == "Publishing" and now["publishAttempt"] == 2)
        while not any("/commit/" in asked and "me/reviews" in asked for asked in hub.asked):
            assert killed.poll() is None, local.errors()
            time.sleep(0.05)
        killed.kill()
        killed.wait()

        hub.faults.clear()
        assert local.finish() == 0, local.errors()
        (commit,) = hub.models["me/reviews"].commits
    status = FineTuneJobStatus.model_validate(local.status())
    assert (status.phase, status.attempt, status.prepare_attempt, status.publish_attempt) == ("Succeeded", 1, 1, 3)
    assert status.model is not None
    assert status.model.hub is not None
    assert (status.model.hub.repo_id, status.model.hub.commit) == ("me/reviews", commit.oid)
    assert {"README.md", "model.safetensors", "tokenizer.json"} <= set(commit.files)
    assert "Continues" in local.heads()
    assert "Publishing" in local.heads()
    last = local.output().splitlines()[-1]
    assert last == f"published  {status.model.hub.url} (commit {commit.oid[:12]})"
    assert local.processes() == []
    assert [file for file in local.work_dir.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()] == []


def test_publishing_without_a_token_is_said_before_anything_starts(
    local: LocalRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
    local.spec = {"hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}, "publish": {"repoId": "me/reviews"}}
    assert local.finish() == 2
    assert "there is no Secret hf here; set HF_TOKEN, log in with `hf auth login`" in local.errors()
    assert local.status() == {}
