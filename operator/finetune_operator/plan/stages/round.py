"""One round of deciding on a job: every stage is handed one, and hands it on with the next status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Budget, FineTuneJobStatus
from finetune_operator.plan.observed import gang
from finetune_operator.plan.observed.gang import Gang
from finetune_operator.plan.observed.objects import OwnedObjects, owned_objects
from finetune_operator.plan.types import Observed, PlanSettings
from finetune_trainer.contract.records import Progress


@dataclass(frozen=True)
class Round:
    """The observed objects, and the next status as far as it is decided. A stage changes the status alone, in a new round.

    A round of attempts or of publishing, which `spec.retry` begins, is another thing: `status.budget` says where it began.
    """

    observed: Observed
    owned: OwnedObjects
    """The job's own Jobs and pods among the observed objects."""
    status: FineTuneJobStatus
    """The next status."""

    @classmethod
    def of(cls, observed: Observed) -> Round:
        """Make the round in which nothing is decided yet."""
        return cls(observed, owned_objects(observed), observed.job.status)

    @property
    def job(self) -> FineTuneJob:
        return self.observed.job

    @property
    def now(self) -> datetime:
        return self.observed.now

    @property
    def settings(self) -> PlanSettings:
        return self.observed.settings

    @property
    def written(self) -> FineTuneJobStatus:
        """The status that the API server holds."""
        return self.observed.job.status

    def with_status(self, status: FineTuneJobStatus) -> Round:
        """Return the round with another next status."""
        return replace(self, status=status)

    def with_fields(self, **fields: object) -> Round:
        """Return the round with these fields of the status changed."""
        assert fields.keys() <= FineTuneJobStatus.model_fields.keys(), fields
        return self.with_status(self.status.model_copy(update=fields))

    def with_budget(self, **fields: object) -> Round:
        """Return the round with these fields of the status's budget changed."""
        assert fields.keys() <= Budget.model_fields.keys(), fields
        return self.with_fields(budget=self.status.budget.model_copy(update=fields))

    def attempt(self, number: int) -> Gang:
        """Make the gang of a training attempt."""
        return gang.training_gang(self.observed, self.owned, number)

    def progress(self, attempt: int) -> Progress | None:
        """Return what node 0 says, if it is of this attempt."""
        return gang.progress_of(self.observed, attempt)
