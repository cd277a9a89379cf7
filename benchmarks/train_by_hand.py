"""What a data scientist would write in place of a FineTuneJob: the baseline of `first_step`, run by plain torchrun.

The same model, data, arguments and metrics as the FineTuneJob that it is compared with.
"""

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
)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro F1."""
    labels = np.argmax(prediction.predictions, axis=-1)
    accuracy = accuracy_score(prediction.label_ids, labels)
    return {"accuracy": accuracy, "f1": f1_score(prediction.label_ids, labels, average="macro")}


def main() -> None:
    """Tokenise and train."""
    arguments = TrainingArguments(
        output_dir="/tmp/output",
        use_cpu=True,
        max_steps=20,
        per_device_train_batch_size=8,
        logging_steps=1,
        save_strategy="no",
        train_sampling_strategy="group_by_length",
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained("/data/model")
    data = load_dataset("csv", data_files={"train": "/data/train.csv", "validation": "/data/validation.csv"})
    names = sorted(set(data["train"]["stars"]))

    def tokenize(rows: dict[str, list[str]]) -> dict[str, list[object]]:
        encoded = tokenizer(rows["review"], truncation=True, max_length=64)
        return {**encoded, "label": [names.index(name) for name in rows["stars"]]}

    with arguments.main_process_first():
        data = data.map(tokenize, batched=True, remove_columns=["review", "stars"])
    model = AutoModelForSequenceClassification.from_pretrained("/data/model", num_labels=len(names))
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
    )
    trainer.train()


if __name__ == "__main__":
    main()
