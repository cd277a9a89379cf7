"""The base of every model of the resource, and a type that many share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(min_length=1, max_length=253)]


class ApiModel(BaseModel):
    """Base of all models: frozen, camelCase on the wire, unknown fields refused. The docstring under a field becomes its description."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )
