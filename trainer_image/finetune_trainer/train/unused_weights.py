"""Weights without a part in a step, and the settings with which several ranks can still exchange their gradients.

torch's DDP waits for the gradient of every weight, unless it searches the graph of each step for weights without one.
Activations that are recomputed in the older, reentrant way are in no graph: DDP then takes all weights within for unused, and
ends with "Expected to mark a variable ready only once". The Trainer therefore does not search where activations are
recomputed, and always searches with adapters. So layers that are left out at random, and adapters that are recomputed in the
reentrant way, end in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.shared import layerdrop
from finetune_trainer.shared.failures import ExpectedError

REENTRANT = "use_reentrant"


def adjust_arguments(arguments: Any, run: TaskConfig, model: Any) -> str | None:
    """Set the Trainer's arguments to what several ranks can do; return a message for the user where that is something else.

    `model` is without adapters. Raise ExpectedError where what the user wants can't be done.
    """
    options = dict(arguments.activation_checkpointing_kwargs or {})
    if options and options.get(REENTRANT) is None:
        # transformers chooses the newer way, but not where another option is given: torch would then take the older
        # one.
        options[REENTRANT] = False
        arguments.activation_checkpointing_kwargs = options
    if run.world_size == 1:
        return None
    left_out = layerdrop.shares(model.config.to_dict())
    if (problem := layerdrop.problem(run, left_out)) is not None:
        raise ExpectedError(Reason.ARGUMENTS_INVALID, problem)
    reentrant = bool(arguments.activation_checkpointing and options.get(REENTRANT))
    why = _looks_for_unused(arguments, run, left_out) if reentrant else None
    if why is not None:
        # The way in which activations are recomputed changes no number.
        arguments.activation_checkpointing_kwargs = {**options, REENTRANT: False}
    if arguments.ddp_find_unused_parameters is None:
        arguments.ddp_find_unused_parameters = not reentrant or why is not None
    return why


def _looks_for_unused(arguments: Any, run: TaskConfig, left_out: Mapping[str, float]) -> str | None:
    """Return why ranks must search for weights without a part, as a message on the reentrant way; None where they need not."""
    if left_out:
        why = f"of a model that leaves out layers at random ({layerdrop.described(left_out)})"
    elif run.peft is not None:
        why = "of adapters, of which a step may leave some out,"
    elif arguments.ddp_find_unused_parameters:
        why = "with ddp_find_unused_parameters: true"
    else:
        return None
    return (
        f"{REENTRANT}: true cannot be had on several ranks {why}: activations are recomputed in the newer way, which gives the "
        "same numbers."
    )
