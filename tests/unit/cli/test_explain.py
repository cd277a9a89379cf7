"""`finetune explain`: from files to the decision that the operator would take, in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.resource import API_VERSION, KIND
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.explain import snapshot
from finetune_operator.cli.explain.explain import decided, explain
from finetune_operator.plan.decide import decide
from finetune_operator.plan.types import Manifest, Ref
from tests.support.simulated import SETTINGS, World, begun, trained
from tests.support.simulated_cluster import stamp

CLAIM = Ref("PersistentVolumeClaim", "shared")
Capture = pytest.CaptureFixture[str]


def job_of(world: World) -> Manifest:
    """Return the FineTuneJob as `kubectl get -o json` gives it."""
    metadata = world.job().metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": world.spec, "status": world.status}


def children_of(world: World) -> list[Manifest]:
    return [item for uid, item in world.objects.items() if uid not in world.gone]


def file_of(folder: Path, *documents: Manifest, name: str = "job.yaml") -> str:
    path = folder / name
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    return str(path)


def files_of(world: World, folder: Path, *more: Manifest) -> str:
    """Write one file with all that a world holds."""
    return file_of(folder, job_of(world), *children_of(world), *world.cluster.values(), *more)


def report(world: World, folder: Path, capsys: Capture, *more: Manifest) -> dict[str, list[str]]:
    """Return the sections of the report, by title."""
    assert explain([files_of(world, folder, *more)], None, stamp(world.now)) is ExitCode.SUCCEEDED
    title, *sections = capsys.readouterr().out.strip().split("\n\n")
    parts = {section.splitlines()[0]: [line.strip() for line in section.splitlines()[1:]] for section in sections}
    return {"title": [title], **parts}


def deleted_pod() -> World:
    world = begun()
    world.now += timedelta(seconds=20)
    world.ask_to_end(world.pod(1, 1))
    return world


def crashed() -> World:
    world = begun()
    world.crash(1)
    return world


def prepares() -> World:
    world = World(spec={**trained().spec})
    world.wake()
    return world


STATES: dict[str, Callable[[], World]] = {
    "new": World,
    "trains": begun,
    "a pod was deleted": deleted_pod,
    "crashed": crashed,
    "prepares": prepares,
    "publishes": trained,
}


FUNCTION = re.compile(r"^(  (?:decide|stages)[.]\S+) +\S.*$", re.MULTILINE)
"""A line about a function of the plan, with its sentence."""
REPORT = """\
FineTuneJob team/reviews: Running, attempt 1. What the operator decides at 2026-03-01T12:00:25Z:

What is there
  Job reviews-train-1 (attempt 1): active, made 25 s ago
    Pod reviews-train-1-0-x4 (node 0): Running on machine-0
    Pod reviews-train-1-1-x5 (node 1): Running on machine-1, told to end 5 s ago

Why
  Job reviews-train-1 has fallen: PodDeleted (cause: preemption; not certain yet: more evidence may come): the pod of node 1 was deleted
  Running=False, Starting: attempt 2: 0 of 2 pods started

How it comes to that, in finetune_operator/plan
  (Jobs and pods are listed for it first: what comes next can't be undone)
  decide._advance
  decide._training
  stages.train.train
  stages.train_failed.fallen
  stages.train_start.start

What the operator does
  creates Job reviews-train-2
  suspends Job reviews-train-1: pods of it that still run are asked to end

Events that it posts
  Normal AttemptStarted: attempt 2 was created on 2 nodes

What changes in the status
  phase: Running -> Restarting
  conditions[Running]: True Training attempt 1 trains on 2 nodes -> False attempt 2: 0 of 2 pods started
  conditions[Reconciling]: False as asked for -> True attempt 2: 0 of 2 pods started
  attempt: 1 -> 2
  attemptStarted: 2026-03-01T12:00:00Z -> 2026-03-01T12:00:25Z
  attemptBegun: 2026-03-01T12:00:00Z -> (nothing)
  budget.furthestStep: 0 -> 10
  nodes.ready: 2 -> 0
  summary.nodes: 2/2 -> 0/2

When it looks next
  in 3.0 s, or earlier when the job, one of its Jobs or a pod changes
"""


def test_explain_deleted_pod_whole_report(tmp_path: Path, capsys: Capture) -> None:
    assert explain([files_of(deleted_pod(), tmp_path)], None, "2026-03-01T12:00:25Z") is ExitCode.SUCCEEDED
    assert FUNCTION.sub(r"\1", capsys.readouterr().out) == REPORT


def test_explain_docs_show_a_true_report() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md").read_text()
    shown = page.partition("A pod of two was deleted:\n\n")[2].partition("\nThe report has more")[0]
    lines = [line.removeprefix("    ") for line in shown.splitlines()]
    assert len(lines) > 8
    assert [line for line in lines if line not in REPORT.splitlines()] == []


@pytest.mark.parametrize("state", STATES)
def test_explain_decides_as_the_operator(state: str, tmp_path: Path) -> None:
    world = STATES[state]()
    explained = decided(snapshot.read([files_of(world, tmp_path)], None), world.now, SETTINGS)

    world.progress, world.known = None, {ref: world.cluster.get(ref) for ref in explained.references}
    assert explained.decision == decide(world.observed(listed=explained.observed.listed))


@pytest.mark.parametrize("state", STATES)
def test_explain_tells_what_each_function_does(state: str, tmp_path: Path, capsys: Capture) -> None:
    way = report(STATES[state](), tmp_path, capsys)["How it comes to that, in finetune_operator/plan"]
    assert all(len(line.split()) > 3 for line in way), "a function without a docstring"
    assert any(line.startswith(("stages.", "decide.")) for line in way)


def test_explain_manifest_before_apply(tmp_path: Path, capsys: Capture) -> None:
    world = World()
    job = job_of(world)
    path = file_of(tmp_path, {**job, "metadata": {"name": "reviews"}, "status": {}})
    explain([path], None, None)
    output = capsys.readouterr().out
    assert output.startswith("FineTuneJob default/reviews: not seen by an operator yet")
    assert "PersistentVolumeClaim shared: in no file, so it is taken not to exist" in output
    assert "Validated=False, ClaimNotFound" in output


def test_explain_further_files(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    job = file_of(tmp_path, job_of(world))
    children = file_of(tmp_path, *children_of(world), name="children.yaml")
    explain([job, children], None, stamp(world.now))
    assert "Pod reviews-train-1-0-x4 (node 0): Running on machine-0" in capsys.readouterr().out


def test_explain_without_children_says_so(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    explain([file_of(tmp_path, job_of(world))], None, stamp(world.now))
    assert "Note: The files hold none of its Jobs and pods: they are taken for deleted." in capsys.readouterr().out


def test_explain_pods_without_jobs_says_so(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    pods = [item for item in children_of(world) if item["kind"] == "Pod"]
    explain([file_of(tmp_path, job_of(world), *pods)], None, stamp(world.now))
    assert "Note: The files hold 2 of its pods, but no Job" in capsys.readouterr().out


def test_explain_events_tell_why_a_pod_waits(tmp_path: Path, capsys: Capture) -> None:
    world = prepares()
    world.now += timedelta(seconds=10)
    pod = world.pod(1, 0, "prepare")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "reviews.1"},
        "involvedObject": {"kind": "Pod", "uid": pod["metadata"]["uid"]},
        "type": "Warning",
        "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "hf" : secret "hf" not found',
    }
    why = report(world, tmp_path, capsys, event)["Why"]
    assert why[0].startswith("Prepared=False, SecretNotFound: spec.hub.tokenSecretRef: there is no Secret 'hf'")


def test_explain_lost_machine(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    world.lose_machine("machine-1")
    world.now += timedelta(seconds=90)
    assert world.nodes is not None
    machine = {**world.nodes["machine-1"], "kind": "Node"}
    parts = report(world, tmp_path, capsys, machine)
    assert "Node machine-1: there" in parts["What is there"]
    assert "has fallen: NodeLost (cause: node" in parts["Why"][0]


def test_explain_machines_in_no_file(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    world.lose_machine("machine-1")
    assert report(world, tmp_path, capsys)["What is there"][-1].startswith("nodes: in no file")


def test_explain_job_being_deleted(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    job = job_of(world)
    job["metadata"]["deletionTimestamp"] = stamp(world.now)
    explain([file_of(tmp_path, job, *children_of(world))], None, stamp(world.now))
    assert "the job is being deleted: garbage collection removes its children" in capsys.readouterr().out


def test_explain_spec_that_is_not_understood(tmp_path: Path, capsys: Capture) -> None:
    world = begun()
    job = job_of(world)
    job["spec"] = {**world.spec, "nodes": "two"}
    explain([file_of(tmp_path, job)], None, stamp(world.now))
    output = capsys.readouterr().out
    assert "this version does not understand the spec" in output
    assert "-> False SpecInvalid This operator does not understand the job: spec.nodes:" in output


def test_explain_settings_of_the_operator(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_POD_DIAGNOSIS_SECONDS", "7")
    world = World()
    assert report(world, tmp_path, capsys)["When it looks next"][0].startswith("in 7.0 s")


def test_explain_chooses_by_name(tmp_path: Path, capsys: Capture) -> None:
    world, other = World(), job_of(World())
    other["metadata"] = {**other["metadata"], "name": "other"}
    path = files_of(world, tmp_path, other)
    explain([path], "team/other", stamp(world.now))
    assert capsys.readouterr().out.startswith("FineTuneJob team/other: ")
    with pytest.raises(CommandError, match=r"choose one with --name \(there are team/other, team/reviews\)"):
        explain([path], None, None)
    with pytest.raises(CommandError, match="--name third is the name of none of its FineTuneJobs"):
        explain([path], "third", None)


def without_uid(kind: str) -> Callable[[World], list[Manifest]]:
    def documents(world: World) -> list[Manifest]:
        children = json.loads(json.dumps(children_of(world)))
        for item in children:
            if item["kind"] == kind:
                del item["metadata"]["uid"]
        return [job_of(world), *children]

    return documents


def changed(field: str, value: Any) -> Callable[[World], list[Manifest]]:
    """Make a job that was never applied, with one field of its spec changed."""
    return lambda world: [{**job_of(world), "metadata": {"name": "x"}, "spec": {**world.spec, field: value}}]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (lambda world: children_of(world), "holds no FineTuneJob"),
        (without_uid("Pod"), "Pod reviews-train-1-0-x4 has no metadata.uid: take it from the cluster"),
        (without_uid("Job"), "Job reviews-train-1 has no metadata.uid: take it from the cluster"),
        (lambda world: [job_of(world), {"kind": "Pod"}], "a Pod has no metadata.name"),
        (lambda world: [job_of(world), {**world.cluster[CLAIM], "spec": "Gi"}], "shared: spec is no object"),
        (changed("nodes", 0), "spec.nodes: Invalid value: 0"),
        (changed("misspelt", 1), "spec.misspelt"),
    ],
    ids=[
        "no job",
        "pod without uid",
        "Job without uid",
        "object without name",
        "bad object",
        "bad value",
        "unknown field",
    ],
)
def test_explain_refuses_bad_input(documents: Callable[[World], list[Manifest]], message: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, *documents(begun()))
    with pytest.raises(CommandError) as refused:
        explain([path], None, None)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("status", {"phase": "Asleep"}, "status.phase: Input should be 'Pending', "),
        ("status", {"conditions": [1]}, "status.conditions.0: "),
        ("metadata", {"name": "reviews", "uid": "1"}, "metadata.creationTimestamp: Field required"),
    ],
)
def test_explain_refuses_what_no_cluster_holds(part: str, value: Manifest, message: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        explain([file_of(tmp_path, {**job_of(begun()), part: value})], None, None)
    assert str(refused.value).startswith(message)
    assert "take the job from the cluster" in str(refused.value)


def test_explain_refuses_bad_time(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--at noon: write a time as"):
        explain([files_of(World(), tmp_path)], None, "noon")


def test_explain_refuses_bad_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_POD_DIAGNOSIS_SECONDS", "soon")
    with pytest.raises(CommandError, match=r"FINETUNE_OPERATOR_\.\.\. is wrong: pod_diagnosis_seconds"):
        explain([files_of(World(), tmp_path)], None, None)


def test_explain_reads_standard_input_and_imports_nothing_slow(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from finetune_operator.cli.explain.explain import explain\n"
        "explain(['-'], None, None)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'kubernetes', 'kopf', 'aiohttp'} & sys.modules.keys()))"
    )
    world = begun()
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input=Path(files_of(world, tmp_path)).read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("FineTuneJob team/reviews: Running")
    assert ended.stdout.endswith("\n[]\n")
