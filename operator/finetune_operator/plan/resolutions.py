"""The way out for each reason, in the user's words. A table, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from finetune_trainer.contract.records import Reason


class ClusterReason(StrEnum):
    """Reasons for an attempt's end that the cluster tells, not the training."""

    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    POD_DELETED = "PodDeleted"
    NODE_LOST = "NodeLost"
    NODE_SHUTDOWN = "NodeShutdown"
    POD_REFUSED = "PodRefused"
    JOB_DELETED = "JobDeleted"
    DISK_LIMIT = "DiskLimitExceeded"
    CONTAINER_FAILED = "ContainerFailed"
    TRAINER_MISSING = "TrainerNotInImage"
    INIT_CONTAINER_FAILED = "InitContainerFailed"
    CONTAINER_KILLED = "ContainerKilled"
    NOT_STARTED = "ContainerNotStarted"
    UNKNOWN = "Unknown"
    START_DEADLINE = "StartDeadlineExceeded"
    DEADLINE = "DeadlineExceeded"
    BACKOFF_LIMIT = "BackoffLimitExceeded"


_RESUMES = "Nothing: training goes on from its last checkpoint."
_ANEW = "in a job of another name (a spec is fixed once training has started)"
_LOGS = "Read the log of the pod (`kubectl logs`); raise `spec.retry` to start again once it is mended."

RESOLUTIONS: Mapping[str, str] = {
    Reason.FILE_NOT_FOUND: (
        "Correct the path or address in the spec, or put the file where it leads; then edit the spec or raise `spec.retry`."
    ),
    Reason.DATA_INVALID: "Mend the file at the place that the message names; then raise `spec.retry`.",
    Reason.COLUMN_NOT_FOUND: "Set `spec.dataset.columns` to names of columns that the data has.",
    Reason.LABELS_INVALID: (
        "Mend the labels in the data as the message says, then raise `spec.retry`; or set `spec.dataset.columns` to the "
        "column that has them, or `spec.problemType` to what they are."
    ),
    Reason.MODEL_NOT_FOUND: "Correct `spec.model`: the id and revision on the Hub, or the path on a mounted volume.",
    Reason.MODEL_NOT_LOADED: (
        "Mend the files of the model as the message says (download or save it again), or choose another one in `spec.model`, "
        f"{_ANEW}."
    ),
    Reason.DATASET_NOT_FOUND: "Correct `spec.dataset`: the id, config and revision on the Hub, or the files.",
    Reason.ACCESS_DENIED: (
        "Give a token with access in `spec.hub.tokenSecretRef`, and accept the terms on the page of the model or "
        "dataset. For files at addresses, give keys with access in `spec.dataset.credentialsSecretRef`; for packages, an address "
        "of the index with a name and a password in `spec.env`, from a Secret."
    ),
    Reason.HUB_UNAVAILABLE: (
        "Check that pods reach the Hub (or `spec.hub.endpoint`, the addresses in `spec.dataset.files`, the index of packages): "
        "network policy, proxy, DNS. It is tried again by itself; "
        "where `spec.publish.deadlineSeconds` have passed, raise `spec.retry`."
    ),
    Reason.CERTIFICATE_NOT_TRUSTED: (
        "Mount the certificate of your company's authority and name its file in `spec.env` as SSL_CERT_FILE (or have the "
        "administrator do so for all jobs, in the operator's pod template), then raise `spec.retry`. Two lines in docs/data.md show "
        "how."
    ),
    Reason.REPO_INVALID: (
        "Set `spec.publish.repoId` to `owner/name` of an account or organisation that the token may write to, and "
        "raise `spec.retry`: only publishing is done again."
    ),
    Reason.REPO_PUBLIC: (
        "Make the repository private in its settings on the Hub, name another one in `spec.publish.repoId`, or set "
        "`spec.publish.private` to false if all may see the model; then raise `spec.retry`: only publishing is done again."
    ),
    Reason.QUOTA_EXCEEDED: (
        "Free space in the account on the Hub, or publish to another one (`spec.publish.repoId`); then raise "
        "`spec.retry`: only publishing is done again."
    ),
    Reason.MODEL_DAMAGED: (
        "The model on the claim is not what training left there: find out who changed or removed it, and train again "
        f"{_ANEW}; `spec.resumeFrom` takes the path of a checkpoint."
    ),
    Reason.MODEL_TOO_LARGE: (
        "Train an adapter (`spec.peft`, with `spec.quantization` on four bits), ask for accelerators with more memory, or choose "
        f"a smaller model: the message has the arithmetic. After training has started, {_ANEW}."
    ),
    Reason.REQUIREMENTS_INVALID: (
        "Correct `spec.script.requirements` as the last lines say: a package that the image has in another version can't be "
        "replaced, so ask for one that goes with it, or name an image in `spec.image` that has what the program needs."
    ),
    Reason.SCRIPT_INVALID: (
        "Mend the program as the message says, bring it back to its ConfigMap, volume or image, then raise `spec.retry`."
    ),
    Reason.PREFLIGHT_FAILED: (
        "Look at the last lines: a firewall or network policy between the nodes, a wrong network interface (NCCL_SOCKET_IFNAME in "
        "`spec.env`), a device that does not work, or `spec.script.accelerateConfig`. Then raise `spec.retry`."
    ),
    Reason.NOTHING_TRAINED: (
        "Let the program save its model below OUTPUT_DIR (--output_dir=$(OUTPUT_DIR) in `spec.script.args`), or name where it "
        "does in `spec.script.outputs.model`; then raise `spec.retry`."
    ),
    Reason.ARGUMENTS_INVALID: "Correct `spec.trainingArguments` or `spec.preprocessing` as the message says.",
    Reason.NOT_IN_IMAGE: (
        "Name an image in `spec.image` that has what the message names, built from the trainer image; or leave out what "
        "needs it."
    ),
    Reason.CHECKPOINT_NOT_FOUND: (
        "Set `spec.resumeFrom` to `auto`, `never`, or the path of a checkpoint with a manifest. Where it is `required`: give the "
        "claim back what it held, then raise `spec.retry`; or begin anew in a job of another name."
    ),
    Reason.CHECKPOINT_MISMATCH: (
        "The checkpoint is of other data, another model or batch size: set `spec.resumeFrom: never`, or train with what "
        "it was made with."
    ),
    Reason.PREPARED_DAMAGED: (
        "Nothing: it is prepared again, and training goes on from its last checkpoint. If it happens again, look at the "
        "storage, and at who else writes to the claim."
    ),
    Reason.VOLUME_NOT_WRITABLE: (
        "Let group 10001 write to the volume (`chgrp 10001` and `chmod g+rwx` on its folder where the storage does not "
        "do that by itself), mount it writable, or name another claim in `spec.storage.claimName`."
    ),
    Reason.VOLUME_UNREADABLE: (
        "Let the pods' user (uid 10001) read what the message names, or move it away: then training goes on without it. It is "
        "tried again by itself."
    ),
    Reason.VOLUME_FULL: (
        "Make the claim larger (`kubectl edit pvc`) or delete what is old on it: a job that has not failed goes on by itself "
        f"then, else raise `spec.retry`. A lower `save_total_limit` needs less, {_ANEW}."
    ),
    Reason.VOLUME_FAILED: (
        "Look at the storage if it does not pass: its server, its disk, the way there (`kubectl describe pvc`). It is tried "
        "again by itself, at growing distances, until `spec.activeDeadlineSeconds`."
    ),
    Reason.VOLUME_UNSUITABLE: (
        "Name a claim with a POSIX file system in `spec.storage.claimName`, or its class in `spec.storage.storageClassName`: a "
        "disk, NFS, a parallel file system. Object storage that is mounted as a folder can't rename one; where it offers a "
        "hierarchical namespace it can."
    ),
    Reason.NON_FINITE: (
        f"Lower `learning_rate`, set `max_grad_norm`, or train in bf16 or fp32 in place of fp16, {_ANEW}."
    ),
    Reason.OUT_OF_MEMORY: (
        "Give more memory in `spec.resources.limits`, or lower `per_device_train_batch_size` and raise "
        "`gradient_accumulation_steps` by the same factor, or set `activation_checkpointing: true`, "
        f"{_ANEW}."
    ),
    Reason.RANK_FAILED: _LOGS,
    Reason.RANK_KILLED: (
        "SIGKILL mostly means that the machine was short of memory: give more in `spec.resources`, "
        f"{_ANEW}. Any other signal is a crash inside a library: the last lines and the log of the pod "
        "(`kubectl logs`) say where; raise `spec.retry` to start again."
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
        f"Raise `ephemeral-storage` in `spec.resources.limits`, {_ANEW}, or write less to /tmp."
    ),
    ClusterReason.CONTAINER_FAILED: _LOGS,
    ClusterReason.INIT_CONTAINER_FAILED: (
        "Read the container's log (`kubectl logs -c`). What it needs from outside can be mended, then raise "
        f"`spec.retry`; the container itself is changed in `spec.template`, {_ANEW}."
    ),
    ClusterReason.CONTAINER_KILLED: (
        "Give more memory in `spec.resources` if the system was short of it; else read the log of the pod."
    ),
    ClusterReason.TRAINER_MISSING: (
        "Name an image built from the trainer image (it must hold python and the package finetune_trainer) in "
        f"`spec.image`, or leave the field out, {_ANEW}."
    ),
    ClusterReason.NOT_STARTED: "Check image, command and security settings of the pod (`kubectl describe pod`).",
    ClusterReason.UNKNOWN: _LOGS,
    ClusterReason.START_DEADLINE: (
        "Free or add what the message names: it is tried again by itself, at growing distances. "
        "`spec.startDeadlineSeconds` says how long each try waits."
    ),
    ClusterReason.DEADLINE: (
        "Raise `spec.activeDeadlineSeconds` and `spec.retry`: training goes on from its last checkpoint."
    ),
    ClusterReason.BACKOFF_LIMIT: _LOGS,
}


def resolution(reason: str) -> str:
    """Return the way out for a reason."""
    return RESOLUTIONS.get(reason, _LOGS)


def with_way_out(message: str, way_out: str, limit: int = 4096) -> str:
    """Join a message and its way out, where there is anything to do; a message that is too long is cut."""
    if way_out.startswith("Nothing"):
        return message[:limit]
    advice = f". What to do: {way_out}"
    room = limit - len(advice)
    text = message.rstrip(". ")
    return (text if len(text) <= room else f"{text[: room - 4]} ...") + advice
