"""Text that a model writes: how it is generated, and how token ids become text again.

Evaluation uses the settings that the saved model carries, so that a plain `generate` gives the texts that were measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_trainer.contract.run_config import TaskConfig

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
BEAMS = ("early_stopping", "length_penalty")
"""Settings without effect outside sampling or beam search; transformers refuses to save them there."""


def wanted(config: TaskConfig) -> bool:
    """Tell whether evaluation generates. It does unless the user says no: without text there is neither ROUGE nor BLEU."""
    return config.training_arguments.get("predict_with_generate") is not False


def configure(settings: Any, config: TaskConfig, target_tokens: int) -> None:
    """Write length and beams as the user wants them into a model's generation config."""
    arguments = config.training_arguments
    length = arguments.get("generation_max_length")
    # The start token is among the tokens that max_length counts, but not among the tokens of a target.
    settings.max_length = length if isinstance(length, int) else target_tokens + 1
    settings.max_new_tokens = None
    if settings.min_length is not None:
        settings.min_length = min(settings.min_length, settings.max_length)
    if isinstance(beams := arguments.get("generation_num_beams"), int):
        settings.num_beams = beams
    _drop_idle(settings)


def writer(model: Any) -> Callable[..., Any]:
    """Return `(model, inputs, outputs) -> token ids`: it writes the most likely text from the output of the encoder."""
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample = False  # an evaluation that is run again gives the same metrics
    _drop_idle(settings)
    experts = hasattr(model.config, "num_experts")  # their encoders have more outputs, which generation needs

    def write(model: Any, inputs: dict[str, Any], outputs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        read: dict[str, Any] = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        if not experts:
            read["encoder_outputs"] = BaseModelOutput(last_hidden_state=outputs["encoder_last_hidden_state"])
        return model.generate(**read, generation_config=settings)

    return write


def texts(tokenizer: Any, tokens: npt.NDArray[np.int64], language: int | None) -> list[str]:
    """Decode the written tokens, row by row, without special tokens and the code of the language."""
    dropped = (tokens < 0) if language is None else (tokens < 0) | (tokens == language)
    filled = np.where(dropped, tokenizer.pad_token_id, tokens)
    return [text.strip() for text in tokenizer.batch_decode(filled, skip_special_tokens=True)]


def mean_length(tokenizer: Any, tokens: npt.NDArray[np.int64]) -> float:
    """Return the mean tokens of a row, without start token and padding; the end of the text counts as one."""
    counted = (tokens[:, 1:] >= 0) & (tokens[:, 1:] != tokenizer.pad_token_id)
    return float(counted.sum(axis=1).mean())


def _drop_idle(settings: Any) -> None:
    idle = [] if settings.do_sample else list(SAMPLING)
    if settings.num_beams in (None, 1):
        idle += BEAMS
    for name in idle:
        if getattr(settings, name, None) is not None:
            setattr(settings, name, None)
