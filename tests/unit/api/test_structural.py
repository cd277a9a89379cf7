"""What the dialect of Kubernetes cannot say raises, and what it can is translated."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from finetune_operator.api.api_model import ApiModel
from finetune_operator.api.structural import NotStructuralError, structural_schema


class Inner(ApiModel):
    """What the model says of itself."""

    some_name: str = "x"
    """A name."""


def test_null_is_no_type() -> None:
    class Model(ApiModel):
        inner: int | None = None

    assert structural_schema(Model)["properties"]["inner"] == {"type": "integer"}


def test_what_the_field_says_goes_before_what_the_model_says() -> None:
    class Model(ApiModel):
        inner: Inner
        """What the field says."""
        other: Inner

    properties = structural_schema(Model)["properties"]

    assert properties["inner"]["description"] == "What the field says."
    assert properties["other"]["description"] == "What the model says of itself."
    assert "$ref" not in str(properties)


def test_a_default_is_said_and_not_written() -> None:
    properties = structural_schema(Inner)["properties"]

    assert properties == {"someName": {"type": "string", "description": "A name. Default: x."}}


def test_one_value_is_an_enum() -> None:
    class Model(ApiModel):
        kind: Literal["only"]

    assert structural_schema(Model)["properties"]["kind"] == {"type": "string", "enum": ["only"]}


def test_exclusive_bounds_are_flags() -> None:
    class Model(ApiModel):
        share: Annotated[float, Field(gt=0, lt=1)]

    assert structural_schema(Model)["properties"]["share"] == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }


def test_lines_of_a_docstring_become_one() -> None:
    class Model(ApiModel):
        field: int
        """Two
        lines."""

    assert structural_schema(Model)["properties"]["field"]["description"] == "Two lines."


def test_a_union_raises() -> None:
    class Model(ApiModel):
        either: int | Inner

    with pytest.raises(NotStructuralError, match=r"Model\.either: a structural schema cannot say \['anyOf'\]"):
        structural_schema(Model)


def test_no_type_raises() -> None:
    class Model(ApiModel):
        anything: object

    with pytest.raises(NotStructuralError, match=r"Model\.anything: has no single type"):
        structural_schema(Model)


def test_a_constraint_that_is_not_known_raises() -> None:
    class Model(ApiModel):
        number: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(NotStructuralError, match="multipleOf"):
        structural_schema(Model)
