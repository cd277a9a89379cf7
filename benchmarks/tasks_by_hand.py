"""A script that a data scientist would write for summarisation and language modelling, run by plain torchrun.

In the shape and with the defaults of the public example scripts: `datasets.map` in every process group, the Trainer, the
collators of transformers. It stands alone: nothing of this project is imported.
"""

import argparse
from collections.abc import Sequence
from itertools import chain
from typing import Any

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    default_data_collator,
)

TARGET_LENGTH = 32


def summarization(data: Any, tokenizer: Any, options: argparse.Namespace) -> Any:
    """Tokenise source and target, cut to their limits; padded to them if asked for."""
    padding = "max_length" if options.pad_to_max_length else False

    def tokenize(rows: dict[str, list[str]]) -> Any:
        inputs = tokenizer(rows["text"], max_length=options.max_length, padding=padding, truncation=True)
        labels = tokenizer(text_target=rows["summary"], max_length=TARGET_LENGTH, padding=padding, truncation=True)
        if options.pad_to_max_length:
            pad = tokenizer.pad_token_id
            labels["input_ids"] = [[-100 if token == pad else token for token in row] for row in labels["input_ids"]]
        inputs["labels"] = labels["input_ids"]
        return inputs

    return data.map(tokenize, batched=True, remove_columns=["text", "summary"])


def text_generation(data: Any, tokenizer: Any, options: argparse.Namespace) -> Any:
    """Tokenise a document a row, padded to the limit; or joined and cut into full rows."""
    size = options.max_length

    def tokenize(rows: dict[str, list[str]]) -> Any:
        return tokenizer(rows["text"])

    def pad(rows: dict[str, list[str]]) -> Any:
        inputs = tokenizer(rows["text"], max_length=size, padding="max_length", truncation=True)
        masks = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        labels = [[token if real else -100 for token, real in zip(*row, strict=True)] for row in masks]
        return {**inputs, "labels": labels}

    def group(rows: dict[str, list[list[int]]]) -> Any:
        joined = {name: list(chain(*values)) for name, values in rows.items()}
        total = len(joined["input_ids"]) // size * size
        blocks = {name: [values[at : at + size] for at in range(0, total, size)] for name, values in joined.items()}
        return {**blocks, "labels": [list(row) for row in blocks["input_ids"]]}

    if options.pad_to_max_length:
        return data.map(pad, batched=True, remove_columns=["text"])
    return data.map(tokenize, batched=True, remove_columns=["text"]).map(group, batched=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Tokenise and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True, choices=["summarization", "text-generation"])
    parser.add_argument("--folder", required=True, help="of model/ and train.jsonl")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--max-steps", type=int, default=-1, help="default: one epoch")
    parser.add_argument("--pad-to-max-length", action="store_true", help="as the scripts' option")
    options = parser.parse_args(argv)
    arguments = Seq2SeqTrainingArguments(
        output_dir="/tmp/output",
        use_cpu=True,
        num_train_epochs=1,
        max_steps=options.max_steps,
        per_device_train_batch_size=8,
        logging_steps=10,
        save_strategy="no",
        train_sampling_strategy="random" if options.pad_to_max_length else "group_by_length",
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(f"{options.folder}/model")
    data = load_dataset("json", data_files={"train": f"{options.folder}/train.jsonl"})["train"]
    if options.task == "summarization":
        data = data.remove_columns([name for name in data.column_names if name not in ("text", "summary")])
        model = AutoModelForSeq2SeqLM.from_pretrained(f"{options.folder}/model")
        rows = summarization(data, tokenizer, options)
        collator = DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=-100)
        trainer: Trainer = Seq2SeqTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    else:
        data = data.remove_columns([name for name in data.column_names if name != "text"])
        model = AutoModelForCausalLM.from_pretrained(f"{options.folder}/model")
        rows = text_generation(data, tokenizer, options)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=default_data_collator)
    trainer.train()


if __name__ == "__main__":
    main()
