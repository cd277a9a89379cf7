"""Questions about reviews, with answers in their texts, which a tiny BERT learns in a minute; and runs that train on them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import DatasetSource, ModelSource, Preprocessing, TaskConfig
from tests.support.tiny import BAD, GOOD, NEUTRAL, Row

QUESTIONS = ("what was the food", "was the service very slow")
FILLER = tuple(word for word in NEUTRAL if word != "very")
NO_ANSWER_SHARE = 0.25


def questions(
    count: int, *, seed: int = 0, unanswerable: bool = True, words: tuple[int, ...] = (4, 9, 40)
) -> list[Row]:
    """Return rows as SQuAD has them. The answer is the judgement in a context, of one word or two; some contexts have none."""
    random_source = random.Random(seed)
    rows = []
    for number in range(count):
        parts = random_source.choices(FILLER, k=random_source.choice(words))
        answer = " ".join([*["very"] * random_source.randrange(2), random_source.choice(GOOD + BAD)])
        answered = not unanswerable or random_source.random() > NO_ANSWER_SHARE
        if answered:
            parts.insert(random_source.randrange(len(parts) + 1), answer)
        context = " ".join(parts)
        answers = at(answer, context) if answered else {"text": [], "answer_start": []}
        question = random_source.choice(QUESTIONS)
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
    return rows


def at(answer: str, context: str) -> dict[str, list[Any]]:
    """Return one answer with its position."""
    return {"text": [answer], "answer_start": [context.index(answer)]}


def config(
    folder: Path,
    *,
    model: Path,
    files: Mapping[str, Path],
    arguments: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    processes: int = 1,
    **fields: Any,
) -> TaskConfig:
    """Return a run that answers questions, with windows of 32 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    return TaskConfig(
        namespace="default",
        job="questions",
        uid="22222222-bbbb",
        task="question-answering",
        model=ModelSource(name=str(model)),
        dataset=DatasetSource(files={role: (str(path),) for role, path in files.items()}, columns=dict(columns or {})),
        preprocessing=fields.pop("preprocessing", Preprocessing(max_length=32, stride=8)),
        training_arguments=dict(arguments or {}),
        nodes=1,
        processes_per_node=processes,
        accelerators=False,
        output=str(folder),
        prepare="inline",
        **fields,
    )
