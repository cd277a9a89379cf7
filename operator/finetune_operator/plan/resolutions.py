"""What to do about each reason, in the user's words. A table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from finetune_trainer.config import Reason


class ClusterReason(StrEnum):
    """Why an attempt ended, where the cluster and not the training says so."""

    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    POD_DELETED = "PodDeleted"
    NODE_LOST = "NodeLost"
    NODE_SHUTDOWN = "NodeShutdown"
    POD_REFUSED = "PodRefused"
    JOB_DELETED = "JobDeleted"
    DISK_LIMIT = "DiskLimitExceeded"
    CONTAINER_FAILED = "ContainerFailed"
    INIT_CONTAINER_FAILED = "InitContainerFailed"
    CONTAINER_KILLED = "ContainerKilled"
    NOT_STARTED = "ContainerNotStarted"
    UNKNOWN = "Unknown"
    START_DEADLINE = "StartDeadlineExceeded"
    DEADLINE = "DeadlineExceeded"
    BACKOFF_LIMIT = "BackoffLimitExceeded"


_RESUMES = "Nothing: training goes on from its last checkpoint."
_LOGS = "Read the log of the pod (`kubectl logs`); raise `spec.retry` to start again once it is mended."

RESOLUTIONS: Mapping[str, str] = {
    Reason.FILE_NOT_FOUND: (
        "Correct the path in the spec, or put the file on the mounted volume; then edit the spec or raise `spec.retry`."
    ),
    Reason.DATA_INVALID: "Mend the file at the place that the message names; then raise `spec.retry`.",
    Reason.COLUMN_NOT_FOUND: "Set `spec.dataset.columns` to names of columns that the data has.",
    Reason.LABELS_INVALID: (
        "Mend the labels in the data: class names, or integers from 0 without gaps, none missing; then raise "
        "`spec.retry`."
    ),
    Reason.MODEL_NOT_FOUND: "Correct `spec.model`: the id and revision on the Hub, or the path on a mounted volume.",
    Reason.DATASET_NOT_FOUND: "Correct `spec.dataset`: the id, config and revision on the Hub, or the files.",
    Reason.ACCESS_DENIED: (
        "Give a token with access in `spec.hub.tokenSecretRef`, and accept the terms on the page of the model or "
        "dataset."
    ),
    Reason.HUB_UNAVAILABLE: (
        "Check that pods reach the Hub (or `spec.hub.endpoint`): network policy, proxy, DNS; then raise `spec.retry`."
    ),
    Reason.ARGUMENTS_INVALID: "Correct `spec.trainingArguments` as the message says.",
    Reason.CHECKPOINT_NOT_FOUND: (
        "Set `spec.resumeFrom` to `auto`, `never`, or the path of a checkpoint with a manifest."
    ),
    Reason.CHECKPOINT_MISMATCH: (
        "The checkpoint is of another model or batch size: set `spec.resumeFrom: never`, or train with what it "
        "was made with."
    ),
    Reason.VOLUME_NOT_WRITABLE: (
        "Let group 10001 write to the volume: `fsGroup` does that where the volume's driver supports it, `chown` "
        "where not."
    ),
    Reason.VOLUME_FULL: "Make the claim larger, or lower `save_total_limit`; then raise `spec.retry`.",
    Reason.NON_FINITE: (
        "Lower `learning_rate`, set `max_grad_norm`, or train in bf16 or fp32 in place of fp16; then raise "
        "`spec.retry`."
    ),
    Reason.OUT_OF_MEMORY: (
        "Lower `per_device_train_batch_size` and raise `gradient_accumulation_steps` by the same factor, set "
        "`gradient_checkpointing: true`, or give more memory in `spec.resources`."
    ),
    Reason.RANK_FAILED: _LOGS,
    Reason.RANK_KILLED: (
        "Give more memory in `spec.resources` if the system was short of it; else read the log of the pod "
        "(`kubectl logs`)."
    ),
    Reason.PEER_LOST: "Look at the other pods of the attempt: this one only lost its connection to them.",
    Reason.WORLD_SIZE_MISMATCH: (
        "Leave distributed training to the operator: no variable of `spec.env` may set WORLD_SIZE, RANK or the like."
    ),
    Reason.STOPPED: _RESUMES,
    Reason.SUPERSEDED: "Nothing: a newer attempt has taken over.",
    Reason.INTERNAL: "Report it with the log of the pod (`kubectl logs`): this is a defect of the training image.",
    ClusterReason.EVICTED: _RESUMES,
    ClusterReason.PREEMPTED: f"{_RESUMES} A higher `priorityClassName` in `spec.template` makes it rarer.",
    ClusterReason.POD_DELETED: _RESUMES,
    ClusterReason.NODE_LOST: _RESUMES,
    ClusterReason.NODE_SHUTDOWN: _RESUMES,
    ClusterReason.POD_REFUSED: (
        f"{_RESUMES} If it happens again, look at the node: it refuses pods that the scheduler gives it."
    ),
    ClusterReason.JOB_DELETED: _RESUMES,
    ClusterReason.DISK_LIMIT: (
        "Write less to /tmp and /dev/shm, or raise `ephemeral-storage` and `memory` in `spec.resources`."
    ),
    ClusterReason.CONTAINER_FAILED: _LOGS,
    ClusterReason.INIT_CONTAINER_FAILED: (
        "Mend the init container of `spec.template`; its log is in the pod (`kubectl logs -c`)."
    ),
    ClusterReason.CONTAINER_KILLED: (
        "Give more memory in `spec.resources` if the system was short of it; else read the log of the pod."
    ),
    ClusterReason.NOT_STARTED: "Check image, command and security settings of the pod (`kubectl describe pod`).",
    ClusterReason.UNKNOWN: _LOGS,
    ClusterReason.START_DEADLINE: (
        "Free or add the resources that the message names, or ask for less; `spec.startDeadlineSeconds` says how "
        "long to wait."
    ),
    ClusterReason.DEADLINE: (
        "Raise `spec.activeDeadlineSeconds` and `spec.retry`: training goes on from its last checkpoint."
    ),
    ClusterReason.BACKOFF_LIMIT: _LOGS,
}


def resolution(reason: str) -> str:
    return RESOLUTIONS.get(reason, _LOGS)
