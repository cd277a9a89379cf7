"""What an edit of a field of `spec` may do is said at the field, and the rules of the API server are made from that."""

from __future__ import annotations

from typing import Annotated

import pytest

from finetune_operator.api import crd
from finetune_operator.api.api_model import ApiModel
from finetune_operator.api.mutability import FIXED, Mutable, UndeclaredMutabilityError, mutability
from finetune_operator.api.rules.transitions import IMMUTABLE
from finetune_operator.api.spec import FineTuneJobSpec
from tests.support.bad_input.api import CHANGED
from tests.support.spec_changes import ALWAYS, CHANGES


def test_every_field_of_the_spec_says_whether_it_may_change() -> None:
    assert mutability(FineTuneJobSpec).keys() == crd.schema()["properties"]["spec"]["properties"].keys()


def test_a_field_that_says_nothing_is_refused() -> None:
    class Spec(ApiModel):
        declared: Annotated[str, FIXED]
        silent_one: str = ""

    with pytest.raises(UndeclaredMutabilityError, match=r"^Spec.silent_one says nothing of edits"):
        mutability(Spec)


def test_every_field_is_changed_in_the_cluster_tier() -> None:
    """`tests/cluster/test_crd_life.py` makes each of these changes while a job trains."""
    mutable = {field for field, edit in mutability(FineTuneJobSpec).items() if isinstance(edit, Mutable)}

    assert set(CHANGES) == set(IMMUTABLE)
    assert set(ALWAYS) == mutable
    assert {f"spec.{field}" for field in CHANGES} == {row.reason for row in CHANGED}, "the documented ones"
