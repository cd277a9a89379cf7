"""A script that a data scientist would write in place of a FineTuneJob, run by plain torchrun: the baseline of benchmarks.

The same model, data, arguments and metrics as the FineTuneJob that it is compared with. It stands alone: nothing of this
project is imported.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return accuracy and macro F1."""
    labels = np.argmax(prediction.predictions, axis=-1)
    accuracy = accuracy_score(prediction.label_ids, labels)
    return {"accuracy": accuracy, "f1": f1_score(prediction.label_ids, labels, average="macro")}


def main(argv: Sequence[str] | None = None) -> None:
    """Tokenise and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="of model/, train.csv and validation.csv")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--max-steps", type=int, default=-1, help="default: one epoch")
    parser.add_argument("--logging-steps", type=int, default=1)
    parser.add_argument("--pad-to-max-length", action="store_true", help="as most tutorials do")
    options = parser.parse_args(argv)
    arguments = TrainingArguments(
        output_dir="/tmp/output",
        use_cpu=True,
        num_train_epochs=1,
        max_steps=options.max_steps,
        per_device_train_batch_size=8,
        logging_steps=options.logging_steps,
        save_strategy="no",
        train_sampling_strategy="random" if options.pad_to_max_length else "group_by_length",
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(f"{options.folder}/model")
    files = {split: f"{options.folder}/{split}.csv" for split in ("train", "validation")}
    data = load_dataset("csv", data_files=files)
    names = sorted(set(data["train"]["stars"]))
    padding = "max_length" if options.pad_to_max_length else False

    def tokenize(rows: dict[str, list[str]]) -> dict[str, list[object]]:
        encoded = tokenizer(rows["review"], truncation=True, max_length=options.max_length, padding=padding)
        return {**encoded, "label": [names.index(name) for name in rows["stars"]]}

    with arguments.main_process_first():
        data = data.map(tokenize, batched=True, remove_columns=["review", "stars"])
    model = AutoModelForSequenceClassification.from_pretrained(f"{options.folder}/model", num_labels=len(names))
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=default_data_collator if options.pad_to_max_length else DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
    )
    trainer.train()


if __name__ == "__main__":
    main()
