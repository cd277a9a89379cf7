"""Texts with several labels, numbers or tagged words that a tiny model learns in a few steps, and runs that train on them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import DatasetSource, ModelSource, Preprocessing, TaskConfig
from tests.support.tiny import BAD, GOOD, NEUTRAL, Row

DISHES = ("soup", "bread")
FILLER = tuple(word for word in NEUTRAL if word not in DISHES)
LENGTHS = (2, 3, 5, 8)
TAGS = ("O", "B-DISH", "I-DISH", "B-PRAISE")
OPINIONS = {"complaint": BAD[:1], "hungry": DISHES[:1], "praise": GOOD[:1]}
"""Label -> words that ask for it."""


def opinions(count: int, *, seed: int = 0) -> list[Row]:
    """Return texts with none to three labels: `{"review": text, "about": [labels]}`."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        labels = [label for label in OPINIONS if source.random() < 0.4]
        words = source.choices(FILLER, k=source.choice((1, 2, 3)))
        for label, triggers in OPINIONS.items():  # so that the length of a text tells nothing
            words += source.choices(triggers if label in labels else FILLER, k=2)
        source.shuffle(words)
        rows.append({"review": " ".join(words), "about": labels})
    return rows


def ratings(count: int, *, seed: int = 0) -> list[Row]:
    """Return texts whose number is that of their good words less that of their bad ones: `{"review": text, "score": number}`."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        words = source.choices(FILLER, k=source.choice(LENGTHS))
        opinion = source.choices((1, -1), k=source.randrange(4))
        for sign in opinion:
            words.insert(source.randrange(len(words) + 1), source.choice(GOOD if sign > 0 else BAD))
        rows.append({"review": " ".join(words), "score": float(sum(opinion))})
    return rows


def tagged(count: int, *, seed: int = 0, ids: bool = False) -> list[Row]:
    """Return words with tags for dishes (of one or two words) and praise: `{"tokens": [words], "ner_tags": [tags]}`."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        words: list[str] = []
        tags: list[str] = []
        for _ in range(source.choice(LENGTHS)):
            match source.randrange(6):
                case 0:
                    dish = DISHES[: source.choice((1, 2))]
                    words += dish
                    tags += ["B-DISH", "I-DISH"][: len(dish)]
                case 1:
                    words.append(source.choice(GOOD))
                    tags.append("B-PRAISE")
            # Two entities never touch. A name of letters becomes several tokens.
            words.append(source.choice((*FILLER, "bob", "eve")))
            tags.append("O")
        rows.append({"tokens": words, "ner_tags": [TAGS.index(tag) for tag in tags] if ids else tags})
    return rows


def config(
    folder: Path,
    *,
    task: str,
    model: Path,
    files: Mapping[str, Path],
    columns: Mapping[str, str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    processes: int = 1,
    **fields: Any,
) -> TaskConfig:
    """Return a run on local files, by the role of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    source = {"files": {role: (str(path),) for role, path in files.items()}, "columns": dict(columns or {})}
    return TaskConfig.model_validate(
        {
            "namespace": "default",
            "job": "labels",
            "uid": "33333333-cccc",
            "task": task,
            "model": ModelSource(name=str(model)),
            "dataset": DatasetSource.model_validate(source),
            "preprocessing": Preprocessing.model_validate(dict(preprocessing or {})),
            "nodes": 1,
            "processes_per_node": processes,
            "accelerators": False,
            "output": str(folder),
            "prepare": "inline",
            **fields,
        }
    )
