"""The test split, once the weights that are kept are known: evaluated and predicted by all ranks together.

What is predicted of each row goes into a file beside the model, before it is sealed. It holds the user's data: it is
never uploaded. Which rows, which text, which metrics is the task's to say.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.training_report import PREDICTIONS_FILE
from finetune_trainer.data.dataset import PreparedDataset
from finetune_trainer.data.sampler import by_length
from finetune_trainer.shared import startup
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.base import Evaluated, Task, Training
from finetune_trainer.train.launch_client import LaunchError
from finetune_trainer.train.strict_json import as_json
from finetune_trainer.train.trainer import RankTrainer
from finetune_trainer.train.volume_trouble import until_written

T = TypeVar("T")
TEST = "test"
PROBLEM_CHARACTERS = 300
TEST_PREFIX = "test_"
"""What the metrics of the test split begin with where those of the validation split stand beside them."""


@dataclass(frozen=True)
class Tested:
    """What the test split gave."""

    metrics: dict[str, float] | None = None
    """Under their own names; None where there is no test split."""

    def beside(self, evaluation: dict[str, float] | None) -> dict[str, float] | None:
        """The last evaluation's metrics and these, in one."""
        if self.metrics is None:
            return evaluation
        return {**(evaluation or {}), **{f"{TEST_PREFIX}{name}": value for name, value in self.metrics.items()}}


@dataclass
class Judge:
    """Turns what the Trainer gathered of the validation split into metrics."""

    task: Task
    run: Training
    rows: PreparedDataset | None
    """In the order of the evaluation."""
    share: Callable[[Callable[[], Any]], Any] = field(default=lambda make: make())
    """Makes something on rank 0 alone, and gives it to all: to score on every rank takes its cores and memory as often."""
    tell: Callable[[str], Any] = field(default=lambda message: None)
    """Called with what the user should know."""
    over: bool = field(default=False, init=False)
    """Whether training is over: from then on a model is kept without the scores that can't be had."""
    _newest: Evaluated | None = field(default=None, init=False)

    def __call__(self, outcome: Any) -> dict[str, float]:
        """The Trainer's `compute_metrics`."""
        assert self.rows is not None, "there is no evaluation without rows"
        startup.show_packages()
        rows = self.rows

        def scored() -> dict[str, float]:
            self._newest = newest = Evaluated(
                outcome.predictions, outcome.label_ids, rows, examples(self.run.prepared, "validation")
            )
            return self._if_over("metrics of the last evaluation", lambda: self.task.metrics(self.run, newest), {})

        return dict(self.share(scored))

    def details(self) -> dict[str, Any]:
        """What the task tells of the newest evaluation beside its metrics."""
        newest = self._newest
        if newest is None:
            return {}
        details: dict[str, Any] = self._if_over(
            "details of the last evaluation", lambda: as_json(self.task.details(self.run, newest)), {}
        )
        return details

    def test(self, trainer: RankTrainer, folder: Path) -> Tested:
        """Evaluate and predict the test split where there is one; rank 0 writes the predictions into `folder`."""
        file = to_local(self.run.prepared.data) / f"{TEST}.arrow"
        if not file.is_file():
            return Tested()
        rows = PreparedDataset.from_file(file)
        rows = rows.reading(trainer.train_dataset.columns).ordered(by_length(rows.lengths))
        trainer.compute_metrics = None  # it is the validation split's
        outcome = trainer.predict(rows, metric_key_prefix=TEST)
        trainer.compute_metrics = self
        startup.show_packages()

        def tested() -> dict[str, float]:
            evaluated = Evaluated(outcome.predictions, outcome.label_ids, rows, examples(self.run.prepared, TEST))
            file = folder / PREDICTIONS_FILE

            def predicted() -> None:
                until_written(lambda: write(file, self.task.predictions(self.run, evaluated)), folder.parent, self.tell)

            self._if_over("predictions of the test split", predicted, None)
            return self._if_over("metrics of the test split", lambda: self.task.metrics(self.run, evaluated), {})

        return Tested(dict(self.share(tested)))

    def _if_over(self, what: str, make: Callable[[], T], otherwise: T) -> T:
        return kept_without(what, make, otherwise, self.tell) if self.over else make()


def kept_without(what: str, make: Callable[[], T], otherwise: T, tell: Callable[[str], Any]) -> T:
    """What is made of a model that is trained; `otherwise`, and a word, where that fails: nobody loses the model for it.

    A volume that does not take it, or a `launch` that is gone, ends the attempt as ever.
    """
    try:
        return make()
    except Exception as error:
        if isinstance(error, ExpectedError | LaunchError | OSError):
            raise
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:PROBLEM_CHARACTERS]
        tell(f"The {what} could not be made ({problem}): the model is kept without them.")
        return otherwise


def examples(prepared: Prepared, role: str) -> pa.Table | None:
    """The rows of a split as they were before they became tokens, where they were kept."""
    path = to_local(prepared.data) / f"{role}.examples.arrow"
    if not path.is_file():
        return None
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def write(path: Path, predictions: Iterable[dict[str, Any]]) -> None:
    """An object a line. Of predictions that can't be made to their end there is no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w", encoding="utf-8") as file:
            for row in predictions:
                file.write(json.dumps(as_json(row), ensure_ascii=False, allow_nan=False) + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
