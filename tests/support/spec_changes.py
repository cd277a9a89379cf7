"""Another value for each field of a spec: for the fields that are fixed once training has started, and for the others."""

from __future__ import annotations

from typing import Any

CHANGES: dict[str, Any] = {
    # Field of spec -> another value; good together, but for the task.
    "task": "fill-mask",
    "problemType": "multi_label_classification",
    "peft": {"r": 4},
    "quantization": {"bits": 4},
    "earlyStopping": {"patience": 2},
    "lossWeights": "balanced",
    "model": {"name": "/models/other"},
    "dataset": {"name": "imdb"},
    "preprocessing": {"maxLength": 128},
    "trainingArguments": {"learning_rate": 1e-3, "eval_strategy": "epoch"},
    "nodes": 2,
    "processesPerNode": 2,
    "resources": {"limits": {"cpu": 2, "nvidia.com/gpu": 2}},
    "image": "example.com/trainer:2",
    "env": [{"name": "A", "value": "1"}],
    "volumes": [{"name": "data", "mountPath": "/data", "claimName": "c"}],
    "script": {"path": "/code/other.py"},
    "template": {"spec": {"nodeSelector": {"zone": "a"}}},
    "storage": {"claimName": "other"},
    "hub": {"endpoint": "https://hub.example.com", "tokenSecretRef": {"name": "hf", "key": "token"}},
    "publish": {"repoId": "me/other"},
    "checkpointIntervalSeconds": 60,
    "backoffLimit": 5,
    "startDeadlineSeconds": 60,
    "terminationGracePeriodSeconds": 120,
    "resumeFrom": "never",
}
ALWAYS = {"activeDeadlineSeconds": 60, "retry": 3, "helperResources": {"limits": {"memory": "16Gi"}}}
