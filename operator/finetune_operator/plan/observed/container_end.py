"""The diagnosis of a container that left no record, or was killed for memory, in the user's words. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from finetune_operator.plan.observed.objects import ContainerView, PodView
from finetune_operator.plan.resolutions import ClusterReason, resolution
from finetune_trainer.contract.records import Cause, Failure, Reason

MESSAGE_MAX = 2048
NEVER_RAN = frozenset({"StartError", "ContainerCannotRun"})
SIGKILLED = 137
NO_TRAINER = re.compile(r'exec: "?python"?: |No module named \'?finetune_trainer|exec format error')
RUNTIME_PREFIX = re.compile(r"^failed to create .*?(?=exec: )", re.DOTALL)
"""Words of the container runtime about itself, before the reason."""


@dataclass(frozen=True)
class Diagnosis:
    """Cause of a failure, in the user's words, with the way out."""

    cause: Cause
    reason: str
    message: str
    resolution: str
    node: int | None = None
    """Index of the node where the failure began."""
    rank: int | None = None
    exit_code: int | None = None

    @property
    def counts(self) -> bool:
        """Whether the failure counts against `backoffLimit`."""
        return self.cause is Cause.ERROR


def of_init_container(pod: PodView, failed: ContainerView) -> Diagnosis:
    """Diagnose an init container of the template that failed: the training container never ran."""
    last_words = last_lines(RUNTIME_PREFIX.sub("", failed.ended_message))
    text = f"container {failed.name} of {pod.who} ended with exit code {failed.exit_code}: {last_words}"
    return Diagnosis(
        Cause.ERROR,
        ClusterReason.INIT_CONTAINER_FAILED,
        text[:MESSAGE_MAX].rstrip(": "),
        resolution(ClusterReason.INIT_CONTAINER_FAILED),
        node=pod.index,
        exit_code=failed.exit_code,
    )


def without_record(pod: PodView, trainer: ContainerView) -> Diagnosis:
    """Diagnose a training container that left no record: only kubelet and its log tell of its end."""
    cause, reason, last_words = Cause.ERROR, ClusterReason.CONTAINER_FAILED, last_lines(trainer.ended_message)
    text = f"container {trainer.name} of {pod.who} ended with exit code {trainer.exit_code}, without a record"
    if trainer.ended_reason in NEVER_RAN:
        reason, text = ClusterReason.NOT_STARTED, f"container {trainer.name} of {pod.who} can't be started"
        last_words = RUNTIME_PREFIX.sub("", last_words)
    elif trainer.exit_code == SIGKILLED:  # what it printed last has nothing to do with its end
        reason, last_words = ClusterReason.CONTAINER_KILLED, ""
        text = f"container {trainer.name} of {pod.who} was killed (SIGKILL)"
    if NO_TRAINER.search(trainer.ended_message) is not None:  # no try can succeed with this image
        cause, reason = Cause.USER, ClusterReason.TRAINER_MISSING
        text = f"the image {trainer.image!r} can't run the trainer"
    message = f"{text}: {last_words}" if last_words else text
    return Diagnosis(
        cause, reason, message[:MESSAGE_MAX], resolution(reason), node=pod.index, exit_code=trainer.exit_code
    )


def last_lines(text: str, limit: int = 5) -> str:
    """Return the last lines of a log that are not empty."""
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
    return "\n".join(lines[-limit:])


def out_of_memory(pod: PodView, failure: Failure | None) -> Diagnosis:
    """Diagnose that the kernel has killed a rank, or `launch` with it, for memory."""
    limit = f", its limit is {pod.memory_limit} (`resources.limits.memory`)" if pod.memory_limit else ""
    message = f"{pod.who} ran out of memory and was killed{limit}"
    if failure is not None and failure.rank is not None:
        message = f"{message}; it was rank {failure.rank}"
    return Diagnosis(
        Cause.ERROR,
        Reason.OUT_OF_MEMORY,
        message[:MESSAGE_MAX],
        resolution(Reason.OUT_OF_MEMORY),
        node=pod.index,
        rank=failure.rank if failure else None,
        exit_code=pod.trainer.exit_code if pod.trainer else None,
    )
