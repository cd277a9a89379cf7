"""Which files of a model on the Hub training reads, and whether they are a model at all: known before any is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import _is_tokenizer_file
from finetune_trainer.prepare.hub_errors import Wanted
from finetune_trainer.shared.failures import ExpectedError

WEIGHTS = {"model": ".safetensors", "pytorch_model": ".bin"}
"""Beginning of the names of weight files that transformers loads -> their ending; the first kind that a model has is taken."""
TOKENIZER_CONFIG = "tokenizer_config.json"
"""The file that a tokenizer of bytes or characters has, which has no vocabulary."""
FORMS = (
    ("*.safetensors",),
    ("pytorch_model*.bin", "*/pytorch_model*.bin", "diffusion_pytorch_model*.bin", "*/diffusion_pytorch_model*.bin"),
    ("tf_model*.h5", "*/tf_model*.h5"),
    ("flax_model*.msgpack", "*/flax_model*.msgpack"),
)
"""Patterns of weights that transformers and diffusers read, the form that they prefer first."""
EXPORTED = (
    "*.onnx",
    "*.onnx_data",
    "*.gguf",
    "*.ot",
    "*.tflite",
    "*.mlmodel",
    "*.mlpackage/*",
    "openvino*",
    "original/*",
)
"""Patterns of the same weights for other programs, and as they were before transformers had them."""
TEXT_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def needed_files(files: Sequence[str]) -> list[str]:
    """Select of a model's files those that training reads: at the top level, and weights in one format only."""
    top = [name for name in files if "/" not in name]
    kind = next((stem for stem in WEIGHTS if any(_is_weight(name, stem) for name in top)), None)
    return [name for name in top if name.endswith(TEXT_FILES) or (kind and _is_weight(name, kind))]


def files_of_one_form(files: Sequence[str]) -> list[str]:
    """Select of a model's files all but weights in a further form; all files where none is a form that transformers reads."""
    held = [form for form in FORMS if any(_fits(name, form) for name in files)]
    others = (*(pattern for form in held[1:] for pattern in form), *EXPORTED) if held else ()
    return [name for name in files if not _fits(name, others)]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_files(wanted: Wanted, files: Sequence[str]) -> None:
    """Refuse a repository that is no model: gigabytes need not be fetched to know it."""
    top = [name for name in files if "/" not in name]
    holds = f"it holds {names(top) or 'nothing'}."
    if "config.json" not in top and "adapter_config.json" in top:
        problem = "is an adapter (adapter_config.json), not a whole model: merge it with its base model first."
    elif "config.json" not in top:
        problem = f"is no model of transformers: it has no config.json; {holds}"
    elif not any(_is_weight(name, stem) for name in top for stem in WEIGHTS):
        problem = f"has no weights (model.safetensors); {holds}"
    elif not any(_is_tokenizer_file(name) for name in top) and TOKENIZER_CONFIG not in top:
        problem = f"has no tokenizer (tokenizer.json, vocab.txt, ...); {holds} Push one with tokenizer.push_to_hub()."
    else:
        return
    raise ExpectedError(Reason.MODEL_NOT_FOUND, f"The {wanted} {problem}")


def _is_weight(name: str, stem: str) -> bool:
    """Tell whether a file is `model.safetensors`, or a part of it as `model-00001-of-00002.safetensors`."""
    return name.endswith(WEIGHTS[stem]) and name.startswith((f"{stem}.", f"{stem}-"))
