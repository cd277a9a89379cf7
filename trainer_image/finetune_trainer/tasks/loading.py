"""A model with the head of a task, and its tokenizer. Ranks alone call this: it imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.model import quantization_of
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.task import ensure_pad_token

DEQUANTIZED = ("fp8", "mxfp8", "mxfp4")
"""Names of the quantizations to small floats that transformers can undo."""


def load(
    auto: str,
    folder: Path,
    purpose: str,
    options: Mapping[str, Any],
    tokenizer_options: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Load model and tokenizer; `auto` is a class of transformers, `purpose` ends the message `The model cannot ...`.

    Weights are in fp32 however they were saved, unless `options` say otherwise.
    """
    import torch
    import transformers

    wanted = {"dtype": torch.float32, "local_files_only": True, **options}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, **(tokenizer_options or {})
        )
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        model = model_class(auto, config).from_pretrained(folder, **_dequantized(config), **wanted)
    except Exception as error:
        if may_pass(error):
            raise
        raise _refusal(error, purpose) from error
    ensure_pad_token(model, tokenizer)
    return model, tokenizer


def model_class(auto: str, config: Any) -> Any:
    """Return the class with a head for a configuration, or the class that chooses one: for the whole model.

    Of some models with pictures or sounds transformers would load the text part, which is saved as a model of another kind.
    """
    import transformers

    chooses = getattr(transformers, auto)
    head = chooses._model_mapping.get(type(config), None)
    if head is None or isinstance(head, tuple) or head.config_class is not config.sub_configs.get("text_config"):
        return chooses
    return transformers.AutoModelForMultimodalLM._model_mapping.get(type(config), chooses)


def _dequantized(config: Any) -> dict[str, Any]:
    """Return the options with which weights in 8 or 4 bit floats are dequantized as they are loaded.

    Kernels that compute with such weights come from the Hub, which ranks don't reach, are compiled at run time, and don't train.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    saved = quantization_of(config)
    if saved is None or saved.get("quant_method") not in DEQUANTIZED:
        return {}
    kind: Any = AUTO_QUANTIZATION_CONFIG_MAPPING[saved["quant_method"]]
    return {"quantization_config": kind.from_dict({**saved, "dequantize": True})}


def skeleton(auto: str, folder: Path) -> Any:
    """Make the model that `load` would load, without its weights: it takes no memory."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        made = model_class(auto, config)
        return made.from_config(config) if hasattr(made, "from_config") else made(config)


def may_pass(error: Exception) -> bool:
    """Tell whether loading the same model again, here or elsewhere, may succeed: the volume, memory or a device was at fault."""
    import torch

    if isinstance(error, OSError):
        return error.errno is not None  # transformers raises its own without a number
    devices = torch.OutOfMemoryError | torch.AcceleratorError
    return isinstance(error, MemoryError | devices) or "CUDA error" in str(error)


def _refusal(error: Exception, purpose: str) -> Exception:
    """Turn an error of the model's own into one that tells the user what it means."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return ExpectedError(Reason.NOT_IN_IMAGE, f"The image cannot load the model: {reason}")
    return ExpectedError(Reason.MODEL_NOT_LOADED, f"The model cannot {purpose}: {reason}")
