"""Training of an adapter in place of all weights: LoRA through peft, on a base model in full precision or in four bits.

Only runs that train an adapter import this module, and peft with it.
"""

from __future__ import annotations

import gc
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN
from transformers.pytorch_utils import Conv1D

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import Peft, TaskConfig
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.loading import skeleton
from finetune_trainer.tasks.task import Task
from finetune_trainer.train import precision, towers

DROPS_SEGMENTS = "QUESTION_ANS"
"""Type whose class in peft drops `token_type_ids`, which tell a question from its context."""
HEADS = ("classifier", "score", "qa_outputs", "classification_head")
"""Names of heads in models that name no base model."""
ALL_LINEAR = "all-linear"
TRAINABLE = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, Conv1D)
"""Kinds of layers that can have an adapter."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES_SHOWN = 20


@dataclass(frozen=True)
class Adapters:
    """The adapters of one run."""

    task: Task
    config: TaskConfig
    prepared: PreparedTask
    precision: str
    device: int | str
    """Number of this rank's accelerator."""

    def options(self) -> dict[str, Any]:
        """Return options of `from_pretrained` that say how the base model is held."""
        if self.config.quantization is None:
            return {}
        from transformers import BitsAndBytesConfig

        new_modules = self._new_modules(skeleton(self.task.facts.model_class, to_local(self.prepared.model)))
        quantization: Any = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[self.precision],
            # New modules are trained as they are. Without any, the library leaves the output embeddings as they are.
            llm_int8_skip_modules=new_modules or None,
        )
        return {"quantization_config": quantization, "device_map": {"": self.device}}

    def wrap(self, model: Any, *, checkpointing: bool) -> Any:
        """Return the model with fresh adapters; everything else is frozen, except for a new head."""
        require_modules(model, self._peft.target_modules)
        if self.config.quantization is not None:
            model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
                model, use_gradient_checkpointing=False
            )
        if checkpointing:
            # Activations that are recomputed have no gradient where their input, from frozen embeddings, has none.
            model.enable_input_require_grads()
        try:
            lora = self._lora(model)
            drops_segments = self.task.facts.peft_type == DROPS_SEGMENTS
            wrapped = PeftModel(model, lora) if drops_segments else get_peft_model(model, lora)
        except ValueError as error:
            raise _refusal(f"{error} {_known_names(model)}") from error
        return wrapped

    def _lora(self, model: Any) -> LoraConfig:
        peft = self._peft
        targets: Any = list(peft.target_modules) or None
        if ALL_LINEAR in peft.target_modules or (targets is None and model.config.model_type not in KNOWN):
            targets = ALL_LINEAR
        # Layers that choose experts return more than a linear layer, so no adapter fits them.
        routers = [path for path, layer in model.named_modules() if _is_router(layer)]
        return LoraConfig(
            r=peft.r,
            lora_alpha=peft.alpha if peft.alpha is not None else 2 * peft.r,  # type: ignore[arg-type]
            lora_dropout=peft.dropout,
            target_modules=targets,
            exclude_modules=_within([*towers.towers(model), *routers]),
            modules_to_save=self._new_modules(model) or None,
            task_type=self.task.facts.peft_type,
        )

    def summary(self, model: Any) -> str:
        """Say how much of the model is trained."""
        trained, everything = model.get_nb_trainable_parameters()
        return f"LoRA trains {trained:,} of {everything:,} parameters ({100 * trained / everything:.2g} %)"

    def save(self, model: Any, folder: Path) -> None:
        """Save the adapter, for the base model under the name that the user gave; or a plain model with the adapter merged in."""
        if self._peft.save_merged:
            merged = self._merged(model, folder)
            precision.as_in(to_local(self.prepared.model), merged)
            merged.save_pretrained(folder)
            return
        peft_config = model.peft_config[model.active_adapter]
        peft_config.base_model_name_or_path = self.config.model.name
        peft_config.revision = self.prepared.resolved.model_revision or self.config.model.revision
        _save(model, folder)

    def _merged(self, model: Any, folder: Path) -> Any:
        if self.config.quantization is None:
            return model.merge_and_unload()
        # Merging into four bits would round the update away, so the adapter is merged into the base model as it was
        # saved.
        scratch = folder.with_name(f"{folder.name}-adapter")
        _save(model, scratch)
        gc.collect()
        base, _ = self.task.load(to_local(self.prepared.model), self.prepared, self.config, {})
        merged: Any = PeftModel.from_pretrained(base, str(scratch)).merge_and_unload()
        shutil.rmtree(scratch)
        return merged

    @property
    def _peft(self) -> Peft:
        assert self.config.peft is not None
        return self.config.peft

    def _new_modules(self, model: Any) -> list[str]:
        """Return the modules that begin at random: an adapter without them would be worth nothing."""
        heads = heads_of(model) if self.task.facts.new_head else []
        unsaved = unsaved_of(model, saved_names(to_local(self.prepared.model)))
        return [*heads, *(path for path in unsaved if path.partition(".")[0] not in heads)]


def heads_of(model: Any) -> list[str]:
    """Return the names of the modules beside the base model."""
    base = getattr(model, "base_model", model)
    children = {name: child for name, child in model.named_children() if any(True for _ in child.parameters())}
    if base is model:
        return [name for name in children if name in HEADS]
    return [name for name, child in children.items() if child is not base]


def unsaved_of(model: Any, saved: Collection[str]) -> list[str]:
    """Return the paths of single layers whose weights were not saved, so that they were drawn at random while loading.

    A model may lack its pooler, or the head that fills masks. Layers of the stack are not looked at, because their weights
    may be saved under other names. Nor are weights that two modules share, nor embeddings, because some models compute the
    embeddings of positions.
    """
    if not saved:
        return []
    shared = Counter(id(each) for _, each in model.named_parameters(remove_duplicate=False))
    endings = {ending for name in saved for ending in _endings(name)}
    unsaved = []
    for path, layer in model.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        in_stack = any(part.isdigit() for part in path.split("."))
        if not own or in_stack or isinstance(layer, torch.nn.Embedding) or any(True for _ in layer.children()):
            continue
        if all(shared[id(each)] == 1 for each in own.values()) and not any(
            f"{path}.{name}" in endings or any(ending in saved for ending in _endings(f"{path}.{name}")) for name in own
        ):
            unsaved.append(path)
    return unsaved


def _endings(name: str) -> list[str]:
    """Return a path of parts, and the path without its first parts as long as it names a layer and a weight."""
    parts = name.split(".")
    return [".".join(parts[begin:]) for begin in range(max(len(parts) - 1, 1))]


def saved_names(folder: Path) -> set[str]:
    """Return the names of the weights in a model's folder; none where only loading them would tell."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in folder.glob("model*.safetensors"):
        with safe_open(file, framework="np") as opened:
            names.update(opened.keys())
    return {re.sub("gamma$", "weight", re.sub("beta$", "bias", name)) for name in names}


def require_modules(model: Any, wanted: Iterable[str]) -> None:
    """Raise an error where a name that the user gave stands for no layer that can have an adapter: peft would skip it silently."""
    layers = dict(model.named_modules())
    for name in wanted:
        if name == ALL_LINEAR:
            continue
        matches = [layer for path, layer in layers.items() if path == name or path.endswith(f".{name}")]
        if not matches:
            raise _refusal(f"{type(model).__name__} has no module {name!r}. {_known_names(model)}")
        other = next((layer for layer in matches if not isinstance(layer, TRAINABLE) or _is_router(layer)), None)
        if other is not None:
            raise _refusal(
                f"{name!r} is a {type(other).__name__} of {type(model).__name__}, which is no single layer. "
                f"{_known_names(model)}"
            )


def _is_router(layer: Any) -> bool:
    return isinstance(layer, torch.nn.Linear) and "Router" in type(layer).__name__


def _known_names(model: Any) -> str:
    heads = set(heads_of(model))
    names = {
        path.rpartition(".")[2]
        for path, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and path.partition(".")[0] not in heads
    }
    shown = sorted(name for name in names if not name.isdigit())
    more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
    return f"Choose from {', '.join(shown[:NAMES_SHOWN])}{more}, or say {ALL_LINEAR}."


def _within(paths: Iterable[str]) -> str | None:
    """Return a pattern that matches these paths, and the paths of all modules below them."""
    pattern = "|".join(re.escape(path) for path in paths)
    return rf"({pattern})(\..*)?" if pattern else None


def _save(model: Any, folder: Path) -> None:
    """Save an adapter alone: no vocabulary grows here, and peft must not ask the Hub whether one has."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a model card with gaps to fill in


def _refusal(problem: str) -> ExpectedError:
    return ExpectedError(Reason.ARGUMENTS_INVALID, f"spec.peft.targetModules: {problem}")
