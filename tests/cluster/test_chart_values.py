"""The chart's values: a wrong one is refused by its name, a good one is described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from finetune_operator.plan.template_policy import Capability
from tests.support import helm
from tests.support.api import Manifest

SCHEMA = json.loads((helm.CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((helm.CHART / "values.yaml").read_text())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imge": {}}, "additional properties 'imge' not allowed"),
        ({"image": {"tagg": "1"}}, "at '/image': additional properties 'tagg' not allowed"),
        ({"jobs": {"podTemplate": {"spec": {"nodeSelectr": {}}}}}, "additional properties 'nodeSelectr' not allowed"),
        ({"jobs": {"podTemplate": {"spec": {"restartPolicy": "Never"}}}}, "'restartPolicy' not allowed"),
        ({"jobs": {"podTemplate": {"spec": {"containers": [{"name": "sidecar"}]}}}}, "value must be 'trainer'"),
        ({"jobs": {"templateAllows": ["hostpath"]}}, "at '/jobs/templateAllows/0': value must be one of 'hostPath'"),
        ({"tolerations": [{"keys": "a"}]}, "at '/tolerations/0': additional properties 'keys' not allowed"),
        ({"lostNodeSeconds": "15"}, "at '/lostNodeSeconds': got string, want integer"),
        ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "at '/podDisruptionBudget/maxUnavailable'"),
        ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
        ({"nodeSelector": {"gpu": True}}, "at '/nodeSelector/gpu': got boolean, want string"),
        ({"log": {"level": "loud"}}, "at '/log/level': value must be one of"),
        ({"metrics": {"port": 80}}, "at '/metrics/port': minimum: got 80, want 1,024"),
        ({"watchNamespaces": "team-a"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0': 'Team A' does not match pattern"),
        ({"concurrency": 0}, "at '/concurrency': minimum: got 0, want 1"),
        ({"image": {"digest": "abc"}}, "at '/image/digest': 'abc' does not match pattern"),
        ({"image": {"repository": "registry/operator:1"}}, "at '/image/repository'"),
        ({"crds": {"keep": "yes"}}, "at '/crds/keep': got string, want boolean"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: Manifest, message: str) -> None:
    with pytest.raises(helm.ValuesRefused) as refused:
        helm.render(values)
    assert message in str(refused.value)


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Manifest]]:
    """Every schema of an object, with where it stands."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


def test_no_object_takes_what_nobody_knows() -> None:
    """An object names its fields, or gives its values a type, or the API server checks it with the object it is part of."""
    open_ones = [
        path
        for path, schema in objects(SCHEMA)
        if schema.get("additionalProperties") in (None, True) and "$comment" not in schema
    ]
    assert open_ones == []


def test_values_and_schema_name_the_same() -> None:
    def compare(values: Manifest, schema: Manifest, path: str) -> None:
        assert set(values) == set(schema["properties"]) - {"global"}, path
        for key, value in values.items():
            if isinstance(value, dict) and value and "properties" in schema["properties"][key]:
                compare(value, schema["properties"][key], f"{path}/{key}")

    compare(VALUES, SCHEMA, "")


def test_the_schema_knows_what_jobs_may_be_allowed() -> None:
    known = SCHEMA["properties"]["jobs"]["properties"]["templateAllows"]["items"]["enum"]
    assert known == [str(capability) for capability in Capability]


def test_every_value_is_in_the_readme() -> None:
    def leaves(values: Manifest, path: str = "") -> Iterator[str]:
        for key, value in values.items():
            nested = isinstance(value, dict) and value and key != "resources"
            yield from leaves(value, f"{path}{key}.") if nested else [f"{path}{key}"]

    readme = (helm.CHART / "README.md").read_text()
    assert [name for name in leaves(VALUES) if f"| `{name}` |" not in readme] == []
