"""What several ranks do about weights that take no part in a step: decided from configuration and arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BartConfig, TrainingArguments

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import Peft, TaskConfig
from finetune_trainer.shared import layerdrop
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.train.unused_weights import adjust_arguments
from tests.support.runs import run_config

CHECKPOINTING = {"activation_checkpointing": True}
REENTRANT = CHECKPOINTING | {"activation_checkpointing_kwargs": {"use_reentrant": True, "preserve_rng_state": True}}
NEWER = {"use_reentrant": False, "preserve_rng_state": True}
LOOKS, STATIC = {"ddp_find_unused_parameters": True}, {"ddp_static_graph": True}
DROPS = {"encoder_layerdrop": 0.05}


class Model:
    """A model as far as the decision sees it."""

    def __init__(self, **config: Any) -> None:
        self.config = BartConfig(**config)


def settled(
    folder: Path, user_arguments: dict[str, Any], *, ranks: int, adapters: bool, drops: dict[str, float]
) -> tuple[Any, str | None]:
    run = run_config(folder / "output", model="/m", arguments=user_arguments, processes=ranks)
    run = run.model_copy(update={"peft": Peft() if adapters else None})
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, **user_arguments)
    return arguments, adjust_arguments(arguments, run, Model(**drops))


@pytest.mark.parametrize(
    ("user_arguments", "adapters", "drops", "looks", "replaced"),
    [
        ({}, False, {}, True, False),
        ({}, True, {}, True, False),
        (CHECKPOINTING, False, {}, True, False),
        (CHECKPOINTING, False, DROPS, True, False),
        (REENTRANT, False, {}, False, False),
        (REENTRANT | LOOKS, False, {}, True, True),
        (REENTRANT, True, {}, True, True),
        (REENTRANT, False, DROPS, True, True),
        (CHECKPOINTING | {"ddp_find_unused_parameters": False}, True, {}, False, False),
    ],
)
def test_ranks_look_for_unused_weights_wherever_a_graph_shows_them(
    user_arguments: dict[str, Any], adapters: bool, drops: dict[str, float], looks: bool, replaced: bool, tmp_path: Path
) -> None:
    arguments, message = settled(tmp_path, user_arguments, ranks=2, adapters=adapters, drops=drops)
    assert arguments.ddp_find_unused_parameters is looks
    asked_for = user_arguments.get("activation_checkpointing_kwargs")
    assert arguments.activation_checkpointing_kwargs == (NEWER if replaced else asked_for)
    assert (message is not None) is replaced


@pytest.mark.parametrize("promise", [{"ddp_find_unused_parameters": False}, STATIC])
def test_a_promise_that_the_model_breaks_is_refused(promise: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match=r"leaves out layers at random \(encoder_layerdrop 0.05 in") as raised:
        settled(tmp_path, promise, ranks=2, adapters=False, drops=DROPS)
    assert (raised.value.reason, raised.value.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)


def test_a_rank_alone_does_as_it_is_told(tmp_path: Path) -> None:
    arguments, message = settled(tmp_path, REENTRANT | STATIC, ranks=1, adapters=True, drops=DROPS)
    assert message is None
    assert arguments.ddp_find_unused_parameters is None
    assert arguments.activation_checkpointing_kwargs["use_reentrant"]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("options", [{"preserve_rng_state": True}, {"use_reentrant": None, "every_n_layers": 2}])
def test_another_option_is_no_wish_for_the_older_way(options: dict[str, Any], ranks: int, tmp_path: Path) -> None:
    user_arguments = CHECKPOINTING | {"activation_checkpointing_kwargs": options}
    arguments, message = settled(tmp_path, user_arguments, ranks=ranks, adapters=True, drops={})
    assert arguments.activation_checkpointing_kwargs == {**options, "use_reentrant": False}
    assert message is None


def test_layers_are_left_out_where_any_part_of_a_configuration_says_so(tmp_path: Path) -> None:
    parts = {
        "layerdrop": 0,
        "id2label": {0: "layerdrop"},
        "text_config": {"decoder_layerdrop": 0.1, "layers": 2},
        "audio_config": {"layerdrop": 0.2},
    }
    assert layerdrop.shares(parts) == {"decoder_layerdrop": 0.1, "layerdrop": 0.2}
    assert layerdrop.shares(BartConfig(**DROPS).to_dict()) == DROPS
    assert layerdrop.shares_of(tmp_path) == {}


def test_what_ranks_cannot_do_is_known_before_they_start(tmp_path: Path) -> None:
    run: TaskConfig = run_config(tmp_path, model="/m", arguments={"ddp_static_graph": True}, processes=2)
    assert "trainingArguments.ddp_static_graph: true says" in (layerdrop.problem(run, DROPS) or "")
    assert layerdrop.problem(run, {}) is None
    assert layerdrop.problem(run.model_copy(update={"processes_per_node": 1}), DROPS) is None
