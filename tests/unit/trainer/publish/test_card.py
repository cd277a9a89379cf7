"""The model card: the same at every try, ids of the Hub where the Hub looks for them, nothing of where things lay."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.task_facts import TASKS
from finetune_trainer.contract.training_report import Evaluation
from finetune_trainer.publish import card
from finetune_trainer.publish.base_model_card import NOTHING, BaseFacts, facts_of
from tests.support.golden import assert_golden_text
from tests.support.published import config, report

BASE = BaseFacts(license="mit", language=("en",))


def rendered(base: BaseFacts = BASE, *, endpoint: str | None = None, of: Any = "", **fields: Any) -> str:
    made = report() if of == "" else of
    return card.render(config("/output", **fields), made, base, repo_id="me/reviews", endpoint=endpoint)


def metadata(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_card_as_a_whole() -> None:
    assert_golden_text("model-card.md", rendered())


def test_every_try_makes_the_same() -> None:
    assert rendered() == rendered()


def test_the_library_reads_what_it_wrote() -> None:
    data: Any = ModelCard(rendered()).data
    assert (data.base_model, data.datasets, data.license, data.language) == ("us/tiny", ["us/reviews"], "mit", "en")
    assert (data.pipeline_tag, data.library_name) == ("text-classification", "transformers")
    results = {result.metric_type: result for result in data.eval_results}
    assert results.keys() == {"accuracy", "f1"}
    assert results["accuracy"].metric_value == 0.91803
    assert results["accuracy"].dataset_revision == "b" * 40
    assert results["f1"].metric_args == {"average": "macro"}


def test_what_lies_on_a_volume_is_no_id_of_the_hub() -> None:
    files = {"train": ["/data/private/train.csv"], "validation": ["/data/private/held-out.csv"]}
    text = rendered(model={"name": "/models/secret-project/bert"}, dataset={"files": files})
    front_matter = metadata(text)
    assert not {"base_model", "datasets"} & front_matter.keys()
    assert front_matter["model-index"][0]["results"][0]["dataset"]["type"] == "csv"
    assert "`bert` (a folder on a volume)" in text
    assert "`train.csv`, `held-out.csv`" in text
    assert "/data" not in text
    assert "secret-project" not in text


def test_what_signs_an_address_is_told_to_nobody() -> None:
    signed = "https://me:password@store.example.com/reviews/train.csv?X-Signature=deadbeef&expires=1"
    text = rendered(dataset={"files": {"train": [signed], "validation": [signed]}})
    assert "`train.csv`" in text
    assert not any(secret in text for secret in ("deadbeef", "password", "store.example.com", "expires"))
    result = metadata(text)["model-index"][0]["results"][0]
    assert result["dataset"]["type"] == "csv"


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/data/a.csv", "csv"),
        ("/data/a.jsonl.gz", "json"),
        ("s3://bucket/part-*.parquet", "parquet"),
        ("/a.txt", "text"),
    ],
)
def test_files_are_called_what_the_datasets_library_calls_them(file: str, kind: str) -> None:
    text = rendered(dataset={"files": {"train": [file], "validation": [file]}})
    assert metadata(text)["model-index"][0]["results"][0]["dataset"]["type"] == kind


def test_without_an_evaluation_there_is_no_model_index() -> None:
    text = rendered(of=report(evaluation=None, evaluations=()))
    assert not {"model-index", "metrics"} & metadata(text).keys()
    assert "Evaluations" not in text
    assert "it reaches" not in text


def test_a_model_without_a_report_has_a_card_too() -> None:
    text = rendered(of=None)
    assert metadata(text)["base_model"] == "us/tiny"
    assert "## Use" in text
    assert "## Training" not in text


def test_the_best_step_is_marked_where_it_is_not_the_last() -> None:
    text = rendered(of=report(kept_step=13, evaluation={"loss": 0.5, "accuracy": 0.8}))
    assert "| 1 | 13 (kept) |" in text
    assert "26 (2 epochs), weights of step 13" in text


def test_words_of_the_data_do_not_break_the_tables() -> None:
    labels = ("a|b", "back`tick", "two\nlines", *(f"label-{n}" for n in range(30)))
    text = rendered(of=report(summary=PrepareSummary(train_rows=1, labels=labels)))
    row = next(line for line in text.splitlines() if line.startswith("| Labels"))
    assert "`a/b`, `back'tick`, `two lines`" in row
    assert row.endswith("and 13 more |")


def test_a_metric_that_only_some_evaluations_have_leaves_a_gap() -> None:
    first = Evaluation(step=1, epoch=0.5, metrics={"loss": 1.0})
    second = Evaluation(step=2, epoch=1.0, loss=0.123456, metrics={"loss": 0.5, "accuracy": 1.0})
    text = rendered(of=report(evaluations=(first, second), kept_step=2))
    assert "| 0.5 | 1 |  | 1 |  |" in text
    assert "| 1 | 2 | 0.1235 | 0.5 | 1 |" in text


def test_a_branch_and_a_mirror_are_named() -> None:
    text = rendered(endpoint="https://hub.example.com", publish={"repo_id": "me/reviews", "revision": "v2"})
    assert 'model="me/reviews", revision="v2")' in text
    assert "(https://hub.example.com/us/tiny)" in text


@pytest.mark.parametrize(
    ("front", "facts"),
    [
        ("license: mit\nlanguage: en", BaseFacts(license="mit", language=("en",))),
        ("language: [en, de]", BaseFacts(language=("en", "de"))),
        ("language: no", NOTHING),
        ("license: [mit, apache-2.0]\nlanguage: {a: b}", NOTHING),
        (
            "license: other\nlicense_name: llama\nlicense_link: LICENSE",
            BaseFacts(license="other", license_name="llama", license_link="https://hub/us/tiny/blob/main/LICENSE"),
        ),
        ("license_link: https://example.com/l", BaseFacts(license_link="https://example.com/l")),
        ("model-index: nonsense\nlicense: mit", BaseFacts(license="mit")),
        ("license: [unclosed", NOTHING),
        ("just text", NOTHING),
        ("", NOTHING),
    ],
)
def test_what_the_base_models_card_says(front: str, facts: BaseFacts) -> None:
    assert facts_of(f"---\n{front}\n---\n# A model\n", "https://hub/us/tiny") == facts


def test_a_card_without_metadata_says_nothing() -> None:
    assert facts_of("# A model\n") == facts_of("") == NOTHING


def test_the_template_is_a_part_of_the_package() -> None:
    from importlib import resources

    assert resources.files("finetune_trainer.publish").joinpath(Path(card.TEMPLATE).name).is_file()


def test_an_adapter_says_what_it_is_and_how_it_is_loaded() -> None:
    text = rendered(peft={"r": 4, "target_modules": ["query", "value"]}, quantization={"bits": 4}, accelerators=True)
    front_matter = metadata(text)
    assert (front_matter["library_name"], front_matter["base_model"], front_matter["base_model_relation"]) == (
        "peft",
        "us/tiny",
        "adapter",
    )
    assert "lora" in front_matter["tags"]
    options = "model_kwargs={'num_labels': 2, 'id2label': {0: 'negative', 1: 'positive'}}"
    assert f'pipeline("text-classification", model="me/reviews", {options})' in text
    assert "pip install peft" in text
    assert "| Method | LoRA, r 4, alpha 8, dropout 0 |" in text
    assert "| Modules with adapters | `query`, `value` |" in text
    assert "| Base model in training | 4 bits (NF4) |" in text


WITHOUT_PIPELINE = {
    "question-answering": "AutoModelForQuestionAnswering",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
}


@pytest.mark.parametrize("task", TASKS)
def test_the_code_is_python_that_this_transformers_can_run(task: str) -> None:
    """Transformers has each pipeline and each class that the code names."""
    from transformers.pipelines import SUPPORTED_TASKS

    text = rendered(
        task=task, publish={"repo_id": "me/reviews", "revision": "v1"}, preprocessing={"source_prefix": 'say "'}
    )
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ast.parse(code)
    assert (task in SUPPORTED_TASKS) == (task not in WITHOUT_PIPELINE)
    if task in SUPPORTED_TASKS:
        assert f'pipeline("{task}", model="me/reviews", revision="v1")' in code
    else:
        assert f'{WITHOUT_PIPELINE[task]}.from_pretrained("me/reviews", revision="v1")' in code
        assert ('"say \\"The text' in code) == TASKS[task].writes


def test_f1_is_a_mean_over_classes_where_there_are_classes_alone() -> None:
    assert (card.title("f1", "text-classification"), card.title("f1", "token-classification")) == ("F1 (macro)", "F1")
    results = metadata(rendered(task="question-answering"))["model-index"][0]["results"]
    assert all("args" not in metric for result in results for metric in result["metrics"])


def test_an_adapter_that_was_merged_is_a_model_like_any_other() -> None:
    text = rendered(peft={"save_merged": True})
    front_matter = metadata(text)
    assert front_matter["library_name"] == "transformers"
    assert "base_model_relation" not in front_matter
    assert "model_kwargs" not in text
    assert "LoRA, r 8, alpha 16, dropout 0, merged into the base model" in text


def test_an_adapter_of_a_model_on_a_volume_names_no_base_of_the_hub() -> None:
    front_matter = metadata(rendered(peft={}, model={"name": "/models/secret-project/bert"}))
    assert front_matter["library_name"] == "peft"
    assert not {"base_model", "base_model_relation"} & front_matter.keys()
