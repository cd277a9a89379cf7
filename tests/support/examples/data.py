"""Small data with the columns, types, splits and configurations of the datasets that the examples name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.tiny import reviews, write_rows
from tests.support.tiny_gpt2 import stories
from tests.support.tiny_llama import pairs

Rows = list[dict[str, Any]]
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
STARS = ("1 star", "2 star", "3 stars", "4 stars", "5 stars")


def texts(count: int, seed: int = 0) -> list[str]:
    return [row["review"] for row in reviews(count, seed=seed)]


def _write(folder: Path, config: str, splits: dict[str, Rows], features: Any = None) -> None:
    """Write Parquet files, and the card that says which of them are which split."""
    from datasets import Dataset

    for split, rows in splits.items():
        path = folder / config / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=features).to_parquet(str(path))
    files = "".join(f"  - {{split: {split}, path: {config}/{split}-*}}\n" for split in splits)
    card = f"---\nconfigs:\n- config_name: '{config}'\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(card)


def yelp(folder: Path) -> None:
    from datasets import ClassLabel, Features, Value

    def rows(count: int, seed: int) -> Rows:
        numbered = enumerate(texts(count, seed))
        return [{"label": number % 5, "text": text} for number, text in numbered]

    features = Features({"label": ClassLabel(names=list(STARS)), "text": Value("string")})
    _write(folder, "yelp_review_full", {"train": rows(40, 0), "test": rows(20, 1)}, features)


def cnn_dailymail(folder: Path) -> None:
    def rows(count: int, seed: int) -> Rows:
        sentences = texts(count, seed)
        return [
            {"article": text, "highlights": text.split(" and ")[0], "id": str(at)} for at, text in enumerate(sentences)
        ]

    splits = {"train": rows(200, 0), "validation": rows(10, 1), "test": rows(10, 2)}
    _write(folder, "3.0.0", splits)


def conll2003(folder: Path) -> None:
    from datasets import ClassLabel, Features, List, Value

    def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
        for number, text in enumerate(texts(count, seed)):
            words = text.split()
            tags = [TAGS.index("B-PER") if word == "waiter" else 0 for word in words]
            other = [0] * len(words)
            yield {"id": str(number), "tokens": words, "pos_tags": other, "chunk_tags": other, "ner_tags": tags}

    features = Features(
        {
            "id": Value("string"),
            "tokens": List(Value("string")),
            "pos_tags": List(Value("int64")),
            "chunk_tags": List(Value("int64")),
            "ner_tags": List(ClassLabel(names=list(TAGS))),
        }
    )
    counts = {"train": (40, 0), "validation": (20, 1), "test": (20, 2)}
    _write(folder, "conll2003", {split: list(rows(*arguments)) for split, arguments in counts.items()}, features)


def squad(folder: Path) -> None:
    def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
        for number, context in enumerate(texts(count, seed)):
            answer = context.split()[number % 3]
            answers = {"text": [answer], "answer_start": [context.index(answer)]}
            asked = {"id": str(number), "title": "Reviews", "question": "which word ?", "context": context}
            yield {**asked, "answers": answers}

    _write(folder, "plain_text", {"train": list(rows(40, 0)), "validation": list(rows(20, 1))})


def opus_books(folder: Path) -> None:
    sentences = texts(200)
    rows = [{"id": str(at), "translation": {"en": text, "fr": f"le {text}"}} for at, text in enumerate(sentences)]
    _write(folder, "en-fr", {"train": rows})


def no_robots(folder: Path) -> None:
    def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
        for number, pair in enumerate(pairs(count, seed=seed)):
            turns = [("system", "You know the tale."), ("user", pair["prompt"]), ("assistant", pair["completion"])]
            messages = [{"content": content, "role": role} for role, content in turns]
            yield {"prompt": pair["prompt"], "prompt_id": str(number), "messages": messages, "category": "Chat"}

    _write(folder, "default", {"train": list(rows(40, 0)), "test": list(rows(20, 1))})


def wikitext(folder: Path) -> None:
    """Make rows, half of them empty, as in the real data."""

    def rows(count: int, seed: int) -> Rows:
        return [row for story in stories(count, seed=seed) for row in ({"text": ""}, {"text": f" {story['text']} \n"})]

    _write(folder, "wikitext-2-raw-v1", {"train": rows(300, 0), "validation": rows(80, 1), "test": rows(80, 2)})


def imdb(folder: Path) -> None:
    def rows(count: int, seed: int) -> Rows:
        return [{"text": text, "label": -1 if seed == 2 else at % 2} for at, text in enumerate(texts(count, seed))]

    _write(folder, "plain_text", {"train": rows(30, 0), "test": rows(20, 1), "unsupervised": rows(30, 2)})


DATASETS: dict[str, Callable[[Path], None]] = {
    "Yelp/yelp_review_full": yelp,
    "abisee/cnn_dailymail": cnn_dailymail,
    "eriktks/conll2003": conll2003,
    "rajpurkar/squad": squad,
    "Helsinki-NLP/opus_books": opus_books,
    "HuggingFaceH4/no_robots": no_robots,
    "Salesforce/wikitext": wikitext,
    "stanfordnlp/imdb": imdb,
}


def reports(folder: Path) -> None:
    """Write the files of the claim `reports`: several csv files, json lines, one of them compressed."""
    import gzip

    def rows(count: int, seed: int, *names: str) -> Rows:
        return [dict(zip(names, (text, text.split(" and ")[0]), strict=True)) for text in texts(count, seed)]

    for part in range(2):
        write_rows(folder / f"reports-{part}.csv", rows(20, part, "report", "abstract"))
    write_rows(folder / "held-out.csv", rows(10, 2, "report", "abstract"))
    lines = write_rows(folder / "lines.jsonl", rows(30, 3, "text", "summary"))
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    write_rows(folder / "validation.jsonl", rows(10, 4, "text", "summary"))
