"""Fine-tunes a text classifier with a training loop of its own: DataLoader, AdamW, DistributedDataParallel.

    python native_loop.py --model MODEL --train_file train.csv --validation_file validation.csv
    torchrun --nproc-per-node 2 native_loop.py ...      # the same result from two processes

Everything is written to OUTPUT_DIR ("output" by default): checkpoints every so many steps, and the model in `final`. With
RESUME_FROM_CHECKPOINT=output/checkpoints/step_40 training goes on from there, to the same result as without the interruption.
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import load_dataset
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.utils.data import DataLoader, DistributedSampler, Subset
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

try:
    from finetune_trainer import report  # shows progress in the status of a FineTuneJob, does nothing elsewhere
except ImportError:

    def report(**progress):
        pass


OUTPUT = Path(os.environ.get("OUTPUT_DIR", "output"))
CHECKPOINTS = Path(os.environ.get("CHECKPOINT_DIR", OUTPUT / "checkpoints"))
RESUME = os.environ.get("RESUME_FROM_CHECKPOINT")
STATE = "training_state.pt"
KEPT_CHECKPOINTS = 2


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--validation_file", required=True)
    parser.add_argument("--text_column", default="review")
    parser.add_argument("--label_column", default="stars")
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16, help="rows of one step, on all processes together")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--warmup_steps", type=int, default=50)
    parser.add_argument("--save_steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def join_the_others():
    """Join the process group that torchrun's variables describe, or one of this process alone; return its device."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    device = torch.device("cpu")
    if backend == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return device


def random_states():
    """Return the state of the random number generators of every process, in the order of their ranks."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    states = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def save_checkpoint(step, model, optimizer, scheduler):
    """Write a checkpoint under another name and rename it, so that one with its own name is always whole."""
    random = random_states()
    if dist.get_rank() == 0:
        folder = CHECKPOINTS / f"step_{step}"
        partial = CHECKPOINTS / f"partial_{step}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        parts = {"model": model.module, "optimizer": optimizer, "scheduler": scheduler}
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**state, "step": step, "random": random}, partial / STATE)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        by_step = sorted(CHECKPOINTS.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
        for old in by_step[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)
    dist.barrier()


def load_checkpoint(folder, model, optimizer, scheduler):
    """Bring everything to where it was when the checkpoint was written; return its step."""
    state = torch.load(Path(folder) / STATE, map_location="cpu")
    model.module.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    random = state["random"][dist.get_rank()]
    torch.set_rng_state(random["cpu"])
    if "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"])
    return state["step"]


@torch.no_grad()
def accuracy(model, batches, device):
    """Return the share of rows that all processes together get right, each on rows of its own."""
    counts = torch.zeros(2, dtype=torch.float64, device=device)
    model.eval()
    for batch in batches:
        batch = batch.to(device)
        guesses = model(**batch).logits.argmax(dim=-1)
        counts += torch.tensor([(guesses == batch["labels"]).sum(), len(guesses)], device=device)
    model.train()
    dist.all_reduce(counts)
    right, rows = counts.tolist()
    return right / rows


def main():
    args = parse_arguments()
    device = join_the_others()
    rank, world_size = dist.get_rank(), dist.get_world_size()

    files = {"train": args.train_file, "validation": args.validation_file}
    data = load_dataset("csv", data_files=files)
    labels = sorted(set(data["train"][args.label_column]))
    ids = {label: number for number, label in enumerate(labels)}
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def collate(rows):
        texts = [row[args.text_column] for row in rows]
        batch = tokenizer(texts, truncation=True, max_length=args.max_length, padding=True, return_tensors="pt")
        batch["labels"] = torch.tensor([ids[row[args.label_column]] for row in rows])
        return batch

    # Each process takes every n-th row: to evaluate without a sampler, which fills up with rows that are there already.
    sampler = DistributedSampler(data["train"], shuffle=True, seed=args.seed)
    of_process = args.batch_size // world_size
    batches = DataLoader(
        data["train"],
        batch_size=of_process,
        sampler=sampler,
        collate_fn=collate,
        generator=torch.Generator(),  # otherwise each epoch takes a number from the generator that dropout uses
    )
    held_out = Subset(data["validation"], range(rank, len(data["validation"]), world_size))
    held_out_batches = DataLoader(held_out, batch_size=64, collate_fn=collate)

    torch.manual_seed(args.seed)  # new layers begin alike everywhere
    model = AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=len(labels), id2label=dict(enumerate(labels)), label2id=ids
    )
    torch.manual_seed(args.seed + rank)  # dropout does not
    model = DistributedDataParallel(model.to(device))
    optimizer = AdamW(model.parameters(), lr=args.learning_rate)
    total = args.epochs * len(batches)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=args.warmup_steps, num_training_steps=total)

    step = load_checkpoint(RESUME, model, optimizer, scheduler) if RESUME else 0
    progress = tqdm(total=total, initial=step, disable=rank != 0)
    model.train()
    for epoch in range(step // len(batches), args.epochs):
        sampler.set_epoch(epoch)
        for number, batch in enumerate(batches, start=epoch * len(batches) + 1):
            if number <= step:  # was learnt before the interruption
                continue
            loss = model(**batch.to(device)).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step = number
            progress.update()
            if step % 10 == 0 or step == total:
                report(step=step, total=total, epoch=step / len(batches), loss=loss.item())
            if step % args.save_steps == 0:
                save_checkpoint(step, model, optimizer, scheduler)
        right = accuracy(model.module, held_out_batches, device)
        report(step=step, total=total, epoch=epoch + 1, metrics={"accuracy": right})
        if rank == 0:
            progress.write(f"epoch {epoch + 1}: accuracy {right:.4f}")
    progress.close()

    if rank == 0:
        model.module.save_pretrained(OUTPUT / "final")
        tokenizer.save_pretrained(OUTPUT / "final")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
