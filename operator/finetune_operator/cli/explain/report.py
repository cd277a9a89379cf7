"""The report of an explained decision in plain lines, for people who know pods and Jobs and have never read this code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.cli.explain.snapshot import Snapshot
from finetune_operator.cli.explain.trail import Call
from finetune_operator.cli.terminal import one_line
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import WAITS_FOR
from finetune_operator.plan.decide import to_json
from finetune_operator.plan.observed.diagnosis import diagnose
from finetune_operator.plan.observed.gang import Gang, single_gang, training_gang
from finetune_operator.plan.observed.objects import JobView, OwnedObjects, PodView, owned_objects
from finetune_operator.plan.resolutions import with_way_out
from finetune_operator.plan.types import Action, Create, Decision, Delete, Manifest, Observed, Ref, Suspend

NOTHING = "(nothing)"
VALUE_MAX = 300
"""Characters of a value of the status that are shown."""
NEWS_ONLY_IF_TRUE = ("Complete", "Failed", "Stalled")
"""Conditions that are False from the start of a job: only True is news."""
EMPTY = ("0", "[]")
"""Values that say no more than a missing field."""


def lines(
    files: Snapshot, observed: Observed, decision: Decision, calls: Sequence[Call], references: Sequence[Ref]
) -> Iterator[str]:
    """Yield the whole report."""
    yield _title(files.body, observed.now)
    for hint in files.hints():
        yield from ("", f"Note: {hint}")
    yield from _section("What is there", _objects(files, observed, references))
    yield from _section("Why", _why(observed, decision))
    yield from _section("How it comes to that, in finetune_operator/plan", _functions(observed, calls))
    yield from _section("What the operator does", _actions(decision))
    yield from _section("Events that it posts", _events(decision))
    yield from _section("What changes in the status", changes(to_json(observed.job.status), decision.status))
    yield from _section("When it looks next", _next(observed, decision))


def unreadable(body: Manifest, status: Manifest, now: datetime) -> Iterator[str]:
    """Yield the report of a job whose spec this version does not understand."""
    yield _title(body, now)
    why = "this version does not understand the spec, so it makes and changes nothing"
    yield from _section("Why", [why])
    yield from _section("What changes in the status", changes(body.get("status") or {}, status))
    yield from _section("When it looks next", ["when the job is edited"])


def _section(title: str, content: Iterable[str]) -> Iterator[str]:
    yield from ("", title)
    yield from (f"  {line}" for line in content)


def _title(body: Manifest, now: datetime) -> str:
    metadata, status = body["metadata"], body.get("status") or {}
    phase = status.get("phase") or "not seen by an operator yet"
    attempt = f", attempt {status['attempt']}" if status.get("attempt") else ""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"FineTuneJob {metadata['namespace']}/{metadata['name']}: {phase}{attempt}. What the operator decides at {moment}:"


def _objects(files: Snapshot, observed: Observed, references: Sequence[Ref]) -> Iterator[str]:
    """Yield the job's own Jobs with their pods, and the objects that were looked up."""
    owned = owned_objects(observed)
    for job in sorted(owned.jobs, key=lambda job: (job.created, job.number)):
        gang = _gang(observed, owned, job)
        yield f"Job {job.name} ({_number(job)}): {_job_state(job)}, made {_age(job.created, observed.now)}"
        for pod in sorted(gang.pods, key=lambda pod: (pod.index, pod.created)):
            yield f"  Pod {pod.name} ({pod.who}): {_pod_state(pod, observed.now)}"
        if job != _newest(owned):
            yield from (f"  {text}" for text in _end(gang))
    if not owned.jobs:
        yield "no Job of it"
    for ref in references:
        if ref.kind == "Node":
            yield f"Node {ref.name}: {'there' if ref in files.others else 'in no file, so it is taken to be gone'}"
        else:
            item = files.find(ref)
            yield f"{ref.kind} {ref.name}: {_reference_state(item)}"
    if observed.nodes is None and any(pod.running and pod.ready is False for pod in owned.pods):
        yield "nodes: in no file, so a lost one is not known (kubectl get nodes -o yaml)"


def _newest(owned: OwnedObjects) -> JobView | None:
    return max(owned.jobs, key=lambda job: (job.created, job.number), default=None)


def _gang(observed: Observed, owned: OwnedObjects, job: JobView) -> Gang:
    if job.role == "train":
        return training_gang(observed, owned, job.number)
    return single_gang(observed, owned, job.role, job.number)


def _number(job: JobView) -> str:
    return f"attempt {job.number}" if job.role == "train" else f"{job.role} Job {job.number}"


def _job_state(job: JobView) -> str:
    states = {
        "being deleted": job.deleting,
        "complete": job.complete,
        "failed": job.failed,
        "suspended": job.suspended,
    }
    return next((text for text, holds in states.items() if holds), "active")


def _pod_state(pod: PodView, now: datetime) -> str:
    """Return the phase of a pod, the state of its container, and its troubles."""
    parts = [pod.phase + (f" on {pod.node}" if pod.node else "")]
    container = pod.trainer
    if container is not None and container.waiting_reason:
        parts.append(f"waits: {container.waiting_reason}")
    if container is not None and container.exit_code is not None:
        parts.append(f"ended with exit code {container.exit_code}")
    if pod.record is not None:
        failure = pod.record.failure
        parts.append(f"record: {pod.record.outcome.value}" + (f", {failure.reason}" if failure is not None else ""))
    if pod.unschedulable is not None:
        parts.append("no machine takes it")
    if pod.disruption is not None:
        parts.append(f"disrupted: {pod.disruption}")
    if pod.ready is False and pod.running:
        parts.append("not ready")
    if pod.deleted_at is not None:
        parts.append(f"told to end {_age(pod.deleted_at, now)}")
    return ", ".join(parts)


def _end(gang: Gang) -> Iterator[str]:
    """Yield why a gang has failed, as far as the evidence shows."""
    if not gang.fallen:
        return
    verdict = diagnose(gang)
    diagnosis = verdict.diagnosis
    certain = "certain" if verdict.final else "not certain yet: more evidence may come"
    text = one_line(diagnosis.message, VALUE_MAX)
    yield f"has fallen: {diagnosis.reason} (cause: {diagnosis.cause.value}; {certain}): {text}"


def _reference_state(item: Manifest | None) -> str:
    if item is None:
        return "in no file, so it is taken not to exist"
    phase = (item.get("status") or {}).get("phase")
    return f"there, {phase}" if phase else "there"


def _why(observed: Observed, decision: Decision) -> Iterator[str]:
    """Yield how the newest Job has failed, if it has, and the condition of the next status that shows where the job stands."""
    if observed.job.metadata.deletion_timestamp is not None:
        yield "the job is being deleted: garbage collection removes its children, the operator has nothing to do"
        return
    status = FineTuneJobStatus.model_validate(decision.status)
    kind = _telling_condition(status)
    condition = conditions.find(status, kind)
    if condition is None:
        yield "nothing is known of the job yet: what it needs is looked up or made first"
        return
    owned = owned_objects(observed)
    if (newest := _newest(owned)) is not None:
        yield from (f"Job {newest.name} {text}" for text in _end(_gang(observed, owned, newest)))
    yield f"{kind.value}={condition.status}, {condition.reason}: {one_line(condition.message)}"
    failure = status.failure
    if failure is not None and failure.message not in condition.message:
        yield f"the last failure was {failure.reason}: {one_line(with_way_out(failure.message, failure.resolution))}"


def _telling_condition(status: FineTuneJobStatus) -> ConditionType:
    """Return the condition that says most about a job in this phase."""
    validated = conditions.find(status, ConditionType.VALIDATED)
    ends = {
        Phase.SUCCEEDED: ConditionType.COMPLETE,
        Phase.FAILED: ConditionType.FAILED,
        Phase.RUNNING: ConditionType.RUNNING,
    }
    if status.phase in ends:
        return ends[status.phase]
    if validated is not None and validated.status == "False":
        return ConditionType.VALIDATED
    return WAITS_FOR.get(status.phase, ConditionType.VALIDATED)


def _functions(observed: Observed, calls: Sequence[Call]) -> Iterator[str]:
    """Yield the functions that decided, with what each does."""
    if observed.listed:
        yield "(Jobs and pods are listed for it first: what comes next can't be undone)"
    width = max((len(call.function) for call in calls), default=0)
    shown: dict[str, str] = {call.function: call.sentence for call in calls}
    yield from (f"{function:<{width}}  {sentence}" for function, sentence in shown.items())
    if not calls:
        yield "nothing is decided on a job that is being deleted"


def _actions(decision: Decision) -> Iterator[str]:
    yield from (_action(action) for action in decision.actions)
    if not decision.actions:
        yield NOTHING


def _action(action: Action) -> str:
    match action:
        case Create(manifest):
            ref = Ref.of(manifest)
            return f"creates {ref.kind} {ref.name}"
        case Suspend(name):
            return f"suspends Job {name}: pods of it that still run are asked to end"
        case Delete(ref):
            return f"deletes {ref.kind} {ref.name}"


def _events(decision: Decision) -> Iterator[str]:
    yield from (f"{note.type} {note.reason}: {one_line(note.message)}" for note in decision.events)
    if not decision.events:
        yield NOTHING


def changes(before: Manifest, after: Manifest) -> Iterator[str]:
    """Yield a line for each field that differs."""
    old, new = dict(_fields(before)), dict(_fields(after))
    shown = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    shown = [name for name in shown if name in old or new[name] not in EMPTY]
    yield from (f"{name}: {old.get(name, NOTHING)} -> {new.get(name, NOTHING)}" for name in shown)
    if not shown:
        yield NOTHING


def _fields(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of a status with its path."""
    for name, field in value.items():
        if name == "conditions" and not path:
            yield from (
                (f"conditions[{condition['type']}]", _condition(condition))
                for condition in field
                if condition["type"] not in NEWS_ONLY_IF_TRUE or condition["status"] == "True"
            )
        elif isinstance(field, Mapping):
            yield from _fields(field, f"{path}{name}.")
        else:
            yield f"{path}{name}", one_line(str(field), VALUE_MAX)


def _condition(condition: Mapping[str, Any]) -> str:
    """Return the text of a condition, without a reason that only repeats the phase."""
    reason = condition.get("reason", "")
    parts = (condition["status"], "" if reason in tuple(Phase) else reason, condition.get("message", ""))
    return one_line(" ".join(part for part in parts if part), VALUE_MAX)


def _next(observed: Observed, decision: Decision) -> Iterator[str]:
    """Yield when the operator decides again, and what it reads for that."""
    changed = "the job, one of its Jobs or a pod changes"
    if decision.requeue_after_seconds is None:
        yield f"when {changed}"
    elif not decision.requeue_after_seconds:
        yield "at once"
    else:
        yield f"in {decision.requeue_after_seconds:.1f} s, or earlier when {changed}"
    names = {pod.uid: pod.name for pod in owned_objects(observed).pods}
    reads = [f"{ref.kind} {ref.name}" for ref in decision.wants_references]
    reads += [f"the events of {names.get(uid, 'its Job')}, which no file holds" for uid in decision.wants_events]
    reads += ["/progress of node 0, which no file holds"] if decision.wants_progress else []
    if reads:
        yield f"before that it reads {', '.join(reads)}"


def _age(moment: datetime, now: datetime) -> str:
    seconds = round((now - moment).total_seconds())
    return f"{seconds} s ago" if seconds >= 0 else f"in {-seconds} s"
