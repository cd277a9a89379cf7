"""The settings of an administrator, from environment variables `FINETUNE_OPERATOR_<NAME>`. Knows nothing of the cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from finetune_operator.api.quantity import is_quantity, parse
from finetune_operator.plan.desired.admin_template import default_problems
from finetune_operator.plan.template_policy import Capability
from finetune_operator.plan.types import PlanSettings


class ProgressAccess(StrEnum):
    """The way to the training pods' port."""

    AUTO = "auto"
    """Straight to the pod's address; where the operator runs outside of the cluster, else through the API server."""
    DIRECT = "direct"
    """Straight to the pod's address only."""
    PROXY = "proxy"
    """Through the API server only; needs `get` on `pods/proxy`."""


_DEFAULTS = PlanSettings(trainer_image="")


class OperatorSettings(BaseSettings):
    """The settings of an operator. Each default suits an installation by the chart, which sets them from its values."""

    model_config = SettingsConfigDict(
        env_prefix="FINETUNE_OPERATOR_", frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    trainer_image: str = "docker.io/finetune/trainer:dev"
    """Image of the training pods where a job names none."""
    accelerator_resources: tuple[str, ...] = _DEFAULTS.accelerator_resources
    """Extended resources that are accelerators, or parts or amounts of one, as a JSON list; `*` matches anything. Training
    runs on CUDA and ROCm devices."""
    accelerator_memory: dict[str, str] = Field(default_factory=dict)
    """Accelerator -> memory of each device of that name, the largest there is, as JSON: `{"nvidia.com/gpu": "80Gi"}`. A model
    that cannot fit is refused before a device is taken."""
    grace_period_seconds: Annotated[int, Field(ge=1)] = _DEFAULTS.grace_period_seconds
    """Time that training pods get to save when they are asked to stop."""
    lost_node_seconds: Annotated[int, Field(ge=1)] = _DEFAULTS.lost_node_seconds
    """A node that does not answer the control plane is lost after this long, and its pods leave it: their toleration.
    Longer than a restart of a kubelet or of the network takes, or that costs the jobs on the node their attempt; the
    longer, the later a job on a machine that is really gone starts again."""
    progress_interval_seconds: Annotated[float, Field(gt=0)] = _DEFAULTS.progress_interval_seconds
    """Between two readings of a running job's progress, and so between two progress writes to its status. With more than
    20 jobs for each of these seconds it is longer: all jobs together write progress 20 times a second at most."""
    pod_diagnosis_seconds: Annotated[float, Field(gt=0)] = _DEFAULTS.pod_diagnosis_seconds
    """A pod that has not started by then is diagnosed from its events."""
    pod_template: dict[str, Any] = Field(default_factory=dict)
    """Partial pod template under that of every job, as JSON."""
    template_allows: tuple[Capability, ...] = _DEFAULTS.template_allows
    """What jobs may ask for in `spec.template` of what reaches beyond their own pods, as a JSON list."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve, as a JSON list; empty serves the whole cluster."""
    kubeconfig: Path | None = None
    """Kubeconfig file; default: the service account of the pod, else KUBECONFIG, else ~/.kube/config."""
    progress_access: ProgressAccess = ProgressAccess.AUTO
    """How to reach the training pods' progress: auto, direct or proxy."""
    concurrency: Annotated[int, Field(ge=1)] = 32
    """Jobs that are worked on at the same time; those of one namespace take half of it at most."""
    resync_seconds: Annotated[float, Field(ge=1)] = 60.0
    """Between two comparisons of what the watch showed with a list of what is there; FineTuneJobs are compared four times as often."""
    metrics_host: str = ""
    """Address to serve /metrics, /healthz and /readyz on; empty: every one, of IPv4 and IPv6."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port of /metrics, /healthz and /readyz; 0 serves none."""
    lease: Annotated[str, Field(pattern=r"^([^/]+/[^/]+)?$")] | None = None
    """`namespace/name` of the Lease by which one operator of several leads, and its mark on the jobs that it serves; default:
    `finetune-operator` in the first of `namespaces`, else in `default`. Empty: no other operator is expected."""
    identity: str = ""
    """Name of this operator on the Lease, that no other living process has: one that is started again under the name that
    holds the Lease leads at once. Default: the host's name and a random part."""
    lease_seconds: Annotated[float, Field(ge=1)] = 15.0
    """How long after the last sign of life of the leader another one takes over."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of the log."""
    log_format: Literal["json", "text"] = "json"
    """One JSON document a line, or text for a terminal."""

    @field_validator("accelerator_memory")
    @classmethod
    def _are_quantities(cls, memory: dict[str, str]) -> dict[str, str]:
        if invalid := [f"{name}: {size}" for name, size in memory.items() if not is_quantity(size) or parse(size) <= 0]:
            raise ValueError(f"no quantity of memory, such as 80Gi: {', '.join(invalid)}")
        return memory

    @field_validator("pod_template")
    @classmethod
    def _can_be_merged(cls, template: dict[str, Any]) -> dict[str, Any]:
        if problems := default_problems(template):
            raise ValueError("; ".join(problems))
        return template

    def plan(self) -> PlanSettings:
        """Return the part that decisions depend on."""
        return PlanSettings(
            trainer_image=self.trainer_image,
            accelerator_resources=self.accelerator_resources,
            accelerator_memory_bytes={name: int(parse(size)) for name, size in self.accelerator_memory.items()},
            grace_period_seconds=self.grace_period_seconds,
            lost_node_seconds=self.lost_node_seconds,
            progress_interval_seconds=self.progress_interval_seconds,
            pod_diagnosis_seconds=self.pod_diagnosis_seconds,
            pod_template=self.pod_template,
            template_allows=self.template_allows,
            operator=self.lease_name,
        )

    @property
    def lease_name(self) -> str:
        """`namespace/name` of the lease; empty where no other operator is expected."""
        if self.lease is not None:
            return self.lease
        return f"{next(iter(self.namespaces), 'default')}/finetune-operator"
