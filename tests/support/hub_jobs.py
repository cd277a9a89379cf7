"""Jobs as their manifests say, prepared in this process from the Hub of the tests; one claim for all of them.

`prepare` runs as in its pod, but the client libraries are imported already: the settings that they have read from the
environment are set in them.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.pod_template import OUTPUT_PATH, TOKEN_FILE
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Failure
from finetune_trainer.prepare.prepare_command import attempt
from tests.support.run_configs import task_config
from tests.support.stub_hub import TOKEN, StubHub

CONSTANTS = "huggingface_hub.constants"


@contextmanager
def hub_of_this_process(hub: StubHub, cache: Path) -> Iterator[None]:
    """Let the client libraries talk to the stub within the block, with their downloads in `cache`."""
    from datasets.utils.logging import disable_progress_bar
    from huggingface_hub import HfFileSystem, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    values = {
        f"{CONSTANTS}.ENDPOINT": hub.endpoint,
        f"{CONSTANTS}.HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "transformers.utils.hub._hf_api": None,  # it keeps the endpoint with which it was made
        f"{CONSTANTS}.HF_HUB_DISABLE_XET": True,
        f"{CONSTANTS}.HF_HUB_CACHE": str(cache / "hub"),
        "datasets.config.HF_ENDPOINT": hub.endpoint,
        "datasets.config.HUB_DATASETS_URL": hub.endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "datasets.config.HF_DATASETS_CACHE": cache / "datasets",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(name, value)
        disable_progress_bar()
        HfFileSystem.clear_instance_cache()
        try:
            yield
        finally:
            set_client_factory(default_client_factory)  # prepare sets its own


@dataclass
class HubJobs:
    """A claim, a Secret, and a Hub that jobs are prepared from."""

    hub: StubHub
    folder: Path
    token: str | None = TOKEN
    """Token in the Secret; None where the job names no Secret."""
    endpoint: str = field(init=False)

    def __post_init__(self) -> None:
        self.endpoint = self.hub.endpoint

    @property
    def claim(self) -> Path:
        return self.folder / "claim"

    def prepare(self, spec: Mapping[str, Any] | None = None, name: str = "reviews") -> PreparedTask | Failure:
        """Prepare the good job with these changes: dotted path below spec -> value, None takes it away."""
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()  # each job has a process of its own
        job = FineTuneJob.model_validate(
            {
                "apiVersion": "finetune.dev/v1alpha1",
                "kind": "FineTuneJob",
                "metadata": {
                    "name": name,
                    "namespace": "default",
                    "uid": str(uuid.uuid4()),
                    "generation": 1,
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "spec": changed(self.good_spec(), spec or {}),
            }
        )
        secret = self.folder / "secret"
        secret.mkdir(parents=True, exist_ok=True)
        (secret / Path(TOKEN_FILE).name).write_text(self.token or "")
        self.claim.mkdir(exist_ok=True)
        mounts = {OUTPUT_PATH: str(self.claim), str(Path(TOKEN_FILE).parent): str(secret)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FINETUNE_PATHS", json.dumps(mounts))
            return attempt(task_config(job, PlanSettings(trainer_image="trainer")))

    def good_spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "task": "text-classification",
            "model": {"name": "us/tiny"},
            "dataset": {
                "name": "us/reviews",
                "splits": {"train": "train", "validation": "test"},
                "columns": {"text": "review", "label": "stars"},
            },
            "storage": {"size": "1Gi"},
            "hub": {"endpoint": self.endpoint},
        }
        if self.token is not None:
            spec["hub"]["tokenSecretRef"] = {"name": "hf", "key": "token"}
        return spec


def changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with changes: dotted path -> value, None takes the field away."""
    result: dict[str, Any] = copy.deepcopy(dict(spec))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return result
