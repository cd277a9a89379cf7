"""A script that a data scientist would write to tokenise, in the shape and with the defaults of the public example scripts.

`datasets.map` in one process; classification is padded to max_length, as those scripts do unless told otherwise. It
stands alone: nothing of this project is imported.
"""

import argparse
import json
import os
import time
from itertools import chain
from typing import Any

Rows = dict[str, list[Any]]


def classification(data: Any, tokenizer: Any, padding: str | bool) -> Any:
    """Tokenise one text with one label."""
    ids = {name: number for number, name in enumerate(sorted(data.unique("stars")))}

    def preprocess(rows: Rows) -> Any:
        encoded = tokenizer(rows["text"], padding=padding, max_length=128, truncation=True)
        encoded["label"] = [ids[name] for name in rows["stars"]]
        return encoded

    return data.map(preprocess, batched=True)


def summarization(data: Any, tokenizer: Any, padding: str | bool) -> Any:
    """Tokenise source and target, each with its limit."""

    def preprocess(rows: Rows) -> Any:
        sources = ["summarize: " + text for text in rows["text"]]
        encoded = tokenizer(sources, max_length=1024, padding=padding, truncation=True)
        encoded["labels"] = tokenizer(
            text_target=rows["summary"], max_length=128, padding=padding, truncation=True
        )["input_ids"]  # fmt: skip
        return encoded

    return data.map(preprocess, batched=True, remove_columns=data.column_names)


def text_generation(data: Any, tokenizer: Any, padding: str | bool) -> Any:
    """Tokenise texts, joined and cut into full rows."""
    size = 512

    def group(rows: Rows) -> Any:
        joined = {name: list(chain(*values)) for name, values in rows.items()}
        total = len(joined["input_ids"]) // size * size
        blocks = {name: [values[at : at + size] for at in range(0, total, size)] for name, values in joined.items()}
        return {**blocks, "labels": blocks["input_ids"].copy()}

    tokens = data.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=data.column_names)
    return tokens.map(group, batched=True)


TASKS = {"text-classification": classification, "summarization": summarization, "text-generation": text_generation}


def main() -> None:
    """Load and tokenise; the seconds go to the file of RESULT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("folder", help="of model/ and train.jsonl")
    parser.add_argument("--pad-to-max-length", action="store_true")
    options = parser.parse_args()
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(f"{options.folder}/model")
    data = load_dataset("json", data_files=f"{options.folder}/train.jsonl", split="train")
    began, used = time.perf_counter(), time.process_time()
    rows = TASKS[options.task](data, tokenizer, "max_length" if options.pad_to_max_length else False)
    measured = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used, "rows": len(rows)}
    with open(os.environ["RESULT"], "w") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main()
