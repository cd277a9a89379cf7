"""The typed arguments beside the real ones: what the API server accepts the Trainer takes."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import Seq2SeqTrainingArguments as RealArguments
from transformers.optimization import get_scheduler

from finetune_operator.api.deprecated import translate
from finetune_operator.api.training_arguments import SCHEDULER_OPTIONS, TrainingArguments
from finetune_trainer.contract.run_config import LEARNING_RATE, LORA_LEARNING_RATE
from tests.support.cluster.client import REPOSITORY
from tests.support.schema_cases import schema_cases
from tests.support.spec_cases import RULE_CASES, Case

WHATEVER_METRIC = ("metric-", "trainingArguments.metric_for_best_model-enum-")
"""Beginnings of the names of cases that are left out: to the Trainer a metric's name is any text."""
CASES = [
    case
    for case in (*RULE_CASES, *schema_cases())
    if "trainingArguments" in str(case.good) and not case.name.startswith(WHATEVER_METRIC)
]
OF_SCHEDULERS = ("option-", "cosine_", "decay-", "polynomial-")
NOT_THE_TRAINERS = {"train_sampling_strategy"}
"""Arguments that are resolved before the Trainer sees them."""


def current_arguments(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a manifest, under today's names."""
    current, _ = translate(TrainingArguments.model_validate(manifest["spec"].get("trainingArguments", {})))
    return current


def real(arguments: dict[str, Any], folder: str) -> RealArguments:
    """Make the arguments as a rank on a CPU does; checkpoints come with evaluations where nothing else was asked for."""
    if arguments.get("load_best_model_at_end") and not arguments.keys() & {"save_strategy", "save_steps"}:
        arguments = {
            "save_strategy": arguments["eval_strategy"],
            "save_steps": arguments.get("eval_steps", 500),
            **arguments,
        }
    known = {name: value for name, value in arguments.items() if name not in {*NOT_THE_TRAINERS, "tf32"}}
    return RealArguments(output_dir=folder, use_cpu=True, report_to="none", **known)


def test_the_checked_in_module_is_what_the_generator_writes() -> None:
    script = REPOSITORY / "scripts" / "generate_training_arguments.py"

    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0, "run `make generate`"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_accepted_the_trainer_takes(case: Case, tmp_path: Any) -> None:
    arguments = current_arguments(case.good_manifest())

    built = real(arguments, str(tmp_path))

    for name in arguments.keys() & {"learning_rate", "seed", "max_steps", "weight_decay", "adam_beta1"}:
        assert getattr(built, name) == arguments[name]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name.startswith(OF_SCHEDULERS)],
    ids=lambda case: case.name,
)
def test_options_that_are_accepted_the_scheduler_takes(case: Case) -> None:
    manifest = case.good_manifest()

    assert scheduler(current_arguments(manifest), with_peft="peft" in manifest["spec"]) is not None


@pytest.mark.parametrize(
    "case",
    [case for case in RULE_CASES if case.name.startswith(OF_SCHEDULERS)],
    ids=lambda case: case.name,
)
def test_options_that_are_refused_the_scheduler_refuses(case: Case) -> None:
    spec = case.bad_manifest()["spec"]

    with pytest.raises((TypeError, ValueError)):
        scheduler(spec["trainingArguments"], with_peft="peft" in spec)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in RULE_CASES
        if case.name
        in {
            "fp16-and-bf16",
            "prefetch-without-workers",
            "best-without-evaluation",
            "best-with-other-strategy",
            "best-with-other-steps",
            "best-with-share-and-steps",
            "reduce_lr_on_plateau-without-evaluation",
            "greedy-without-evaluation",
            "logging_steps-fraction",
        }
    ],
    ids=lambda case: case.name,
)
def test_what_is_refused_the_trainer_refuses(case: Case, tmp_path: Any) -> None:
    arguments = case.bad_manifest()["spec"]["trainingArguments"]

    with pytest.raises(ValueError, match=r"."):
        RealArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **arguments)


def test_every_scheduler_is_known() -> None:
    field = TrainingArguments.model_json_schema()["properties"]["lr_scheduler_type"]

    assert set(SCHEDULER_OPTIONS) == set(field["anyOf"][0]["enum"])


def scheduler(arguments: dict[str, Any], *, with_peft: bool = False) -> Any:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    default = LORA_LEARNING_RATE if with_peft else LEARNING_RATE
    optimizer = torch.optim.AdamW(weights, lr=arguments.get("learning_rate", default))
    return get_scheduler(
        arguments.get("lr_scheduler_type", "linear"),
        optimizer,
        num_warmup_steps=0,
        num_training_steps=100,
        scheduler_specific_kwargs=arguments.get("lr_scheduler_kwargs"),
    )
