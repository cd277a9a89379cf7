"""The start of an attempt: the objects that it needs, and the end of the attempts before it."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import ConditionType, Phase
from finetune_operator.plan.conditions import Fact, Facts
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import Step, blocked, creates, stamp, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Action, Delete, Manifest, PlanSettings, Ref, Suspend


def planned(round: Round, attempt: int) -> tuple[Manifest, ...]:
    """Make all objects that an attempt needs."""
    first, checkpoint = round.status.budget.first_attempt, round.status.checkpoint
    step = checkpoint.step if checkpoint is not None else None
    key = (planned, attempt, first, step)
    return round.observed.cache.get(key, lambda: _planned(round.job, round.settings, attempt, first, step))


def _planned(
    job: FineTuneJob, settings: PlanSettings, attempt: int, first_attempt: int, checkpoint: int | None
) -> tuple[Manifest, ...]:
    beside = (manifests.claim(job), manifests.config_map(job, settings), manifests.service(job))
    gang = manifests.train_job(job, settings, attempt, first_attempt, checkpoint)
    return (*(manifest for manifest in beside if manifest is not None), gang)


def start(round: Round, attempt: int, facts: Facts) -> Step:
    """Create an attempt. The one before is stopped and keeps its logs; older ones go once they are accounted for."""
    needed, status = planned(round, attempt), round.status
    if (waiting := blocked(round, needed)) is not None:
        return waiting
    if attempt > 1 and not round.observed.listed:
        return wants_list(round)
    first = attempt == status.budget.first_attempt
    started = round.with_fields(
        phase=Phase.STARTING if first or status.phase is not Phase.RESTARTING else Phase.RESTARTING,
        attempt=attempt,
        attempt_started=stamp(round.now),
        attempt_begun=None,
        attempt_ended=None,
        resumed_from=None,
    )
    fact = Fact(False, "Starting", starting_text(attempt, round.job.spec.nodes, 0))
    return Step(
        from_training.with_nodes(started.status, round.attempt(attempt), round.now),
        facts={**facts, ConditionType.RUNNING: fact},
        actions=(*creates(round, needed), *retire(round, attempt)),
        requeue_after_seconds=round.settings.pod_diagnosis_seconds,
    )


def retire(round: Round, current: int) -> tuple[Action, ...]:
    """Stop the attempt before, remove older ones once a written status accounts for them. Each step does so until it is done."""
    actions: list[Action] = []
    accounted = round.written.budget.settled_attempt
    for job in round.owned.jobs:
        if job.role != "train" or job.number >= current or job.deleting:
            continue
        if job.number < current - 1 and job.number <= accounted:
            actions.append(Delete(Ref("Job", job.name), job.uid))
        elif job.active:
            actions.append(Suspend(job.name))
    return tuple(actions)


def starting_text(attempt: int, nodes: int, ready: int) -> str:
    return f"attempt {attempt}: {ready} of {nodes} pod{'s' * (nodes > 1)} started"
