"""Settings from the environment, and that nothing slow is imported for them."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from finetune_operator.plan.template_policy import Capability
from finetune_operator.settings import OperatorSettings, ProgressAccess


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_NAMESPACES", '["a", "b"]')
    monkeypatch.setenv("FINETUNE_OPERATOR_PROGRESS_ACCESS", "proxy")
    monkeypatch.setenv("FINETUNE_OPERATOR_TRAINER_IMAGE", "registry/trainer:1")
    monkeypatch.setenv("FINETUNE_OPERATOR_ACCELERATOR_RESOURCES", '["example.com/npu"]')
    monkeypatch.setenv("FINETUNE_OPERATOR_ACCELERATOR_MEMORY", '{"example.com/npu": "80Gi"}')
    monkeypatch.setenv("FINETUNE_OPERATOR_POD_TEMPLATE", '{"spec": {"nodeSelector": {"pool": "gpu"}}}')
    monkeypatch.setenv("FINETUNE_OPERATOR_TEMPLATE_ALLOWS", '["hostPath"]')
    settings = OperatorSettings()
    assert settings.plan().template_allows == (Capability.HOST_PATH,)
    assert settings.namespaces == ("a", "b")
    assert settings.progress_access is ProgressAccess.PROXY
    assert settings.plan().trainer_image == "registry/trainer:1"
    assert settings.plan().accelerator_resources == ("example.com/npu",)
    assert settings.plan().accelerator_memory_bytes == {"example.com/npu": 80 << 30}
    assert settings.plan().pod_template == {"spec": {"nodeSelector": {"pool": "gpu"}}}


@pytest.mark.parametrize(
    ("variables", "lease"),
    [
        ({}, "default/finetune-operator"),
        ({"NAMESPACES": '["team", "other"]'}, "team/finetune-operator"),
        ({"LEASE": "system/mine", "NAMESPACES": '["team"]'}, "system/mine"),
        ({"LEASE": ""}, ""),
    ],
    ids=["outside", "namespaces", "named", "none expected"],
)
def test_the_lease_is_the_operators_mark(
    variables: dict[str, str], lease: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"FINETUNE_OPERATOR_{name}", value)
    settings = OperatorSettings()
    assert (settings.lease_name, settings.plan().operator) == (lease, lease)


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_CONCURRENCY", "0")
    with pytest.raises(ValidationError, match="concurrency"):
        OperatorSettings()


@pytest.mark.parametrize("size", ["eighty", "80GB", "-1Gi", "0"])
def test_a_device_without_a_size_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_ACCELERATOR_MEMORY", f'{{"nvidia.com/gpu": "{size}"}}')
    with pytest.raises(ValidationError, match=f"no quantity of memory, such as 80Gi: nvidia.com/gpu: {size}"):
        OperatorSettings()


def test_a_right_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_TEMPLATE_ALLOWS", '["root"]')
    with pytest.raises(ValidationError, match="Input should be 'hostPath'"):
        OperatorSettings()


def test_a_pod_template_that_no_job_could_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_POD_TEMPLATE", '{"spec": {"restartPolicy": "Always"}}')
    with pytest.raises(ValidationError, match=r"podTemplate.spec.restartPolicy: can't be set"):
        OperatorSettings()


def test_the_operator_says_which_setting_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_OPERATOR_LOG_LEVEL", "loud")
    command = [sys.executable, "-m", "finetune_operator"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "log_level: Input should be 'debug'" in line


def test_every_setting_is_described() -> None:
    fields = OperatorSettings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_client_is_imported_when_it_is_used() -> None:
    program = "import finetune_operator.controller.reconciler, sys; print([m for m in sys.modules if m.startswith('kubernetes')])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
