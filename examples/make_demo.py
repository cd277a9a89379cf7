"""The data and the model of examples/reviews.yaml: made-up restaurant reviews, and a small BERT that has learnt nothing yet.

    python examples/make_demo.py [FOLDER]

The folder is by default where `finetune run` looks for the claim `reviews-data`. The same script makes the same files
on every machine, and makes them once: a second call finds them and is over at once.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import random
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

DEFAULT_FOLDER = Path(".finetune/claims/reviews-data")
STAMP = "made-by"
ROWS = {"train": 4000, "validation": 800}
SEED = 20
MAX_LENGTH = 64
VOCABULARY = 1200

ASPECTS = {
    "food": ("food", "soup", "pasta", "fish", "bread", "dessert", "curry", "salad", "steak", "breakfast"),
    "service": ("service", "waiter", "staff", "owner", "cook", "barista", "hostess"),
    "place": ("place", "room", "terrace", "music", "view", "table", "garden"),
    "price": ("price", "bill", "menu", "lunch deal", "wine list"),
}
OPINIONS = {
    "food": (("delicious", "fresh", "crisp", "perfectly seasoned"), ("bland", "cold", "stale", "overcooked")),
    "service": (("friendly", "attentive", "quick", "charming"), ("rude", "slow", "careless", "forgetful")),
    "place": (("cosy", "bright", "lovely", "calm"), ("noisy", "dirty", "cramped", "gloomy")),
    "price": (("fair", "reasonable", "generous", "honest"), ("outrageous", "inflated", "absurd", "steep")),
}
PLAIN = ("ordinary", "average", "as expected", "nothing special")
NEGATIONS = ("not", "never", "hardly", "far from")
EMPHASIS = ("", "", "really ", "quite ", "so ")
FILLERS = (
    "we came on a {day} evening with {company}",
    "they are open until {hour}",
    "my {relative} had booked for {hour}",
    "parking was behind the church",
    "we sat near the window and talked for hours",
    "it was my {relative} who chose it",
    "the street is under construction these days",
)
WORDS = {
    "day": ("monday", "tuesday", "friday", "sunday"),
    "company": ("friends", "the children", "colleagues", "my parents"),
    "hour": ("seven", "eight", "ten", "midnight"),
    "relative": ("sister", "uncle", "husband", "daughter", "neighbour"),
}
CLAUSES = (1, 1, 1, 2, 2, 3, 3, 5)
"""Opinions per review: most are short, a few are long."""


def opinion(source: random.Random) -> tuple[str, int]:
    """Return a clause about one aspect, and whether it is good (1), plain (0) or bad (-1) news."""
    aspect = source.choice(tuple(ASPECTS))
    subject = source.choice(ASPECTS[aspect])
    news = source.choices((1, 0, -1), weights=(5, 2, 3))[0]
    if news == 0:
        return f"the {subject} was {source.choice(PLAIN)}", 0
    good, bad = OPINIONS[aspect]
    if source.random() < 0.15:
        opposite = bad if news > 0 else good
        return f"the {subject} was {source.choice(NEGATIONS)} {source.choice(opposite)}", news
    return f"the {subject} was {source.choice(EMPHASIS)}{source.choice(good if news > 0 else bad)}", news


def filler(source: random.Random) -> str:
    text = source.choice(FILLERS)
    return text.format(**{name: source.choice(words) for name, words in WORDS.items()})


def reviews(count: int, source: random.Random) -> Iterator[dict[str, str]]:
    """Yield rows of `review` and `stars`: the sum of a review's opinions decides."""
    for _ in range(count):
        clauses, total = [], 0
        for _ in range(source.choice(CLAUSES)):
            clause, news = opinion(source)
            clauses.append(clause)
            total += news
        for _ in range(source.choice((0, 0, 0, 1, 1, 2))):
            clauses.insert(source.randrange(len(clauses) + 1), filler(source))
        label = "positive" if total > 0 else "negative" if total < 0 else "neutral"
        yield {"review": source.choice((", ", ". ", " and ")).join(clauses), "stars": label}


def write_data(folder: Path) -> list[str]:
    """Write the splits as csv, and return the training texts."""
    source = random.Random(SEED)
    texts: list[str] = []
    for split, count in ROWS.items():
        seen = set(texts)  # no row of the evaluation may be a training row
        unseen = (row for row in reviews(2 * count, source) if row["review"] not in seen)
        rows = list(islice(unseen, count))
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=["review", "stars"])
            writer.writeheader()
            writer.writerows(rows)
        texts += [row["review"] for row in rows] if split == "train" else []
    return texts


def write_model(folder: Path, texts: list[str]) -> int:
    """Save an untrained BERT with a WordPiece tokenizer of the texts' words; return its number of parameters."""
    logging.getLogger("bitsandbytes").setLevel("ERROR")  # transformers imports it, but nothing here uses it
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    words = BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=MAX_LENGTH)
    set_seed(SEED)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=MAX_LENGTH,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # in a claim, the pods' user must be able to read them
    return int(model.num_parameters())


def main(folder: Path) -> None:
    stamp = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if (folder / STAMP).exists() and (folder / STAMP).read_text() == stamp:
        print(f"demo data and model are in {folder} already")
        return
    print(f"making demo data and model in {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parameters = write_model(folder / "model", write_data(folder))
    (folder / STAMP).write_text(stamp)
    print(
        f"{ROWS['train']} reviews to train on, {ROWS['validation']} to evaluate on, a BERT of {parameters:,} parameters"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
