"""Folders that are no model, or not one of this task; and a claim that may not be written to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.bad_input.place import NOTICE, Mistake, Place, in_model, mistake

_MODEL = "ModelNotFound"


def _edit(folder: Path, file: str, **change: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _index_without_part(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    parts = {"weight_map": {"a": "model-1-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts))


def _adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def _other_vocabulary(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["soup"] = 500
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _closed_weights(place: Place) -> None:
    place.show_to_pods_user()
    (place.own_model() / "model.safetensors").chmod(0)


def _closed_claim(place: Place) -> None:
    place.show_to_pods_user()
    place.claim = place.claim.parent / "closed"
    place.claim.mkdir(exist_ok=True)
    place.claim.chmod(0o555)


MODELS: tuple[Mistake, ...] = (
    in_model(
        "model-folder-missing",
        "a model folder that is not there",
        "The model folder /models/mine does not exist. /models holds base.",
        shutil.rmtree,
    ),
    mistake(
        "model-is-a-file",
        "a file in place of a model's folder",
        _MODEL,
        "/models/base/config.json is a file; spec.model.name takes the folder of a model.",
        lambda place: None,
        model__name="/models/base/config.json",
    ),
    in_model(
        "model-folder-without-config",
        "a folder without config.json",
        "The model /models/mine is no model: it has no config.json; it holds model.safetensors, tokenizer.json, "
        "tokenizer_config.json.",
        lambda folder: (folder / "config.json").unlink(),
    ),
    in_model(
        "model-config-broken",
        "a config.json that is no JSON",
        "The model /models/mine: its configuration cannot be used",
        lambda folder: (folder / "config.json").write_text("{"),
    ),
    in_model(
        "model-config-wrong-type",
        "a config.json with text for a number",
        "Field 'hidden_size' expected int, got str (value: 'many')",
        lambda folder: _edit(folder, "config.json", hidden_size="many"),
    ),
    in_model(
        "model-architecture-unknown",
        "an architecture that transformers does not have",
        "no-such",
        lambda folder: _edit(folder, "config.json", model_type="no-such"),
    ),
    in_model(
        "model-with-code",
        "a model that brings code of its own",
        "it brings code of its own, which is not run here. Choose a model of an architecture that transformers has.",
        lambda folder: _edit(
            folder, "config.json", model_type="mine", auto_map={"AutoConfig": "configuration_mine.MineConfig"}
        ),
    ),
    in_model(
        "model-in-few-bits",
        "a model whose weights are in few bits, trained as a whole",
        "The model /models/mine has weights in few bits already (gptq), which only train with spec.peft on a CUDA accelerator.",
        lambda folder: _edit(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "ArgumentsInvalid",
    ),
    in_model(
        "model-of-another-kind",
        "a model without a head for text classification",
        "The model /models/mine is of kind 'vit', for which transformers has no head for text classification.",
        lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'),
    ),
    in_model(
        "model-folder-without-tokenizer",
        "a model without a tokenizer",
        "The model /models/mine has no tokenizer (tokenizer.json, vocab.txt, ...); it holds config.json, "
        "model.safetensors, tokenizer_config.json. Save one beside it with tokenizer.save_pretrained().",
        lambda folder: (folder / "tokenizer.json").unlink(),
    ),
    in_model(
        "model-tokenizer-broken",
        "a tokenizer.json that is no JSON",
        "The model /models/mine: its tokenizer cannot be loaded",
        lambda folder: (folder / "tokenizer.json").write_text("{"),
    ),
    in_model(
        "model-tokenizer-of-another-kind",
        "a tokenizer.json of which the library can make nothing",
        "The model /models/mine: its tokenizer cannot be loaded",
        lambda folder: _edit(folder, "tokenizer.json", model={"type": "NoSuch"}),
    ),
    in_model(
        "model-tokenizer-of-another-model",
        "a tokenizer with tokens that the model does not have",
        "The model /models/mine: its tokenizer gives a token the number 500 ('soup'), the model knows 0 to 81: they "
        "do not belong together.",
        _other_vocabulary,
    ),
    in_model(
        "model-folder-without-weights",
        "a model without weights",
        "The model /models/mine has no weights (model.safetensors); it holds config.json, tokenizer.json, "
        "tokenizer_config.json.",
        lambda folder: (folder / "model.safetensors").unlink(),
    ),
    in_model(
        "model-is-an-adapter",
        "an adapter in place of a model",
        "It is an adapter: merge it into its base model and save that.",
        _adapter,
    ),
    in_model(
        "model-weights-cut",
        "weights that were not copied as a whole",
        "The model /models/mine has damaged weights: model.safetensors",
        lambda folder: _cut(folder / "model.safetensors"),
    ),
    in_model(
        "model-weights-of-git-lfs",
        "what Git leaves in place of large weights",
        "model.safetensors is a pointer of Git LFS in place of the weights; fetch them with `git lfs pull`.",
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
    ),
    in_model(
        "model-weights-part-missing",
        "weights of which a part is missing",
        "The model /models/mine has damaged weights: model.safetensors.index.json names model-1-of-2.safetensors, which "
        "is not there.",
        _index_without_part,
    ),
    mistake(
        "model-weights-unreadable",
        "weights that the pods' user may not read",
        _MODEL,
        "The model /models/mine cannot be read: The pods' user (uid 10001, gid 10001) may not read "
        "/models/mine/model.safetensors: it belongs to uid 0, gid 0, mode 0000.",
        _closed_weights,
        model__name="/models/mine",
    ),
    in_model(
        "model-with-another-head",
        "a fine-tuned model for another number of classes",
        "The model /models/mine tells 5 classes apart, the data has 2: its head is left behind and a new one is trained.",
        lambda folder: _edit(
            folder,
            "config.json",
            architectures=["BertForSequenceClassification"],
            id2label={str(number): f"{number} stars" for number in range(5)},
            label2id={f"{number} stars": number for number in range(5)},
        ),
        NOTICE,
    ),
    mistake(
        "claim-not-writable",
        "a claim that the pods' user may not write to",
        "VolumeNotWritable",
        "The pods' user (uid 10001, gid 10001) may not write to /output",
        _closed_claim,
    ),
)
