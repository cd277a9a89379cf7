"""Digests of run configs are names of files on volumes: they stay what they are from release to release."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare.fingerprint import config_digest, data_key

SMALL: dict[str, Any] = {
    "namespace": "default",
    "job": "reviews",
    "uid": "11111111-aaaa",
    "task": "text-classification",
    "model": {"name": "/data/model"},
    "dataset": {"files": {"train": ["/data/train.csv"]}, "columns": {"text": "text", "label": "label"}},
    "nodes": 1,
    "processes_per_node": 1,
    "accelerators": False,
    "output": "/output",
    "prepare": "inline",
}
WHOLE: dict[str, Any] = SMALL | {
    "problem_type": "regression",
    "model": {"name": "me/model", "revision": "v1"},
    "dataset": {
        "name": "me/data",
        "config": "de",
        "revision": "main",
        "splits": {"train": "train[:10%]"},
        "columns": {"text": "text", "label": "stars"},
        "max_samples": {"train": 100},
        "validation_fraction": 0.1,
        "streaming": True,
    },
    "preprocessing": {
        "max_length": 64,
        "padding": "max_length",
        "whole_word_mask": True,
        "num_proc": 2,
        "packing": True,
    },
    "training_arguments": {"seed": 7, "learning_rate": 1e-4, "lr_scheduler_kwargs": {"num_cycles": 2.0}},
    "peft": {"r": 4},
    "quantization": {},
    "early_stopping": {"patience": 2},
    "loss_weights": "balanced",
    "nodes": 2,
    "processes_per_node": 4,
    "accelerators": True,
    "device_memory_bytes": 1 << 34,
    "prepare": "job",
    "peers": "reviews-train-{attempt}-{node}.reviews:8080",
    "hub": {"endpoint": "https://hub.example.com", "token_file": "/var/run/finetune/hub/token"},
    "publish": {"repo_id": "me/reviews"},
}


@pytest.mark.parametrize(
    ("fields", "config", "data"),
    [
        (SMALL, "166a7329fd88d229945f30f472e62a2a95e5ab809b9200afd8cdf3b6efaa2555", "2242bd3a45fbc34315b417afb10cf7f4"),
        (WHOLE, "16a860477c367076a772822526f0337b20bd7cc571b6cf10beb931027ae95386", "56ee7285272ff348671c3177d68a90c8"),
    ],
    ids=["small", "whole"],
)
def test_digests_are_those_of_earlier_releases(fields: dict[str, Any], config: str, data: str) -> None:
    """Everything that lies on a volume would be prepared again if a digest changed."""
    run = TaskConfig.model_validate(fields)

    assert config_digest(run) == config
    assert (
        data_key(run, data={"commit": "1" * 40}, model=["tokenizer", "bert", None, 30522, None], limits=(64, None))
        == data
    )
