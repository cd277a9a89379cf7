"""A job that asks for accelerators, on machines that have others."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.local.devices import place, present
from finetune_operator.plan.desired.manifests import accelerators, processes_per_node, run_config
from finetune_operator.plan.types import PlanSettings
from tests.support.golden import load

SETTINGS = PlanSettings(trainer_image="here")


def job(**spec: Any) -> FineTuneJob:
    body = load("job-local.yaml")
    limits = {"limits": {"cpu": 2, "nvidia.com/gpu": 2}}
    return FineTuneJob.parse({**body, "spec": {**body["spec"], "resources": limits, **spec}})


def test_without_accelerators_asked_for_none_are_taken() -> None:
    plain_job = job(resources={})
    placement = place(plain_job, SETTINGS, ("0", "1"))
    assert placement.job == plain_job
    assert placement.devices == ((), ())
    assert placement.warning is None


def test_enough_accelerators_are_shared_out() -> None:
    placement = place(job(), SETTINGS, ("0", "1", "2", "3"))
    assert placement.devices == (("0", "1"), ("2", "3"))
    assert placement.warning is None


def test_fewer_accelerators_mean_fewer_ranks_and_a_warning() -> None:
    placement = place(job(processesPerNode=2), SETTINGS, ("0", "1", "2"))
    assert placement.devices == (("0",), ("1",))
    assert accelerators(placement.job, SETTINGS) == 1
    assert processes_per_node(placement.job, SETTINGS) == 1
    assert placement.warning == "2 accelerators per node asked for, 1 here: each node trains with 1"


def test_no_accelerator_means_the_cpu_and_a_warning() -> None:
    placement = place(job(), SETTINGS, ("0",))
    config = run_config(placement.job, SETTINGS)
    assert (config.accelerators, config.processes_per_node) == (False, 1)
    assert placement.devices == ((), ())
    assert placement.warning is not None
    assert "training runs on the CPU" in placement.warning
    assert placement.job.spec.resources.limits == {"cpu": 2}


@pytest.mark.parametrize("name", ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "acme.com/gpu-a100"])
def test_here_a_device_is_a_device_whatever_the_cluster_calls_it(name: str) -> None:
    placement = place(job(resources={"limits": {name: 1}}), SETTINGS, ("0", "1"))
    assert (placement.devices, placement.warning) == ((("0",), ("1",)), None)
    assert accelerators(placement.job, SETTINGS) == 1


@pytest.mark.parametrize("devices", [(), ("0", "1", "2", "3")])
def test_claims_mean_devices_of_this_machine(devices: tuple[str, ...]) -> None:
    container = {"name": "trainer", "resources": {"claims": [{"name": "gpu"}]}}
    template = {"spec": {"resourceClaims": [{"name": "gpu"}], "containers": [container]}}
    placement = place(job(resources={}, template=template, processesPerNode=2), SETTINGS, devices)
    assert accelerators(placement.job, SETTINGS) == len(devices) // 2
    assert run_config(placement.job, SETTINGS).accelerators is bool(devices)


@pytest.mark.parametrize(("visible", "devices"), [("", ()), ("-1", ()), ("2,3", ("2", "3"))])
def test_what_the_user_hides_is_not_there(
    visible: str, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert present() == devices
