"""Whatever a tenant writes into what the operator reads: nothing raises, no other job changes, a status can always be written.

The inputs are metadata of pods and Jobs, status of pods, termination messages, and what `/progress` answers.
"""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_operator.api import crd
from finetune_operator.api.resource import KIND
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.structural import structural_schema
from finetune_operator.api.validation import structure
from finetune_operator.controller.cache import JobCache, JobEntry, Key
from finetune_operator.controller.lookups import _unwatched_foreign
from finetune_operator.controller.progress_reader import address_of, node_0
from finetune_operator.plan.decide import decide
from finetune_operator.plan.observed import bounds
from finetune_operator.plan.types import Decision, Manifest, Observed
from finetune_trainer.contract.records import Progress
from tests.support.simulated import World, begun
from tests.support.simulated_cluster import INDEX, NAMESPACE, UID

SCHEMA = structural_schema(FineTuneJobStatus)
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
nonsense = st.recursive(
    scalars,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=9), some, max_size=3),
    max_leaves=9,
)
"""Values of every kind that JSON has."""
times = st.sampled_from(
    ["", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "2026-03-01T12:00:00", "tomorrow", "2026-03-01T12:00:01Z"]
)
numbers = st.sampled_from(["", "0", "1", "-1", "007", "²", "1e3", "9" * 400, "x"]) | st.text(max_size=5)
texts = st.sampled_from(["x" * 5000, "\x1b[31mred", "a\u202eb", "line\nline", "\ud800", "True", "Failed", "Running"])
owner_references = (
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "kind": st.sampled_from(["Job", KIND, "ReplicaSet"]) | nonsense,
                "name": st.sampled_from(["reviews", "reviews-train-1", "other-train-1"]) | nonsense,
                "uid": st.sampled_from(["", "another", UID]) | nonsense,
                "controller": st.booleans() | nonsense,
            },
        ),
        max_size=3,
    )
    | nonsense
)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(
            st.sampled_from(["finetune.dev/role", "finetune.dev/attempt", INDEX]), numbers | st.just("train")
        ),
        "annotations": st.dictionaries(st.sampled_from([INDEX, "finetune.dev/plan"]), numbers) | nonsense,
        "creationTimestamp": times | nonsense,
        "deletionTimestamp": times | nonsense,
        "deletionGracePeriodSeconds": nonsense,
    },
)
conditions = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "status", "reason", "message", "lastTransitionTime"]),
        st.sampled_from(["Ready", "DisruptionTarget", "PodScheduled", "Complete", "Failed", "True", "False"])
        | times
        | texts
        | nonsense,
    ),
    max_size=4,
)
ends = st.dictionaries(
    st.sampled_from(["exitCode", "reason", "message", "startedAt", "finishedAt"]), nonsense | times | texts
)
containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("trainer") | nonsense},
        optional={
            "state": st.dictionaries(st.sampled_from(["running", "waiting", "terminated"]), ends | nonsense) | nonsense,
            "lastState": st.dictionaries(st.just("terminated"), ends | nonsense) | nonsense,
            "image": nonsense,
            "imageID": texts | nonsense,
            "restartCount": nonsense,
        },
    ),
    max_size=3,
)
statuses = st.dictionaries(
    st.sampled_from(["phase", "reason", "message", "startTime", "podIP", "podIPs"]), texts | times | nonsense
).flatmap(
    lambda some: st.fixed_dictionaries(
        {},
        optional={
            "conditions": conditions | nonsense,
            "containerStatuses": containers | nonsense,
            "initContainerStatuses": containers | nonsense,
        },
    ).map(lambda more: {**some, **more})
)

extreme = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63, 10**30])
figures = extreme | st.floats() | st.integers()
paths = st.sampled_from(["/a", "/" + "x" * 5000, "/\x1b[2Jx", "/a\nb"])
checkpoints = st.fixed_dictionaries(
    {"step": extreme, "path": paths, "time": times}, optional={"attempt": extreme, "verified": st.booleans()}
)
evaluations = st.dictionaries(texts | st.text(max_size=200), st.floats(), max_size=4) | st.just(
    {f"metric {number}": 0.5 for number in range(3000)}
)
shared: dict[str, st.SearchStrategy[Any]] = {
    "step": extreme,
    "checkpoint": checkpoints,
    "modelPath": paths,
    "evaluation": evaluations,
    "resolved": st.dictionaries(st.sampled_from(["modelRevision", "datasetRevision", "precision"]), texts),
    "messages": st.lists(texts | st.text(), max_size=60),
    "prepared": st.fixed_dictionaries(
        {"trainRows": extreme},
        optional={
            "validationRows": extreme,
            "truncatedShare": st.floats(),
            "labels": st.lists(texts, max_size=3),
            "tokenLengths": st.fixed_dictionaries({"median": extreme, "p95": extreme, "longest": extreme}),
        },
    ),
}
records = st.fixed_dictionaries(
    {
        "role": st.just("train"),
        "uid": st.just(UID),
        "attempt": st.just(1),
        "node": st.sampled_from([0, 1]) | extreme,
        "outcome": st.sampled_from(["succeeded", "failed", "stopped", "superseded"]),
        "started": times,
        "finished": times,
    },
    optional={
        **shared,
        "failure": st.fixed_dictionaries(
            {
                "reason": st.sampled_from(["RankFailed", "OutOfMemory", "ColumnNotFound"]),
                "cause": st.sampled_from(["user", "error", "preemption"]),
                "message": texts,
            },
            optional={"node": extreme, "rank": extreme, "exitCode": extreme, "signal": extreme},
        ),
        "hub": st.fixed_dictionaries({"repoId": texts, "url": texts, "commit": texts}),
    },
)
answers = st.fixed_dictionaries(
    {
        "uid": st.just(UID),
        "attempt": st.sampled_from([1, 2]),
        "phase": st.sampled_from(["training", "waiting", "done"]),
    },
    optional={
        **shared,
        "begun": times,
        "updated": times,
        "totalSteps": extreme,
        "epoch": figures,
        "loss": figures,
        "learningRate": figures,
        "samplesPerSecond": figures,
        "etaSeconds": figures,
        "resumedFrom": checkpoints,
        "earlier": st.lists(records, max_size=3),
    },
)


def engine(world: World) -> tuple[JobCache, JobEntry]:
    """Make the cache and the entry of the job, filled with what the watch has shown of a world."""
    store = JobCache()
    body = {**world.job().model_dump(mode="json", by_alias=True, exclude_none=True), "kind": KIND}
    body |= {"spec": world.spec, "status": world.status}
    store.observe(body, deleted=False)
    for item in copy.deepcopy(list(world.objects.values())):
        store.observe(item, deleted=False)
    state = store.get(Key(NAMESPACE, world.name))
    assert state is not None
    return store, state


def decided(world: World, state: JobEntry, progress: Progress | None) -> Decision:
    """Return the next decision about the world's job, and check that its status can be written."""
    observed = Observed(
        job=world.job(),
        now=world.now + timedelta(seconds=7),
        settings=world.settings,
        objects=tuple(state.objects.values()),
        gone=frozenset(state.gone),
        references=world.known,
        nodes={},
        progress=progress,
        listed=True,
    )
    decision = decide(observed)
    status = json.loads(json.dumps(decision.status, allow_nan=False))
    assert not list(structure.problems(SCHEMA, status, "status"))
    assert len(json.dumps(status).encode()) < 256 * 2**10
    assert all(len(note.message) <= 1024 for note in decision.events)
    FineTuneJobStatus.model_validate(status)
    return decision


@pytest.fixture(scope="module")
def world() -> World:
    """A job of two nodes that trains, and whose pods are at work."""
    return begun()


def put_in(item: Manifest, hostile: Manifest) -> Manifest:
    """Return the object with what somebody else wrote into its metadata."""
    kept = {key: item["metadata"][key] for key in ("name", "namespace", "uid")}
    labels = {**(hostile.get("labels") or {}), "finetune.dev/job": "reviews"}
    return {**item, "metadata": {**hostile, **kept, "labels": labels, "resourceVersion": "9"}}


@FEW
@given(
    hostile=metadata, owner=owner_references, status=statuses, kind=st.sampled_from(["Pod", "Job"]), end=st.booleans()
)
def test_a_pod_or_job_with_a_jobs_labels_alone_changes_nothing_of_it(
    world: World, hostile: Manifest, owner: Any, status: Manifest, kind: str, end: bool
) -> None:
    store, state = engine(world)
    before, asked = decided(world, state, world.progress), node_0(state)
    name = "reviews-train-1-0-forged" if kind == "Pod" else "forged"
    item = {"kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "uid": "forged"}, "status": status}
    forged = put_in(item, {**hostile, "ownerReferences": owner})
    for deleted in (False, end):
        store.observe(forged, deleted=deleted)
    state.replace([*state.objects.values(), forged], frozenset(state.objects))
    assert decided(world, state, world.progress) == before
    assert node_0(state) == asked
    assert not _unwatched_foreign(state, world.job())


@FEW
@given(hostile=metadata, status=statuses, node=st.sampled_from([0, 1]), end=st.booleans())
def test_whatever_a_jobs_own_pods_show_is_no_exception(
    world: World, hostile: Manifest, status: Manifest, node: int, end: bool
) -> None:
    store, state = engine(world)
    pod = copy.deepcopy(world.pod(1, node))
    shown = {**put_in(pod, hostile), "status": {**pod["status"], **status}}
    shown["metadata"]["ownerReferences"] = pod["metadata"]["ownerReferences"]
    store.observe(shown, deleted=end)
    decided(world, state, world.progress)
    state.pods_accepted()
    if (asked := node_0(state)) is not None:
        address_of(asked, inside=True)


@FEW
@given(hostile=metadata, some=conditions | nonsense)
def test_whatever_a_jobs_own_job_shows_is_no_exception(world: World, hostile: Manifest, some: Any) -> None:
    store, state = engine(world)
    item = copy.deepcopy(world.find("Job", "reviews-train-1"))
    assert item is not None
    shown = {**put_in(item, hostile), "status": {"conditions": some}}
    shown["metadata"]["ownerReferences"] = item["metadata"]["ownerReferences"]
    store.observe(shown, deleted=False)
    decided(world, state, world.progress)


@FEW
@given(record=records, node=st.sampled_from([0, 1]), code=st.sampled_from([0, 1, 137]))
def test_whatever_a_termination_message_says_the_status_can_be_written(
    world: World, record: Manifest, node: int, code: int
) -> None:
    store, state = engine(world)
    pod = copy.deepcopy(world.pod(1, node))
    ended = {"exitCode": code, "message": json.dumps(record), "finishedAt": "2026-03-01T12:00:01Z"}
    status = {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}]}
    pod["metadata"]["resourceVersion"] = "9"
    store.observe({**pod, "status": status}, deleted=False)
    decided(world, state, world.progress)


@FEW
@given(answer=answers | nonsense)
def test_whatever_progress_answers_the_status_can_be_written(world: World, answer: Any) -> None:
    _, state = engine(world)
    try:
        progress = Progress.model_validate_json(json.dumps(answer))
    except ValidationError:
        return
    taken = bounds.progress(progress, world.job(), world.now)
    assert bounds.progress(taken, world.job(), world.now) == taken
    decided(world, state, taken)


def test_answer_beyond_bounds_is_cut_and_said_once(world: World) -> None:
    """What is beyond the bounds is left out and said once, and the rest is used."""
    progress = Progress.model_validate(
        {
            "uid": UID,
            "attempt": 1,
            "phase": "training",
            "step": 7,
            "total_steps": 10**30,
            "loss": float("inf"),
            "updated": world.now + timedelta(days=400),
            "evaluation": {f"m{number}": 0.5 for number in range(120_000)},
            "messages": ["a note", "x" * 5000],
        }
    )
    taken = bounds.progress(progress, world.job(), world.now)
    assert (taken.step, taken.total_steps, taken.loss, taken.updated) == (7, None, None, None)
    assert taken.evaluation is not None
    assert len(taken.evaluation) == bounds.METRICS_MAX
    assert taken.messages[0] == "a note"
    assert taken.messages[-1] == (
        "node 0 said more than is taken: evaluation, messages, totalSteps, updated; the rest is used"
    )
    _, state = engine(world)
    decision = decided(world, state, taken)
    assert decision.status["messages"] == list(taken.messages)


def test_an_attempt_begins_once_whatever_its_pod_says_later(world: World) -> None:
    _, state = engine(world)
    assert world.progress is not None
    again = world.progress.model_copy(update={"begun": world.now + timedelta(seconds=3), "step": 11})
    decision = decided(world, state, again)
    assert decision.status["attemptBegun"] == world.status["attemptBegun"]
    assert "Training" not in [note.reason for note in decision.events]


def test_the_schema_is_the_one_of_the_definition() -> None:
    assert crd.schema()["properties"]["status"]["properties"] == SCHEMA["properties"]
