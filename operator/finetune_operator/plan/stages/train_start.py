"""What an attempt needs to start, and what becomes of those before it."""

from __future__ import annotations

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact, Facts
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.gang import training_gang
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.stages.step import Step, blocked, creates, stamp, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Action, Delete, Manifest, Observed, Ref, Suspend


def planned(observed: Observed, attempt: int, status: FineTuneJobStatus) -> tuple[Manifest, ...]:
    """Everything that an attempt needs. Each look at a gang that has not begun asks for it, twice."""
    step = status.checkpoint.step if status.checkpoint is not None else None
    key = (planned, attempt, status.budget.first_attempt, step)
    kept: tuple[Manifest, ...] | None = observed.memo.get(key)
    if kept is None:
        kept = observed.memo[key] = _planned(observed, attempt, status.budget.first_attempt, step)
    return kept


def _planned(observed: Observed, attempt: int, first_attempt: int, checkpoint: int | None) -> tuple[Manifest, ...]:
    job, settings = observed.job, observed.settings
    made = (manifests.claim(job), manifests.config_map(job, settings), manifests.service(job))
    gang = manifests.train_job(job, settings, attempt, first_attempt, checkpoint)
    return (*(manifest for manifest in made if manifest is not None), gang)


def start(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, attempt: int, facts: Facts) -> Step:
    """Create an attempt. The one before is stopped and keeps its logs; older ones go once they are accounted for."""
    manifests = planned(observed, attempt, status)
    if (waiting := blocked(observed, status, manifests)) is not None:
        return waiting
    if attempt > 1 and not observed.listed:
        return wants_list(observed)
    first = attempt == status.budget.first_attempt
    begun = status.model_copy(
        update={
            "phase": Phase.STARTING if first or status.phase is not Phase.RESTARTING else Phase.RESTARTING,
            "attempt": attempt,
            "attempt_started": stamp(observed.now),
            "attempt_begun": None,
            "attempt_ended": None,
            "resumed_from": None,
        }
    )
    fresh = training_gang(observed, members, attempt)
    fact = Fact(False, "Starting", starting_text(attempt, observed.job.spec.nodes, 0))
    return Step(
        from_training.with_nodes(begun, fresh, observed.now),
        facts={**facts, ConditionType.RUNNING: fact},
        actions=(*creates(observed, manifests), *retire(observed, members, attempt)),
        requeue_after_seconds=observed.settings.pod_diagnosis_seconds,
    )


def retire(observed: Observed, members: OwnedObjects, current: int) -> tuple[Action, ...]:
    """Stop the attempt before, remove older ones once a written status accounts for them. Repeated until it is so."""
    actions: list[Action] = []
    settled = observed.job.status.budget.settled_attempt
    for job in members.jobs:
        if job.role != "train" or job.number >= current or job.deleting:
            continue
        if job.number < current - 1 and job.number <= settled:
            actions.append(Delete(Ref("Job", job.name), job.uid))
        elif job.active:
            actions.append(Suspend(job.name))
    return tuple(actions)


def starting_text(attempt: int, nodes: int, ready: int) -> str:
    return f"attempt {attempt}: {ready} of {nodes} pod{'s' * (nodes > 1)} started"
