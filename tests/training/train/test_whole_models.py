"""Models that read pictures too, trained on text by real ranks: all parts are kept, and those that no text passes said."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.labelled import config
from tests.support.ranks import run_ranks
from tests.support.tiny import write_rows
from tests.support.tiny_kinds import tiny_whole

PROCESSOR = '{"image_processor_type": "MllamaImageProcessor", "size": {"height": 28, "width": 28}}'
ARGUMENTS = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "activation_checkpointing": True,  # with it two ranks wait for ever, or fail, where a weight gets no gradient
}


def test_picture_model_is_kept_whole_and_its_text_trained(tmp_path: Path) -> None:
    """All of a model for pictures and text is kept, and its text trained."""
    import torch
    from safetensors.torch import load_file

    model = tiny_whole(tmp_path / "model", "mllama", dtype="bfloat16")
    (model / "preprocessor_config.json").write_text(PROCESSOR)
    train = write_rows(tmp_path / "train.jsonl", [{"text": f"cold soup and a rude waiter {row}"} for row in range(8)])
    job = config(
        tmp_path / "output",
        task="text-generation",
        model=model,
        files={"train": train},
        columns={"text": "text"},
        preprocessing={"maxLength": 16},
        training_arguments=ARGUMENTS,
        processes=2,
    )
    finished = run_ranks(tmp_path / "ranks", job, world=2)
    assert finished.returncode == 0, finished.output

    before, after = (load_file(folder / "model.safetensors") for folder in (model, finished.model))
    assert after.keys() == before.keys(), "nothing is thrown away"
    same = {name for name in before if (before[name] == after[name]).all()}
    skipped = {name for name in before if "vision" in name or "projector" in name or "cross_attn" in name}
    assert skipped
    assert skipped <= same
    moved = {name for name in before if "self_attn" in name and "vision" not in name}
    assert moved
    assert not moved & same
    assert (finished.model / "preprocessor_config.json").read_text() == PROCESSOR
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}, "the precision that it was published in"
    assert json.loads((finished.model / "config.json").read_text())["dtype"] == "bfloat16"
    (note,) = [message for message in finished.heard.messages() if "pictures" in message]
    assert note.startswith("Of the model model.vision_model, model.multi_modal_projector, model.language_model.layers.")
