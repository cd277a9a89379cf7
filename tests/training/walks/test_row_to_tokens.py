"""A walk through the data: two rows of somebody's csv file, step by step, until they are a batch that a rank trains on.

Read it from top to bottom. `prepare` does all of it but the last two steps in a pod without an accelerator.
"""

from __future__ import annotations

from pathlib import Path

from finetune_trainer import tasks
from finetune_trainer.data import model
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.prepared_dataset import Collator, PreparedDataset
from finetune_trainer.prepare import splits, store
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.task import Reading
from tests.support.global_step import training
from tests.support.runs import run_config
from tests.support.tiny import tiny_bert, write_rows


def test_walk_row_to_tokens(tmp_path: Path) -> None:
    # The user's data, with columns named as they like; `spec.dataset.columns` says which role each has.
    rows = [{"review": "the soup was cold", "stars": "bad"}, {"review": "a friendly waiter", "stars": "good"}]
    file = write_rows(tmp_path / "train.csv", rows)
    config = run_config(tmp_path / "claim", model=tiny_bert(tmp_path / "model"), train=file)

    # A task asks for columns. Those that hold text stay text: `007` is no number there. Nothing else of the file is kept.
    task = tasks.find(config.task)
    assert task.asked(config) == ColumnRequest(("review", "stars"), ("review",), None)
    hub = HubReader(config.hub)
    data_source = splits.find(config.dataset, hub, tmp_path / "hub")
    read = splits.read(config.dataset, hub, data_source, task.asked(config), tmp_path / "scratch", seed=42)
    assert read["train"].table.column("review").to_pylist() == ["the soup was cold", "a friendly waiter"]

    # The task checks every row before anything costs time, under the names of its roles; names of labels become numbers.
    checked = task.check(read, config)
    assert checked.label_names == ("bad", "good")
    assert checked.splits["train"].to_pylist()[0] == {"text": "the soup was cold", "label": 0}

    # The tokenizer of the model makes token ids of the text. Nothing is padded, so that batches may be as short as their rows.
    description = model.load(Path(config.model.name), "the model")
    limits, _ = task.limits(config, description)
    reading = Reading(config, description, limits, checked.label_names, role="train")
    (tokenised,) = task.tokenise(checked.splits["train"], reading)
    assert tokenised.batch.column("length").to_pylist() == [6, 5]

    # `prepare` is these steps together: the tokens lie on the volume, in a folder named by what they were made of.
    prepared = prepare(config)
    assert prepared.summary.train_rows == 2
    dataset = PreparedDataset.from_file(store.split_file(to_local(prepared.data), "train"))
    assert [dataset[index]["input_ids"] for index in (0, 1)] == tokenised.batch.column("input_ids").to_pylist()

    # A rank maps the file into memory. Its collator fills up a batch to the longest row, and the model is told what is padding.
    collate = Collator(task.collator(training(config, prepared)), keep_draw=False)
    batch = collate([dataset[0], dataset[1]])
    words = [description.tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"]]
    assert words[0] == ["[CLS]", "the", "soup", "was", "cold", "[SEP]"]
    assert words[1] == ["[CLS]", "a", "friendly", "waiter", "[SEP]", "[PAD]"]
    assert batch["labels"].tolist() == [0, 1]
