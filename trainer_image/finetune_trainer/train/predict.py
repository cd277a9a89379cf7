"""The test split: evaluated and predicted by all ranks together, once the weights to keep are known.

The predictions of all rows go into a file beside the model, before it is sealed. They hold the user's data, so they are never
uploaded. The task decides which rows, which text and which metrics.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.training_report import PREDICTIONS_FILE
from finetune_trainer.data.prepared_dataset import PreparedDataset
from finetune_trainer.data.sampler import by_length
from finetune_trainer.shared import startup
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.launch_client import LaunchError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.task import Evaluated, Task, Training
from finetune_trainer.train.strict_json import as_json
from finetune_trainer.train.trainer import RankTrainer
from finetune_trainer.train.volume_trouble import until_written

T = TypeVar("T")
TEST = "test"
PROBLEM_CHARACTERS = 300
TEST_PREFIX = "test_"
"""Beginning of the names of the test split's metrics, where they stand beside those of the validation split."""


@dataclass(frozen=True)
class Tested:
    """Result of the test split."""

    metrics: dict[str, float] | None = None
    """Metrics under their own names; None where there is no test split."""

    def beside(self, evaluation: dict[str, float] | None) -> dict[str, float] | None:
        """Return the last evaluation's metrics and these together."""
        if self.metrics is None:
            return evaluation
        return {**(evaluation or {}), **{f"{TEST_PREFIX}{name}": value for name, value in self.metrics.items()}}


@dataclass
class Judge:
    """The metrics and details of predictions: of the validation split, which the Trainer has gathered, and of the test split."""

    task: Task
    run: Training
    rows: PreparedDataset | None
    """Rows of the validation split, in the order of the evaluation."""
    share: Callable[[Callable[[], Any]], Any] = field(default=lambda make: make())
    """Computes a value on rank 0 alone, and gives it to all ranks: else each would take cores and memory for the same scores."""
    tell: Callable[[str], Any] = field(default=lambda message: None)
    """Called with messages for the user."""
    over: bool = field(default=False, init=False)
    """Whether training is over: from then on a model is kept without scores that can't be computed."""
    _newest: Evaluated | None = field(default=None, init=False)

    def __call__(self, outcome: Any) -> dict[str, float]:
        """Compute metrics, as the Trainer's `compute_metrics`."""
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
        """Return the task's details of the newest evaluation."""
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
        trainer.compute_metrics = None  # these metrics are for the validation split
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

    def _if_over(self, name: str, make: Callable[[], T], otherwise: T) -> T:
        return kept_without(name, make, otherwise, self.tell) if self.over else make()


def kept_without(name: str, make: Callable[[], T], otherwise: T, tell: Callable[[str], Any]) -> T:
    """Return what is made of a trained model, or `otherwise` and a message where that fails: the model must not be lost for it.

    An error of the volume, or of a `launch` that is gone, still ends the attempt.
    """
    try:
        return make()
    except Exception as error:
        if isinstance(error, ExpectedError | LaunchError | OSError):
            raise
        traceback.print_exc()
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:PROBLEM_CHARACTERS]
        tell(f"The {name} could not be made ({problem}): the model is kept without them.")
        return otherwise


def examples(prepared: PreparedTask, role: str) -> pa.Table | None:
    """Return the rows of a split as they were before they became tokens, where they were kept."""
    path = to_local(prepared.data) / f"{role}.examples.arrow"
    if not path.is_file():
        return None
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def write(path: Path, predictions: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line. Where the predictions fail before their end, no file is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w", encoding="utf-8") as file:
            for row in predictions:
                file.write(json.dumps(as_json(row), ensure_ascii=False, allow_nan=False) + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
