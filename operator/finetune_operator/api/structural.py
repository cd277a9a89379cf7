"""JSON schema of pydantic models in the dialect of a CustomResourceDefinition: a structural schema.

Kubernetes knows no references, no null, no union and no `const`, and reads bounds as OpenAPI 3.0 does. What can be said
in its dialect is translated; everything else raises, so that no constraint is lost on the way.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Schema = dict[str, Any]

INT_OR_STRING = "x-kubernetes-int-or-string"
PRESERVE_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
_DEFAULT = "default"

KEYWORDS = frozenset(
    {
        *(
            "type",
            "description",
            "enum",
            "format",
            "pattern",
            INT_OR_STRING,
            PRESERVE_UNKNOWN,
            "x-kubernetes-validations",
        ),
        *("properties", "required", "additionalProperties", "minProperties", "maxProperties", "x-kubernetes-map-type"),
        *("items", "minItems", "maxItems", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    }
)
"""Keywords that a structural schema has and the models use."""


class NotStructuralError(ValueError):
    """Raised where a model says something that a structural schema cannot."""


class StructuralSchema(GenerateJsonSchema):
    """Generator of JSON schema that translates null, defaults and literals, which only the core schema still tells apart."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Drop the null: None means that the field is not given, and no user writes null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Move the default into the description: the API server would write one in the schema to `spec`."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return {**inner, _DEFAULT: default} if isinstance(default, bool | int | float | str) else inner

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """Return an enum, also where there is one value."""
        choices = list(schema["expected"])
        if all(isinstance(choice, str) for choice in choices):
            return {"type": "string", "enum": choices}
        if all(isinstance(choice, int) and not isinstance(choice, bool) for choice in choices):
            return {"type": "integer", "enum": choices}
        raise NotStructuralError(f"choices of one type only: {choices}")


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a model, with its fields by alias. Raises NotStructuralError."""
    schema = model.model_json_schema(by_alias=True, schema_generator=StructuralSchema, mode="validation")
    definitions = schema.pop("$defs", {})
    return _structural(schema, definitions, model.__name__)


def _structural(schema: Schema, definitions: Schema, path: str) -> Schema:
    """Translate one node and all nodes below it, and replace each reference by the schema that it names."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        # Keywords beside the reference (the field's description) go before those of the model itself.
        return _structural({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, definitions, path)
    node = {k: v for k, v in schema.items() if k not in ("title", "deprecated")}
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if (default := node.pop(_DEFAULT, None)) is not None:
        node["description"] = _with_default(node.get("description", ""), default)
    if node.get("additionalProperties") is False:
        del node["additionalProperties"]  # The API server prunes, or refuses where the client asks it to be strict.
    if INT_OR_STRING in node:
        node.pop("anyOf", None)
    if PRESERVE_UNKNOWN in node:
        node.pop("additionalProperties", None)
    for bound in ("Minimum", "Maximum"):
        if (limit := node.pop(f"exclusive{bound}", None)) is not None:
            node |= {bound.lower(): limit, f"exclusive{bound}": True}
    if unknown := set(node) - KEYWORDS:
        raise NotStructuralError(f"{path}: a structural schema cannot say {sorted(unknown)}")
    if "type" not in node and INT_OR_STRING not in node:
        raise NotStructuralError(f"{path}: has no single type")
    if "properties" in node:
        node["properties"] = {
            name: _structural(child, definitions, f"{path}.{name}") for name, child in node["properties"].items()
        }
    for inner in ("items", "additionalProperties"):
        if inner in node:
            node[inner] = _structural(node[inner], definitions, f"{path}[]")
    return node


def _with_default(description: str, default: bool | int | float | str) -> str:
    if "efault" in description:
        return description
    return f"{description} Default: {str(default).lower() if isinstance(default, bool) else default}."
