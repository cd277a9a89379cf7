"""Events: the changes from the old status to the new one, in sentences for `kubectl describe`.

Nothing but the two statuses decides, so no restart posts an event twice, and each transition that is written is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finetune_operator.api.deprecated import translate
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.observed.pending_pods import ADVICE
from finetune_operator.plan.resolutions import ClusterReason, with_way_out
from finetune_operator.plan.types import EventNote

MESSAGE_MAX = 1024
"""Characters of an event's message: the API server takes no longer one."""
ROOM = MESSAGE_MAX - 64
"""Characters for a message and its way out; the others name the attempt."""


def transitions(job: FineTuneJob, old: FineTuneJobStatus, new: FineTuneJobStatus) -> tuple[EventNote, ...]:
    """List the events of everything that a reader of the job's history should know of the change."""
    if old == new:
        return ()
    notes = (
        *_serving(old, new),
        *_validation(job, old, new),
        *_preparing(old, new),
        *_training(old, new),
        *_publishing(job, old, new),
        *_end(old, new),
    )
    return tuple(replace(note, message=note.message[:MESSAGE_MAX]) for note in notes)


def _serving(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    if old.operator and new.operator != old.operator:
        text = f"the operator {new.operator or 'without a lease'} serves the job now, in place of {old.operator}"
        yield EventNote("Normal", "TakenOver", text)


def _validation(job: FineTuneJob, old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    before, after = conditions.find(old, ConditionType.VALIDATED), conditions.find(new, ConditionType.VALIDATED)
    if old.phase is Phase.FAILED and new.phase is not Phase.FAILED:
        yield EventNote("Normal", "Retried", "the failed job starts again")
    if after is None or (before is not None and (before.status, before.reason) == (after.status, after.reason)):
        return
    if after.status == "False" and new.phase is not Phase.FAILED:
        yield EventNote("Warning", after.reason, after.message)
    if after.status != "True":
        return
    if before is not None and before.status == "False":
        yield EventNote("Normal", "Validated", after.message)
    _, deprecated = translate(job.spec.training_arguments)
    if deprecated:
        yield EventNote("Warning", "DeprecatedArgument", " ".join(deprecated))


def _preparing(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    if old.prepare_attempt and new.prepare_attempt and new.prepare_attempt > old.prepare_attempt:
        why = f": {new.failure.message} ({new.failure.reason})" if new.failure and new.attempt is None else ""
        yield EventNote(
            "Warning", "PreparingAgain", f"prepare Job {new.prepare_attempt} replaces {old.prepare_attempt}{why}"
        )
    before, after = conditions.find(old, ConditionType.PREPARED), conditions.find(new, ConditionType.PREPARED)
    if after is None:
        return
    if after.status == "True" and new.prepare_attempt and not conditions.holds(old, ConditionType.PREPARED):
        yield EventNote("Normal", "Prepared", after.message)
    if after.reason in ADVICE and (before is None or before.reason != after.reason):
        yield EventNote("Warning", after.reason, after.message, minor=True)


def _training(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    if new.restarts != old.restarts and new.failure is not None:
        failure = new.failure
        why = with_way_out(failure.message, failure.resolution, ROOM)
        text = f"attempt {failure.attempt} ended ({failure.reason}): {why}"
        yield EventNote("Warning", "Restarting", text, once=True)
    if new.failure is not None and new.failure != old.failure and new.failure.reason == ClusterReason.START_DEADLINE:
        yield EventNote("Warning", new.failure.reason, new.failure.message)
    if new.attempt is not None and new.attempt != old.attempt and new.phase is not Phase.FAILED:
        nodes = new.nodes.desired if new.nodes else 1
        text = f"attempt {new.attempt} was created on {nodes} node{'s' * (nodes > 1)}"
        yield EventNote("Normal", "AttemptStarted", text, once=True)
    if new.attempt_begun is not None and (new.attempt, new.attempt_begun) != (old.attempt, old.attempt_begun):
        yield _begun(new)
    lost = conditions.find(new, ConditionType.CHECKPOINT_LOST)
    if lost is not None and lost.status == "True" and lost != conditions.find(old, ConditionType.CHECKPOINT_LOST):
        yield EventNote("Warning", ConditionType.CHECKPOINT_LOST, lost.message, once=True)
    before, after = conditions.find(old, ConditionType.RUNNING), conditions.find(new, ConditionType.RUNNING)
    if after is not None and after.reason in ADVICE and (before is None or before.reason != after.reason):
        yield EventNote("Warning", after.reason, after.message, minor=True)
    for message in new.messages:
        if message not in old.messages:
            yield EventNote("Warning", "Notice", message, minor=True)


def _begun(new: FineTuneJobStatus) -> EventNote:
    if new.resumed_from is None:
        return EventNote("Normal", "Training", f"attempt {new.attempt} has begun", once=True)
    where = f"step {new.resumed_from.step} ({new.resumed_from.path})"
    return EventNote("Normal", "Resumed", f"attempt {new.attempt} has begun and goes on from {where}", once=True)


def _publishing(job: FineTuneJob, old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    if new.model is None or job.spec.publish is None:
        return
    where = f"claim {new.model.claim_name} at {new.model.path}"
    if new.phase is Phase.PUBLISHING and old.phase is not Phase.PUBLISHING:
        text = f"training is over, the model is on {where} and goes to {job.spec.publish.repo_id}"
        yield EventNote("Normal", "Publishing", text)
    if old.publish_attempt and new.publish_attempt and new.publish_attempt > old.publish_attempt:
        why = f": {new.failure.message} ({new.failure.reason})" if new.failure else ""
        text = f"publish Job {new.publish_attempt} replaces {old.publish_attempt}{why}"
        yield EventNote("Warning" if why else "Normal", "PublishingAgain", text)
    before, after = conditions.find(old, ConditionType.PUBLISHED), conditions.find(new, ConditionType.PUBLISHED)
    if after is None:
        return
    if after.status == "True" and not conditions.holds(old, ConditionType.PUBLISHED):
        yield EventNote("Normal", "Published", after.message)
    if after.reason in ADVICE and (before is None or before.reason != after.reason):
        yield EventNote("Warning", after.reason, after.message, minor=True)
    if new.phase is Phase.FAILED and old.phase is not Phase.FAILED and new.failure is not None:
        yield EventNote("Warning", "PublishFailed", f"{new.failure.reason}; the model stays on {where}")


def _end(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterator[EventNote]:
    if new.phase == old.phase:
        return
    if new.phase is Phase.SUCCEEDED:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in (new.evaluation or {}).items())
        where = (
            f"the model is on claim {new.model.claim_name} at {new.model.path}" if new.model else "the model is there"
        )
        if new.model is not None and new.model.hub is not None:
            where += f" and at {new.model.hub.url}"
        yield EventNote("Normal", "Succeeded", f"{where}; {scores}" if scores else where)
    if new.phase is Phase.FAILED:
        failed = conditions.find(new, ConditionType.FAILED)
        if failed is not None:
            failure = new.failure
            text = with_way_out(failure.message, failure.resolution, ROOM) if failure else failed.message
            yield EventNote("Warning", failed.reason, text)
