"""Fine-tunes a text classifier with Accelerate: the loop is written for one process and runs on any number.

    accelerate launch accelerate_loop.py --model_name_or_path MODEL --train_file train.csv --validation_file validation.csv

The whole state is saved to `output_dir/step_N` every so many steps, the model in the end to `output_dir/final`. With
--resume_from_checkpoint output/step_40 training goes on from there, to the same result as without the interruption.
"""

import argparse
import os
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from datasets import load_dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_scheduler,
)

try:
    from finetune_trainer import report  # shows progress in the status of a FineTuneJob, does nothing elsewhere
except ImportError:

    def report(**progress):
        pass


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--validation_file", required=True)
    parser.add_argument("--text_column", default="review")
    parser.add_argument("--label_column", default="stars")
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--num_train_epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of one step, on all processes together")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--num_warmup_steps", type=int, default=50)
    parser.add_argument("--checkpointing_steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output_dir", type=Path, default=Path(os.environ.get("OUTPUT_DIR", "output")))
    parser.add_argument("--resume_from_checkpoint", default=os.environ.get("RESUME_FROM_CHECKPOINT"))
    return parser.parse_args()


def tokenized(args, accelerator, tokenizer):
    """Return the rows of both files as tokens and numbers of labels, and the labels."""
    files = {"train": args.train_file, "validation": args.validation_file}
    with accelerator.main_process_first():  # which writes to the cache what the others read
        data = load_dataset("csv", data_files=files)
        labels = sorted(data["train"].unique(args.label_column))

        def tokenize(rows):
            tokens = tokenizer(rows[args.text_column], truncation=True, max_length=args.max_length)
            return {**tokens, "labels": [labels.index(label) for label in rows[args.label_column]]}

        data = data.map(tokenize, batched=True, remove_columns=data["train"].column_names)
    return data, labels


def main():
    args = parse_arguments()
    accelerator = Accelerator(
        dataloader_config=DataLoaderConfiguration(
            split_batches=True,  # the batch size below is that of all processes together
            use_seedable_sampler=True,  # an epoch's order follows from the seed and its number
            data_seed=args.seed,
        )
    )
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
    data, labels = tokenized(args, accelerator, tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(
        args.model_name_or_path,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    collate = DataCollatorWithPadding(tokenizer)
    batches = DataLoader(
        data["train"],
        shuffle=True,
        batch_size=args.batch_size,
        collate_fn=collate,
        generator=torch.Generator(),  # otherwise each epoch takes a number from the generator that dropout uses
    )
    held_out = DataLoader(data["validation"], batch_size=64, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    total = args.num_train_epochs * len(batches)
    scheduler = get_scheduler("linear", optimizer, args.num_warmup_steps, total)
    model, optimizer, batches, held_out, scheduler = accelerator.prepare(model, optimizer, batches, held_out, scheduler)
    set_seed(args.seed, device_specific=True)  # each process drops out other neurons

    def evaluate():
        """Return the accuracy on all rows: gather_for_metrics leaves out those that fill up the last batch."""
        right, rows = 0, 0
        model.eval()
        for batch in held_out:
            with torch.no_grad():
                guesses = model(**batch).logits.argmax(dim=-1)
            guesses, truth = accelerator.gather_for_metrics((guesses, batch["labels"]))
            right += (guesses == truth).sum().item()
            rows += len(truth)
        model.train()
        return right / rows

    step = 0
    if args.resume_from_checkpoint:
        accelerator.load_state(args.resume_from_checkpoint)
        step = int(Path(args.resume_from_checkpoint).name.removeprefix("step_"))
    progress = tqdm(total=total, initial=step, disable=not accelerator.is_local_main_process)
    model.train()
    for epoch in range(step // len(batches), args.num_train_epochs):
        batches.set_epoch(epoch)
        for batch in accelerator.skip_first_batches(batches, step - epoch * len(batches)):
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            progress.update()
            if step % 10 == 0 or step == total:
                report(step=step, total=total, epoch=step / len(batches), loss=loss.item())
            if step % args.checkpointing_steps == 0:
                accelerator.save_state(args.output_dir / f"step_{step}")
        accuracy = evaluate()
        report(step=step, total=total, epoch=epoch + 1, metrics={"accuracy": accuracy})
        accelerator.print(f"epoch {epoch + 1}: accuracy {accuracy:.4f}")
    progress.close()

    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model).save_pretrained(
        args.output_dir / "final", is_main_process=accelerator.is_main_process, save_function=accelerator.save
    )
    if accelerator.is_main_process:
        tokenizer.save_pretrained(args.output_dir / "final")
    accelerator.end_training()


if __name__ == "__main__":
    main()
