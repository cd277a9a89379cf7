"""The card of a script's model: what is known of it, and nothing that the program was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from finetune_trainer.contract.prepared import Resolved
from finetune_trainer.publish import script_card
from finetune_trainer.publish.base_model_card import NOTHING, BaseFacts
from finetune_trainer.publish.script_card import TrainedProgram
from finetune_trainer.shared.checkpoints.manifest import Manifest
from tests.support.golden import assert_golden_text
from tests.support.published import MOMENT
from tests.support.script_jobs import script_config

RESOLVED = Resolved(model_revision="a" * 40, dataset_revision="b" * 40)
ARGUMENTS = ("--api_key=secret-1", "--output_dir=$(OUTPUT_DIR)")


def manifest(**fields: Any) -> Manifest:
    return Manifest(step=120, attempt=1, world_size=8, time=MOMENT, files={}, **fields)


def rendered(
    folder: Path,
    trained: TrainedProgram | None = None,
    base: BaseFacts = NOTHING,
    script: dict[str, Any] | None = None,
    **fields: Any,
) -> str:
    program = {"path": "/code/secret-project/train.py", "arguments": ARGUMENTS, **(script or {})}
    config = script_config(folder, script=program, nodes=2, processes_per_node=4, **fields)
    known = trained or TrainedProgram(manifest(), None, RESOLVED)
    return script_card.render(config, known, base, repo_id="me/reviews", endpoint=None)


def metadata(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_card_as_a_whole(tmp_path: Path) -> None:
    trained = TrainedProgram(manifest(evaluation={"loss": 0.21, "eval_accuracy": 0.91803}), "transformers", RESOLVED)
    base = BaseFacts(license="mit", language=("en",))
    fields = {"model": {"name": "us/tiny"}, "dataset": {"name": "us/reviews", "config": "plain"}}
    text = rendered(tmp_path, trained, base, **fields)
    assert_golden_text("script-model-card.md", text)
    data: Any = ModelCard(text).data
    assert (data.base_model, data.datasets, data.license, data.library_name) == (
        *("us/tiny", ["us/reviews"], "mit", "transformers"),
    )


def test_what_the_program_was_given_is_told_to_nobody(tmp_path: Path) -> None:
    text = rendered(tmp_path, script={"requirements": ("mine @ https://me:secret-2@example.com/mine.whl",)})
    assert "secret" not in text
    assert "| Program | `train.py`, started by torchrun |" in text


def test_of_a_program_that_tells_nothing_the_card_says_little(tmp_path: Path) -> None:
    known = TrainedProgram(manifest().model_copy(update={"step": 0}), None, Resolved())
    text = rendered(tmp_path, known, script={"path": None, "module": "trl.scripts.dpo", "launcher": "accelerate"})
    assert "A model trained by its author's own program.\n" in text
    assert "| Program | `trl.scripts.dpo`, started by accelerate |" in text
    assert metadata(text) == {"model_name": "reviews", "tags": ["finetune-operator"]}
    assert not any(word in text for word in ("Steps", "Metric", "Base model", "Data", "None"))


@pytest.mark.parametrize(("library", "relation"), [("peft", "adapter"), ("keras", None)])
def test_an_adapter_says_what_it_is_loaded_upon(library: str, relation: str | None, tmp_path: Path) -> None:
    front_matter = metadata(
        rendered(tmp_path, TrainedProgram(manifest(), library, RESOLVED), model={"name": "us/tiny"})
    )
    assert (front_matter["library_name"], front_matter.get("base_model_relation")) == (library, relation)


def test_what_lay_on_a_volume_is_no_id_of_the_hub(tmp_path: Path) -> None:
    files = {"train": ["/data/secret-3/train.csv"]}
    text = rendered(tmp_path, model={"name": "/models/secret-4/bert"}, dataset={"files": files})
    assert not {"base_model", "datasets"} & metadata(text).keys()
    assert "`bert` (a folder on a volume) fine-tuned by its author's own program on `train.csv`." in text
    assert "secret" not in text


def test_a_metric_is_text_whatever_it_is_called(tmp_path: Path) -> None:
    trained = TrainedProgram(manifest(evaluation={"<img src=x>|": 1.0}), None, RESOLVED)
    assert "| \\<img src=x\\>\\| | 1 |" in rendered(tmp_path, trained)
