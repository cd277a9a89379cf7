"""Fine-tunes a text classifier with TensorFlow and Keras: compile, fit, callbacks.

    python keras_classify.py --model MODEL --train_file train.csv --validation_file validation.csv

Where TF_CONFIG names several workers, each of them runs this and they train together. Everything is written to OUTPUT_DIR ("output" by
default): the model to `final`, and after each epoch what a next call goes on from to `backup`.

Needs an environment of its own: `pip install --no-deps -r requirements-tensorflow.txt`.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # the models of transformers are those of Keras 2

import tensorflow as tf
from datasets import load_dataset
from transformers import AutoTokenizer, DataCollatorWithPadding, TFAutoModelForSequenceClassification

try:
    from finetune_trainer import report  # shows progress in the status of a FineTuneJob, does nothing elsewhere
except ImportError:

    def report(**progress):
        pass


OUTPUT = Path(os.environ.get("OUTPUT_DIR", "output"))
WORKERS = json.loads(os.environ.get("TF_CONFIG", "{}"))


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--validation_file", required=True)
    parser.add_argument("--text_column", default="review")
    parser.add_argument("--label_column", default="stars")
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of one step, on all workers together")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class Progress(tf.keras.callbacks.Callback):
    """Reports each tenth step, and the accuracy after each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params["steps"]
        step, total = self.epoch * steps + batch + 1, self.params["epochs"] * steps
        if step % 10 == 0 or step == total:
            report(step=step, total=total, epoch=step / steps, loss=float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        steps = self.params["steps"]
        metrics = {"loss": float(logs["val_loss"]), "accuracy": float(logs["val_accuracy"])}
        report(step=(epoch + 1) * steps, total=self.params["epochs"] * steps, epoch=epoch + 1, metrics=metrics)
        print(f"epoch {epoch + 1}: accuracy {metrics['accuracy']:.4f}", flush=True)


def for_workers(dataset):
    """Return batches that workers divide by rows: the default, to divide by files, finds none."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def main():
    args = parse_arguments()
    # Before anything else of TensorFlow: the workers wait for each other here.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if WORKERS else tf.distribute.get_strategy()
    is_chief = not WORKERS or WORKERS["task"]["index"] == 0
    tf.keras.utils.set_random_seed(args.seed)  # the same everywhere: workers shuffle alike, and take different rows

    data = load_dataset("csv", data_files={"train": args.train_file, "validation": args.validation_file})
    labels = sorted(data["train"].unique(args.label_column))
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def tokenize(rows):
        tokens = tokenizer(rows[args.text_column], truncation=True, max_length=args.max_length)
        return {**tokens, "labels": [labels.index(label) for label in rows[args.label_column]]}

    data = data.map(tokenize, batched=True, remove_columns=data["train"].column_names)
    with strategy.scope():
        model = TFAutoModelForSequenceClassification.from_pretrained(
            args.model,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        model.compile(optimizer=tf.keras.optimizers.Adam(args.learning_rate), metrics=["accuracy"])
    # Two ways to the same: the model knows what it takes, or the columns are named.
    batches = model.prepare_tf_dataset(data["train"], args.batch_size, shuffle=True, tokenizer=tokenizer)
    held_out = data["validation"].to_tf_dataset(
        columns=[name for name in data["validation"].column_names if name != "labels"],
        label_cols="labels",
        batch_size=64,
        collate_fn=DataCollatorWithPadding(tokenizer, return_tensors="np"),
    )
    model.fit(
        for_workers(batches),
        validation_data=for_workers(held_out),
        epochs=args.epochs,
        callbacks=[tf.keras.callbacks.BackupAndRestore(str(OUTPUT / "backup")), Progress()],
        verbose=2 if is_chief else 0,
    )
    if is_chief:
        model.save_pretrained(OUTPUT / "final")
        tokenizer.save_pretrained(OUTPUT / "final")


if __name__ == "__main__":
    main()
