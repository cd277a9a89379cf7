"""Which model is published, that it is whole, and which of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.contract.prepared import Prepared, Resolved
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.training_report import REPORT_FILE
from finetune_trainer.publish.sealed import find, is_of_a_model
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_pod
from finetune_trainer.shared.volume import write_checked
from tests.support.checkpoints import begin, layout
from tests.support.published import FILES, seal_model

GOES = [
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "qwen.tiktoken",
    "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
    "preprocessor_config.json",
    "model.keras",
    "model.weights.h5",
    "tf_model.h5",
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "flax_model.msgpack",
    "model.pt",
    "adapter_model.bin",
    "second/adapter_config.json",
    "second/adapter_model.safetensors",
    "modeling_mine.py",
    "1_Pooling/config.json",
]
STAYS = [
    "training_args.bin",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "rng_state.pth",
    "rng_state_0.pth",
    "trainer_state.json",
    "scaler.pt",
    "manifest.json",
    "finetune-report.json",
    "predictions.jsonl",
    "finetune.json",
    "train.log",
    "events.out.tfevents.1",
    "checkpoint-10/model.safetensors",
    "runs/events.out",
    "run.json",
    ".env",
    "token",
    "secret",
    "README.md",
    "all_results.json",
    "core.1",
    "data/train.csv",
    "hub/model.safetensors",
    "checkpoint-10/adapter_model.safetensors",
    "epoch_3/adapter_config.json",
    "checkpoint-10.keras",
    "epoch.03.weights.h5",
    "backup/latest.weights.h5",
    "train.py",
    "train.h5",
    "arguments.pkl",
    "pytorch_model.py",
]


@pytest.mark.parametrize("name", GOES)
def test_files_of_a_model_go_to_the_hub(name: str) -> None:
    assert is_of_a_model(name)


@pytest.mark.parametrize("name", STAYS)
def test_all_else_stays(name: str) -> None:
    assert not is_of_a_model(name)


def test_the_model_that_training_sealed_last(tmp_path: Path) -> None:
    place = layout(tmp_path)
    seal_model(place, {"training_args.bin": b"secret", "config.json": b'{"old": 1}'}, attempt=1)
    newest = seal_model(place, {"training_args.bin": b"secret"}, attempt=2)
    model = find(place)
    assert model.folder == newest
    assert model.files == tuple(sorted(FILES))
    assert model.left_out == ("training_args.bin",)
    assert model.report is not None
    assert model.report.steps == 26


def test_an_attempt_that_found_it_trained_names_it(tmp_path: Path) -> None:
    place = layout(tmp_path)
    sealed = seal_model(place)
    begin(place.run, 2, model=to_pod(sealed))
    assert find(place).folder == sealed


def test_a_model_of_a_release_without_reports(tmp_path: Path) -> None:
    place = layout(tmp_path)
    seal_model(place, {REPORT_FILE: b'{"of": "another release"}'})
    assert find(place).report is None


@pytest.mark.parametrize(
    ("files", "library"),
    [
        ({"config.json": b'{"model_type": "bert"}', "model.safetensors": b""}, "transformers"),
        (
            {"config.json": b'{"model_type": "bert"}', "adapter_config.json": b"{}", "adapter_model.safetensors": b""},
            "peft",
        ),
        ({"config.json": b'{"hidden": 3}', "model.safetensors": b""}, None),
        ({"config.json": b"[", "model.safetensors": b""}, None),
        ({"model.pt": b""}, None),
        ({"model.keras": b""}, "keras"),
    ],
)
def test_the_library_of_a_model_is_told_by_its_files(
    files: dict[str, bytes], library: str | None, tmp_path: Path
) -> None:
    place = layout(tmp_path)
    seal_model(place, files, whole=True)
    model = find(place)
    assert (model.library, model.report, model.resolved) == (library, None, Resolved())


def test_the_commits_of_a_program_are_those_that_were_prepared(tmp_path: Path) -> None:
    place = layout(tmp_path)
    seal_model(place, {"model.safetensors": b""}, whole=True)
    resolved = Resolved(model_revision="a" * 40)
    write_checked(place.run.prepared, Prepared(config_digest="0", resolved=resolved))
    assert find(place).resolved == resolved


def test_what_holds_no_weights_is_no_model(tmp_path: Path) -> None:
    place = layout(tmp_path)
    seal_model(place, {"config.json": b"{}", "state.pkl": b"", "epoch_3.keras": b""}, whole=True)
    with pytest.raises(ExpectedError, match=r"\(epoch_3.keras, state.pkl\)") as raised:
        find(place)
    assert (raised.value.reason, raised.value.cause) == (Reason.NOTHING_TRAINED, Cause.USER)


def test_what_is_damaged_is_not_published(tmp_path: Path) -> None:
    place = layout(tmp_path)
    assert "holds none" in str(refusal(tmp_path))
    begin(place.run, 1)
    assert "no longer on the volume" in str(refusal(tmp_path))
    folder = seal_model(place)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\0")
    assert "the content of model.safetensors has changed" in str(refusal(tmp_path))
    weights.write_bytes(content[:-1])
    assert "model.safetensors has" in str(refusal(tmp_path))
    weights.unlink()
    assert "model.safetensors is missing" in str(refusal(tmp_path))


def refusal(folder: Path) -> ExpectedError:
    with pytest.raises(ExpectedError) as raised:
        find(layout(folder))
    assert (raised.value.reason, raised.value.cause) == (Reason.MODEL_DAMAGED, Cause.USER)
    return raised.value
