"""Every metric that is exported is fed and documented: something in the package sets it, and a rank tells what it is made of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from finetune_operator.api.status import Phase
from finetune_operator.controller.metrics import OperatorMetrics
from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.launch.attempt_metrics import AttemptMetrics

ROOT = Path(__file__).parents[2]
OPERATOR, TRAINER = ROOT / "operator/finetune_operator", ROOT / "trainer_image/finetune_trainer"
MODULES = (OPERATOR / "controller/metrics.py", TRAINER / "launch/attempt_metrics.py")
CONSTRUCTORS = {"Gauge", "Counter", "Histogram", "gauge"}
SETTERS = {"set", "inc", "observe", "time", "set_function"}


def trees(folder: Path) -> Iterator[ast.AST]:
    for path in sorted(folder.rglob("*.py")):
        yield ast.parse(path.read_text())


def root_of(chain: ast.expr) -> str | None:
    """`leader` of `metrics.leader`, and of `metrics.leader.labels("a")`; the constructor of `Gauge(...)`."""
    match chain:
        case ast.Call(func=ast.Attribute(attr="labels", value=metric)):
            return root_of(metric)
        case ast.Call(func=ast.Name(id=name)) | ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return None


def names_that_are_set(folder: Path) -> set[str | None]:
    nodes = (node for tree in trees(folder) for node in ast.walk(tree))
    return {root_of(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr in SETTERS}


def names_of_metrics(module: Path) -> list[str]:
    """Return the variable or attribute that each metric is assigned to."""
    assigned = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Assign)]
    made = [(node.targets[0], node.value) for node in assigned if isinstance(node.value, ast.Call)]
    return [name for target, value in made if root_of(value) in CONSTRUCTORS and (name := root_of(target))]


def fields_that_ranks_tell() -> set[str]:
    calls = [node for tree in trees(TRAINER / "train") for node in ast.walk(tree) if isinstance(node, ast.Call)]
    telling = [call for call in calls if root_of(call.func) in {"tell", "RankProgress"}]
    return {keyword.arg for call in telling for keyword in call.keywords if keyword.arg}


def names_that_a_report_sets() -> set[str]:
    """Return the metrics that a report of rank 0 changes, found by trying: the code names no metric that it sets."""
    report = RankProgress(
        step=1,
        total_steps=1,
        loss=1,
        learning_rate=1,
        grad_norm=1,
        loss_scale=1,
        tokens_total=1,
        samples_total=1,
        step_seconds=(1,),
        evaluation={"accuracy": 1},
    )
    metrics = AttemptMetrics()
    before = {name: samples(metrics, name) for name in vars(metrics)}
    metrics.absorb(report, now=1)
    return {name for name, values in before.items() if values != samples(metrics, name)}


def samples(metrics: AttemptMetrics, name: str) -> list[object]:
    metric = getattr(metrics, name)
    families = metric.collect() if isinstance(metric, Gauge | Counter | Histogram) else ()
    return [(sample.labels, sample.value) for family in families for sample in family.samples]


@pytest.mark.parametrize("module", MODULES, ids=["operator", "launch"])
def test_metrics_each_is_set(module: Path) -> None:
    names = names_of_metrics(module)
    assert len(names) > 5
    of_operator = module.is_relative_to(OPERATOR)
    fed = (
        names_that_are_set(OPERATOR) if of_operator else names_that_are_set(module.parent) | names_that_a_report_sets()
    )
    assert [name for name in names if name not in fed] == []


def test_rank_progress_each_field_is_told() -> None:
    assert set(RankProgress.model_fields) - {"messages"} - fields_that_ranks_tell() == set()


def documented(who: str, prefix: str) -> set[str]:
    """Return the names, with their labels, that docs/install.md lists after `who`: the first in full, the others without `prefix`."""
    listed = (ROOT / "docs/install.md").read_text().split(f"\n{who}: `{prefix}")[1].split("\n\n")[0]
    return set(re.findall(r"_(\w+)(?:\{\w+\})?`", listed))


def exported(registry: CollectorRegistry, prefix: str) -> set[str]:
    families = [family for family in registry.collect() if family.name.startswith(f"{prefix}_")]
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families]
    return {name.removeprefix(f"{prefix}_") for name in names}


def test_metrics_each_is_documented() -> None:
    operator = OperatorMetrics(lambda: 0, lambda: (), lambda: 0)
    assert documented("Operator", "finetune_operator") == exported(operator.registry, "finetune_operator")
    assert documented("Training pods", "finetune") == exported(AttemptMetrics().registry, "finetune")


def test_metrics_of_jobs_that_ended_count_their_end_alone() -> None:
    metrics = OperatorMetrics(lambda: 0, lambda: ["Failed", "Succeeded", "Failed"], lambda: 0)
    phases = {
        sample.labels["phase"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "finetune_operator_jobs"
    }
    assert {phase: count for phase, count in phases.items() if count} == {"Failed": 2, "Succeeded": 1}
    assert phases.keys() == {phase.value for phase in Phase}
