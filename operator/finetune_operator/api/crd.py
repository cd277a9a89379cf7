"""The CustomResourceDefinition of FineTuneJob, made from the models and the rules. No input or output.

`crds/` holds what `manifest()` returns; the operator and `finetune validate` read the schema from here.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from finetune_operator.api.resource import GROUP, KIND, PLURAL, VERSION
from finetune_operator.api.rules import RULES
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.structural import Schema, structural_schema

NAME = f"{PLURAL}.{GROUP}"

COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    # Name, type, path, priority: 0 is always shown, 1 with `-o wide`. A column shows one value of the object.
    ("Phase", "string", ".status.phase", 0),
    ("Reason", "string", ".status.summary.reason", 0),
    ("Nodes", "string", ".status.summary.nodes", 0),
    ("Steps", "string", ".status.summary.steps", 0),
    ("Loss", "string", ".status.summary.loss", 0),
    ("Left", "string", ".status.summary.eta", 0),
    ("Restarts", "string", ".status.summary.restarts", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Model", "string", ".spec.model.name", 1),
    ("Dataset", "string", ".status.summary.dataset", 1),
    ("Precision", "string", ".status.resolved.precision", 1),
    ("Image", "string", ".status.resolved.image", 1),
    ("Published", "string", ".status.model.hub.url", 1),
)

DESCRIPTION = (
    "Fine-tunes a Hugging Face model on one or more nodes, survives preemption, and leaves the model on a volume and on the Hub. "
    "See spec for what to train; `kubectl get ftj -w` follows it."
)


@cache
def schema() -> Schema:
    """Return the schema of the whole resource, rules included. All callers share it: it must not be changed."""
    resource: Schema = {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"`{GROUP}/{VERSION}`."},
            "kind": {"type": "string", "description": f"`{KIND}`."},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": structural_schema(FineTuneJobSpec),
            "status": structural_schema(FineTuneJobStatus),
        },
    }
    for rule in RULES:
        _node(resource, rule.at).setdefault("x-kubernetes-validations", []).append(rule.validation())
    return resource


def _node(root: Schema, path: str) -> Schema:
    """Return the schema node that a dotted path names; `[]` stands for the items of an array or the values of a map. Raises KeyError."""
    node = root
    for name in path.split(".") if path else ():
        node = node["properties"][name.removesuffix("[]")]
        if name.endswith("[]"):
            node = node["items"] if "items" in node else node["additionalProperties"]
    return node


def manifest() -> dict[str, Any]:
    """Build the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ftj"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": deepcopy(schema())},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
                        for name, kind, path, priority in COLUMNS
                    ],
                }
            ],
        },
    }
