"""A trained model on a volume, ready to be published, and its publishing in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import PrepareSummary, Resolved
from finetune_trainer.contract.records import PublishedModel
from finetune_trainer.contract.run_config import Publish, ScriptConfig, TaskConfig
from finetune_trainer.contract.training_report import REPORT_FILE, Evaluation, TrainingReport
from finetune_trainer.launch import sealing
from finetune_trainer.publish.retries import BACKOFF
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.hub.http_client import Traffic
from finetune_trainer.shared.volume import Layout, make_folder
from tests.support import checkpoints
from tests.support.stub_hub import Repository, StubHub, stub_hub

MOMENT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WEIGHTS = bytes(range(256)) * 400
FILES: dict[str, bytes] = {
    "config.json": b"{}\n",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}\n",
    "tokenizer_config.json": b"{}\n",
}
"""Files of a model's folder, as far as the Hub looks at them."""


def report(**fields: Any) -> TrainingReport:
    """Return the report of a training over two epochs, the second one the best."""
    base: dict[str, Any] = {
        "task": "text-classification",
        "started": MOMENT,
        "finished": MOMENT,
        "steps": 26,
        "epochs": 2.0,
        "world_size": 2,
        "global_batch_size": 16,
        "precision": "fp32",
        "hardware": "CPU (2 ranks)",
        "versions": {"transformers": "5.23.0", "torch": "2.13.0"},
        "training_arguments": {"eval_strategy": "epoch", "learning_rate": 0.01},
        "evaluations": (
            Evaluation(step=13, epoch=1.0, loss=0.691, metrics={"loss": 0.512, "accuracy": 0.8033, "f1": 0.79}),
            Evaluation(step=26, epoch=2.0, loss=0.304, metrics={"loss": 0.21, "accuracy": 0.91803, "f1": 0.9174}),
        ),
        "evaluation": {"loss": 0.21, "accuracy": 0.91803, "f1": 0.9174},
        "kept_step": 26,
        "summary": PrepareSummary(train_rows=203, validation_rows=61, labels=("negative", "positive")),
        "resolved": Resolved(model_revision="a" * 40, dataset_revision="b" * 40, precision="fp32"),
    }
    return TrainingReport(**{**base, **fields})


def config(output: Path | str, *, publish: Mapping[str, Any] | None = None, **fields: Any) -> TaskConfig:
    """Return a run on models and data of the Hub that publishes to `me/reviews`."""
    return checkpoints.run_config(
        **{
            "model": {"name": "us/tiny"},
            "dataset": {"name": "us/reviews", "columns": {"text": "review", "label": "stars"}},
            "output": str(output),
            "publish": Publish(**{"repo_id": "me/reviews", **(publish or {})}).model_dump(),
            **fields,
        }
    )


def seal_model(
    layout: Layout, files: Mapping[str, bytes] | None = None, *, attempt: int = 1, whole: bool = False
) -> Path:
    """Leave an attempt that has begun and sealed its final model: these files beside ours, or (`whole`) in their place."""
    run = layout.run
    checkpoints.begin(run, attempt)
    own = run.attempt(attempt)
    staged = make_folder(own.staging / "model")
    ours = {} if whole else {**FILES, REPORT_FILE: report().to_json().encode()}
    content = {**ours, **(files or {})}
    for name, value in content.items():
        make_folder((staged / name).parent)
        (staged / name).write_bytes(value)
    placed = sealing.place(staged, own.model, sorted(content))
    sealing.seal(run, own.model, Manifest(step=26, attempt=attempt, world_size=2, time=MOMENT, files=placed))
    return own.model


@dataclass
class Publishing:
    """The publishing of a job, tried in this process with little patience."""

    folder: Path
    endpoint: str
    token: str
    messages: list[str] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def config(self, *, publish: Mapping[str, Any] | None = None, **fields: Any) -> TaskConfig:
        (self.folder / "token").write_text(self.token + "\n", encoding="utf-8")
        hub = {"endpoint": self.endpoint, "token_file": str(self.folder / "token")}
        return config(self.folder / "output", publish=publish, **{"hub": hub, **fields})

    @property
    def layout(self) -> Layout:
        return Layout.of(self.config())

    def run(
        self,
        *,
        seconds: float = 20.0,
        first_seconds: float = 0.01,
        publish: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> PublishedModel:
        """Publish the model of a task; raise as the product does."""
        config = self.config(publish=publish, **fields)
        return self.publish(config, seconds=seconds, first_seconds=first_seconds)

    def publish(
        self, config: TaskConfig | ScriptConfig, *, seconds: float = 20.0, first_seconds: float = 0.01
    ) -> PublishedModel:
        """Publish a run; raise as the product does."""
        from finetune_trainer.publish.publish_run import publish as run_publish

        backoff = replace(BACKOFF, deadline=time.monotonic() + seconds, first_seconds=first_seconds, most_seconds=0.1)
        with _without_xet():
            return run_publish(config, backoff, self.traffic, self.messages.append)


@contextmanager
def hub_with_base(folder: Path) -> Iterator[StubHub]:
    """Serve a Hub with the card of the base model, and so with its licence."""
    (folder / "tiny").mkdir()
    (folder / "tiny/README.md").write_text("---\nlicense: mit\n---\n")
    with stub_hub() as stub:
        stub.models["us/tiny"] = Repository(folder / "tiny")
        yield stub


@contextmanager
def _without_xet() -> Iterator[None]:
    """Turn xet off, as the command's environment does where an endpoint is named; this process may have imported the library."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before
