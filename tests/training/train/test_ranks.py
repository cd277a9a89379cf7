"""Training by real ranks: one world, the right loss, a model that scores what was reported."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from finetune_trainer.contract.records import Cause, Outcome, Reason
from finetune_trainer.contract.training_report import REPORT_FILE
from tests.support.hub_jobs import hub_of_this_process
from tests.support.published import Publishing, seal_model
from tests.support.ranks import PACKAGES, Finished, run_ranks
from tests.support.runs import run_config
from tests.support.stub_hub import TOKEN, stub_hub
from tests.support.tiny import reviews, tiny_bert, write_rows

ARGUMENTS = {
    "num_train_epochs": 3,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "per_device_train_batch_size": 8,
    "eval_strategy": "epoch",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "train.csv", reviews(203))
    write_rows(folder / "validation.jsonl", reviews(61, seed=1))
    return folder


def train(folder: Path, data: Path, *, world: int = 1, model: Path | None = None, **arguments: Any) -> Finished:
    config = run_config(
        folder / "output",
        model=model or tiny_bert(folder / "initial"),
        train=data / "train.csv",
        validation=data / "validation.jsonl",
        arguments={**ARGUMENTS, **arguments},
        processes=world,
    )
    return run_ranks(folder / "run", config, world=world)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Finished:
    """Train on one rank that accumulates two batches of 8, read by a process of its own."""
    return train(tmp_path_factory.mktemp("alone"), data, gradient_accumulation_steps=2, dataloader_num_workers=1)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Finished:
    """Train on two ranks with a batch of 8 each."""
    return train(tmp_path_factory.mktemp("together"), data, world=2)


def test_two_ranks_train_as_one(alone: Finished, together: Finished) -> None:
    for finished in (alone, together):
        assert finished.returncode == 0, finished.output
    alone_log, together_log = alone.log(), together.log()
    assert len(alone_log) == len(together_log) == 39 + 3
    for mine, theirs in zip(alone_log, together_log, strict=True):
        for name in ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy", "eval_f1"):
            assert mine.get(name) == pytest.approx(theirs.get(name), abs=1e-5), name
    from safetensors.torch import load_file

    weights, others = (load_file(finished.model / "model.safetensors") for finished in (alone, together))
    assert weights.keys() == others.keys()
    assert max(float((weights[name] - others[name]).abs().max()) for name in weights) < 1e-5


def test_the_loss_starts_at_that_of_guessing(together: Finished) -> None:
    assert together.log()[0]["loss"] == pytest.approx(0.693, abs=0.05)


def test_both_ranks_report_the_same_success(together: Finished) -> None:
    results = together.heard.results
    assert sorted(results) == [0, 1]
    assert {result["outcome"] for result in results.values()} == {Outcome.SUCCEEDED}
    assert results[0]["step"] == results[1]["step"] == 39
    assert results[0]["evaluation"] == results[1]["evaluation"]


def test_each_file_of_a_checkpoint_is_one_ranks(together: Finished) -> None:
    parts = {part["rank"]: set(part["files"]) for part in together.heard.checkpoints if part["step"] == 39}
    assert parts[1] == {"rng_state_1.pth"}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state_0.pth"} <= parts[0]
    assert parts[0].isdisjoint(parts[1])


def test_progress_tells_the_whole_story(together: Finished) -> None:
    heard = together.heard
    assert heard.last("totalSteps") == heard.last("step") == 39
    assert heard.last("precision") == "fp32"
    assert sum(len(report.get("stepSeconds", ())) for report in heard.progress) == 39
    assert heard.progress[-1]["evaluation"] == heard.results[0]["evaluation"]
    assert 0 < heard.last("samplesTotal") <= 609
    assert heard.last("tokensTotal") > heard.last("samplesTotal")


def test_the_saved_model_scores_what_was_reported(together: Finished, data: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(together.model)
    tokenizer = AutoTokenizer.from_pretrained(together.model)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.config.label2id == {"negative": 0, "positive": 1}
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    with torch.no_grad():
        logits = model(**tokenizer([row["review"] for row in rows], padding=True, return_tensors="pt")).logits
    chosen = [model.config.id2label[index] for index in logits.argmax(-1).tolist()]
    accuracy = sum(mine == row["stars"] for mine, row in zip(chosen, rows, strict=True)) / len(rows)
    reported = together.heard.results[0]["evaluation"]
    assert accuracy == pytest.approx(reported["accuracy"])
    assert accuracy > 0.8, "three epochs are enough to learn twelve words"
    labels = torch.tensor([model.config.label2id[row["stars"]] for row in rows])
    assert float(torch.nn.functional.cross_entropy(logits, labels)) == pytest.approx(reported["loss"], abs=1e-4)
    assert set(reported) == {"loss", "accuracy", "f1"}


def test_the_published_model_scores_what_was_reported(together: Finished, data: Path, tmp_path: Path) -> None:
    """The model is loaded from the Hub by its name, as anybody would."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    with stub_hub() as hub:
        publishing = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
        seal_model(publishing.layout, {path.name: path.read_bytes() for path in together.model.iterdir()}, whole=True)
        published = publishing.run(publish={"private": True}, model={"name": "/models/tiny"}, dataset=local(data))
        card = hub.models["me/reviews"].files()["README.md"].decode()
        hub_options: dict[str, Any] = {"revision": published.commit, "token": TOKEN}
        with hub_of_this_process(hub, tmp_path / "cache"):
            model = AutoModelForSequenceClassification.from_pretrained("me/reviews", **hub_options)
            tokenizer = AutoTokenizer.from_pretrained("me/reviews", **hub_options)
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    results = pipeline("text-classification", model=model, tokenizer=tokenizer)([row["review"] for row in rows])
    accuracy = sum(result["label"] == row["stars"] for result, row in zip(results, rows, strict=True)) / len(rows)
    card_data: Any = ModelCard(card).data
    reported = {result.metric_type: result.metric_value for result in card_data.eval_results}
    assert accuracy == pytest.approx(reported["accuracy"])
    assert reported["accuracy"] == together.heard.results[0]["evaluation"]["accuracy"]


def local(data: Path) -> dict[str, Any]:
    """Return the data as the run config names it."""
    return {"files": {"train": [str(data / "train.csv")], "validation": [str(data / "validation.jsonl")]}}


def test_the_model_folder_holds_model_tokenizer_and_report(together: Finished) -> None:
    model = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    (handed,) = together.heard.models
    result = together.heard.results[0]
    assert handed["files"] == sorted([*model, REPORT_FILE])
    assert (handed["step"], handed["evaluation"]) == (result["step"], result["evaluation"])


def test_the_report_tells_what_was_trained_and_how(alone: Finished, together: Finished) -> None:
    reports = [alone.report, together.report]
    assert [report.world_size for report in reports] == [1, 2]
    assert [report.hardware for report in reports] == ["CPU (1 rank)", "CPU (2 ranks)"]
    assert {report.global_batch_size for report in reports} == {16}
    report = reports[1]
    assert report.evaluation == together.heard.results[0]["evaluation"] == report.evaluations[-1].metrics
    assert [(evaluation.step, evaluation.epoch) for evaluation in report.evaluations] == [
        (13, 1.0),
        (26, 2.0),
        (39, 3.0),
    ]
    losses = [entry["loss"] for entry in together.log() if "loss" in entry]
    assert [evaluation.loss for evaluation in report.evaluations] == [losses[12], losses[25], losses[38]]
    assert (report.steps, report.epochs, report.precision, report.kept_step) == (39, 3.0, "fp32", 39)
    assert report.training_arguments == {
        "eval_strategy": "epoch",
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "train_sampling_strategy": "group_by_length",
    }, "3 epochs and a batch of 8 are the defaults"
    assert {"transformers", "torch"} <= report.versions.keys()
    assert report.summary is not None
    assert (report.summary.train_rows, report.summary.validation_rows) == (203, 61)


def test_the_loss_of_another_architecture_is_not_scaled_either(data: Path, tmp_path: Path) -> None:
    """Two ranks that accumulate twice would report four times the loss (1.39 was measured for two)."""
    model = tiny_bert(tmp_path / "initial", architecture="distilbert")
    changes = {"max_steps": 2, "gradient_accumulation_steps": 2, "eval_strategy": "no", "save_steps": 2}
    finished = train(tmp_path, data, world=2, model=model, **changes)
    assert finished.returncode == 0, finished.output
    losses = [entry["loss"] for entry in finished.log() if "loss" in entry]
    assert losses == pytest.approx([0.693, 0.693], abs=0.06)


def test_half_precision_on_a_cpu_is_fp32_and_said(data: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = tiny_bert(tmp_path / "half", dtype="float16")
    finished = train(tmp_path, data, model=model, fp16=True, max_steps=1, eval_strategy="no")
    assert finished.returncode == 0, finished.output
    assert finished.heard.last("precision") == "fp32"
    assert "fp16: there is no accelerator, training runs in fp32 on the CPU." in finished.heard.messages()
    # What it was made from was in half precision, and so is what is left.
    assert {tensor.dtype for tensor in load_file(finished.model / "model.safetensors").values()} == {torch.float16}


def test_a_loss_that_is_not_finite_is_an_error(data: Path, tmp_path: Path) -> None:
    finished = train(tmp_path, data, learning_rate=1e30, max_grad_norm=0, world=2)
    assert finished.returncode != 0
    assert finished.failure["reason"] == Reason.NON_FINITE
    assert finished.failure["cause"] == Cause.USER
    assert not finished.heard.models


def test_the_best_checkpoint_becomes_the_model(data: Path, tmp_path: Path) -> None:
    finished = train(
        tmp_path,
        data,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        lr_scheduler_type="constant",
        eval_strategy="steps",
        eval_steps=4,
        save_steps=8,  # a step that is the best so far is saved all the same
        learning_rate=0.02,
        num_train_epochs=3,
    )
    assert finished.returncode == 0, finished.output
    evaluations = [entry for entry in finished.log() if "eval_loss" in entry]
    best = min(evaluations, key=lambda entry: entry["eval_loss"])
    assert [part["step"] for part in finished.heard.checkpoints if part["best"]][-1] == best["step"]
    assert finished.heard.results[0]["evaluation"]["loss"] == pytest.approx(best["eval_loss"], abs=1e-6)
    from safetensors.torch import load_file

    kept = load_file(finished.model / "model.safetensors")
    sealed = load_file(finished.checkpoint(best["step"]) / "model.safetensors")
    assert all((kept[name] == sealed[name]).all() for name in sealed)
    report = finished.report
    assert (report.kept_step, report.steps) == (best["step"], 78)
    assert [evaluation.step for evaluation in report.evaluations] == [*range(4, 77, 4), 78]
    assert report.evaluations[-1].metrics != report.evaluation, "the best weights' own step tells it already"
    assert report.evaluation == finished.heard.results[0]["evaluation"]


def test_a_best_checkpoint_that_is_gone_costs_no_model(data: Path, tmp_path: Path) -> None:
    config = run_config(
        tmp_path / "output",
        model=tiny_bert(tmp_path / "initial"),
        train=data / "train.csv",
        validation=data / "validation.jsonl",
        arguments={
            **ARGUMENTS,
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss",
            "lr_scheduler_type": "constant",
            "learning_rate": 0.02,
            "eval_strategy": "steps",
            "eval_steps": 4,
            "save_steps": 8,
        },
    )

    def lose(path: str, _: dict[str, Any]) -> None:
        if path == "/rank/checkpoint":
            for folder in (tmp_path / "run" / "sealed").iterdir():
                shutil.rmtree(folder)

    finished = run_ranks(tmp_path / "run", config, happens=lose)
    assert finished.returncode == 0, finished.output
    report = finished.report
    best = min(report.evaluations, key=lambda evaluation: evaluation.metrics["loss"])
    assert best.step < report.steps == report.kept_step
    (message,) = {message for message in finished.heard.messages() if "best checkpoint" in message}
    assert (
        message
        == f"The best checkpoint, of step {best.step}, can't be used: it is gone. The weights of the last step are kept."
    )


FAILING_EVALUATION = """
import os
if os.environ.get("RANK") == "1":
    from transformers.models.bert.modeling_bert import BertModel
    forward = BertModel.forward
    def failing(self, *args, **kwargs):
        if not self.training:
            raise RuntimeError("no memory is left for an evaluation")
        return forward(self, *args, **kwargs)
    BertModel.forward = failing
"""


def test_a_last_evaluation_that_fails_on_one_rank_costs_no_model(data: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "sitecustomize.py").write_text(FAILING_EVALUATION)
    config = run_config(
        tmp_path / "output",
        model=tiny_bert(tmp_path / "initial"),
        train=data / "train.csv",
        validation=data / "validation.jsonl",
        arguments={**ARGUMENTS, "num_train_epochs": 1, "eval_strategy": "no"},
        processes=2,
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(PACKAGES), str(faults)])}
    finished = run_ranks(tmp_path / "run", config, world=2, environment=environment)
    assert finished.returncode == 0, finished.output
    assert [result["outcome"] for _, result in sorted(finished.heard.results.items())] == [Outcome.SUCCEEDED] * 2
    report = finished.report
    assert (report.steps, report.evaluation) == (13, None)
    messages = [message for message in finished.heard.messages() if "last evaluation could not be made" in message]
    assert messages, finished.heard.messages()
