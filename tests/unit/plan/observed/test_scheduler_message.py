"""The scheduler's sentence in words about the spec."""

from __future__ import annotations

import pytest

from finetune_operator.plan.observed.scheduler_message import no_place

PREEMPTION = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("why", "what", "field", "outside"),
    [
        (
            "3 Insufficient nvidia.com/gpu. no new claims to deallocate, ",
            "3 of 3 machines have too little nvidia.com/gpu (it asks for 8)",
            "`spec.resources`",
            "free or add machines with nvidia.com/gpu",
        ),
        (
            "1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector. ",
            "1 of 3 machines has too little cpu; 2 of 3 machines do not match its node selector or affinity",
            "`spec.resources`",
            "free or add machines with cpu",
        ),
        (
            "3 node(s) had untolerated taint {team: other}. ",
            "3 of 3 machines have the taint {team: other}, which it does not tolerate",
            "`tolerations` in `spec.template`",
            "free or add such machines",
        ),
        ("3 node(s) were unschedulable. ", "3 of 3 machines are cordoned", "", "free or add such machines"),
        ("3 Too many pods. ", "3 of 3 machines are full of pods", "", "free or add such machines"),
    ],
)
def test_what_is_lacking_where_and_what_to_change(why: str, what: str, field: str, outside: str) -> None:
    obstacle = no_place(f"0/3 nodes are available: {why}{PREEMPTION}", {"nvidia.com/gpu": "8"})
    assert (obstacle.lack, obstacle.outside) == (what, outside)
    assert next(iter(obstacle.fields), "") == field


@pytest.mark.parametrize(
    "why",
    [
        "pod has unbound immediate PersistentVolumeClaims. not found",
        "3 node(s) didn't find available persistent volumes to bind. ",
        'persistentvolumeclaim "models" not found. ',
    ],
)
def test_a_claim_that_is_not_bound_is_told_apart(why: str) -> None:
    obstacle = no_place(f"0/3 nodes are available: {why}{PREEMPTION}", {})
    assert obstacle.claims
    assert "Preemption" not in obstacle.lack


def test_a_sentence_that_is_not_known_is_passed_on() -> None:
    assert no_place("no nodes available to schedule pods", {}).lack == "no nodes available to schedule pods"
