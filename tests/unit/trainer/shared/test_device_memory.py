"""What training holds in a device at least, by the headers of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.run_config import Peft, Quantization, TaskConfig
from finetune_trainer.shared.device_memory import GIB, note, parameters_of, problem
from tests.support.checkpoints import run_config
from tests.support.headers import VOCABULARY, WIDTH, llama_8b, write_headers

LORA: dict[str, Any] = {"peft": Peft().model_dump()}
QLORA: dict[str, Any] = {**LORA, "quantization": Quantization().model_dump()}
ADAFACTOR: dict[str, Any] = {"training_arguments": {"optim": "adafactor"}}
TABLE = (VOCABULARY, WIDTH)


def job(**fields: Any) -> TaskConfig:
    model = {"name": "meta-llama/Llama-3.1-8B"}
    return run_config(**{"model": model, "task": "text-generation", "accelerators": True, **fields})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_headers(tmp_path_factory.mktemp("llama"), llama_8b(), parts=4)


def test_a_model_in_parts_is_counted_as_a_whole(llama: Path) -> None:
    """Embeddings and head are counted once: they may be the same weights."""
    assert parameters_of(llama, "text-generation") == 8_030_261_248 - VOCABULARY * WIDTH


@pytest.mark.parametrize(
    ("how", "device_gib", "fits"),
    [
        ({}, 80, False),
        ({}, 111, False),
        ({}, 113, True),
        ({"nodes": 16}, 80, False),
        (ADAFACTOR, 80, True),
        (ADAFACTOR, 48, False),
        ({"training_arguments": {"optim": "sgd"}}, 80, True),
        ({"training_arguments": {"optim": "of-another-release"}}, 80, True),
        (LORA, 24, False),
        (LORA, 40, True),
        (QLORA, 8, True),
        (QLORA, 3, False),
    ],
)
def test_only_what_cannot_fit_is_refused(how: dict[str, Any], device_gib: int, fits: bool, llama: Path) -> None:
    assert (problem(job(**how), llama, device_gib * GIB) is None) is fits


def test_the_refusal_has_the_arithmetic_and_the_ways_that_may_fit(llama: Path) -> None:
    refusal = problem(job(), llama, 80 * GIB)
    assert refusal == (
        "The model meta-llama/Llama-3.1-8B does not fit: training all of its 7.50 billion weights takes 16 bytes each (4 for the "
        "weight, 4 for its gradient, 8 for adamw_torch_fused), 111.8 GiB in all before the first row. A device has 80.0 GiB at "
        "most. Each rank holds all of it, so that more of them do not help. What may fit: train an adapter (spec.peft): 28.0 GiB; "
        "train an adapter on four bits (spec.peft, spec.quantization): 3.5 GiB; set optim: adafactor: 55.9 GiB. Or ask for devices "
        "with more memory, or choose a smaller model."
    )
    assert "train an adapter on four bits (spec.peft, spec.quantization): 3.5 GiB. Or" in str(
        problem(job(**LORA), llama, 24 * GIB)
    )
    assert "do not help. Ask for devices with more memory" in str(problem(job(**QLORA), llama, GIB))


def test_where_nobody_knows_the_device_much_is_told_and_little_is_not(llama: Path, tmp_path: Path) -> None:
    assert str(note(job(), llama)).startswith(
        "Each device needs more than 111.8 GiB of memory: training all of its 7.50 billion"
    )
    assert note(job(**QLORA), llama) is None
    assert note(job(), tmp_path) is None


@pytest.mark.parametrize(
    ("shapes", "task", "count"),
    [
        ({"a.weight": (2, 3), "a.bias": (2,)}, "text-classification", 8),
        (
            {"shared.weight": TABLE, "encoder.embed_tokens.weight": TABLE, "lm_head.weight": TABLE},
            "translation",
            VOCABULARY * WIDTH,
        ),
        ({"encoder.a.weight": (2, 3), "decoder.a.weight": (5, 7)}, "token-classification", 6),
        ({"encoder.a.weight": (2, 3), "decoder.a.weight": (5, 7)}, "summarization", 41),
        ({"model.decoder.a.weight": (5, 7)}, "text-classification", 35),
        (
            {"vision_tower.a.weight": (5, 7), "multi_modal_projector.weight": (5, 7), "model.a.weight": (2, 3)},
            "text-generation",
            6,
        ),
        ({"model.a.weight": (2, 3), "mtp.a.weight": (5, 7)}, "text-generation", 6),
    ],
)
def test_what_may_not_be_loaded_is_not_counted(
    shapes: dict[str, tuple[int, ...]], task: str, count: int, tmp_path: Path
) -> None:
    assert parameters_of(write_headers(tmp_path, shapes), task) == count


@pytest.mark.parametrize("kind", ["U8", "I8", "F8_E4M3", "F4"])
def test_weights_in_few_bits_tell_nothing(kind: str, tmp_path: Path) -> None:
    assert parameters_of(write_headers(tmp_path, llama_8b(), kind=kind), "text-generation") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        (8).to_bytes(8, "little") + b"no json!",
        (2).to_bytes(8, "little") + b"[]",
        (17).to_bytes(8, "little") + b'{"a":{"shape":0}}',
        (26).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape',
    ],
)
def test_weights_that_are_broken_are_for_others_to_refuse(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert parameters_of(tmp_path, "text-generation") is None
