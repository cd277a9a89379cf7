"""Rules between fields of a spec: which go together, which exclude each other, which names are the system's."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, cel_list, exactly_one, starts_with_any

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MAX_LENGTH = 46
"""Length of a job's name, at most: its pods' names add `-train-`, five digits of attempt and three of index, and must fit into 63."""

RESERVED_MOUNT_PATHS = (
    "/output",
    "/etc/finetune",
    "/var/run/finetune",
    "/run/finetune",
    "/tmp",
    "/dev",
    "/proc",
    "/sys",
)
RESERVED_VOLUME_PREFIX = "finetune-"
RESERVED_ENV = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "JOB_COMPLETION_INDEX",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
)
RESERVED_ENV_PREFIXES = ("FINETUNE_", "TORCHELASTIC_", "KUBEFLOW_TRAINER_", "ACCELERATE_")
RESERVED_ENV_ADVICE = "is set by the system: leave it out"
TOKEN_ENV = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
TOKEN_ENV_ADVICE = "would hand the token to every pod: name its Secret in hub.tokenSecretRef"
ENDPOINT_ENV = "HF_ENDPOINT"
ENDPOINT_ENV_ADVICE = "is set by the system: give hub.endpoint"

_GOOD_NAME = (
    f"must be at most {NAME_MAX_LENGTH} lower case letters, digits and hyphens, beginning with a letter and ending "
    "with a letter or digit: the Service and the Jobs are named after it"
)
_ONLY_NEW_CLAIM = "is about the claim that the job makes: leave it out, or give size in place of claimName"

OBJECT = (
    Rule(
        "",
        "oldSelf.hasValue() || "
        f"self.metadata.name.matches('{NAME_PATTERN}') && size(self.metadata.name) <= {NAME_MAX_LENGTH}",
        _GOOD_NAME,
        "self.metadata.name",
        field=".metadata.name",
        optional_old_self=True,
    ),
)

MODEL = (
    Rule(
        "spec.model.name",
        "self.startsWith('/') || self.matches('^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$')",
        "must be a model on the Hub (name or owner/name) or an absolute path on a mounted volume",
        "self",
    ),
    Rule(
        "spec.model",
        "!has(self.revision) || !self.name.startsWith('/')",
        "only means something for a model on the Hub: leave it out for a path",
        "self.revision",
        field=".revision",
    ),
)

STORAGE = (
    Rule(
        "spec.storage",
        exactly_one("size", "claimName"),
        "give exactly one of size (of a claim to make) and claimName (of a claim that is there)",
    ),
    Rule(
        "spec.storage.size",
        "isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
        "must be a quantity above 0, such as 50Gi",
        "string(self)",
    ),
    *(
        Rule("spec.storage", f"!has(self.{field}) || !has(self.claimName)", _ONLY_NEW_CLAIM, field=f".{field}")
        for field in ("storageClassName", "accessMode", "retain")
    ),
    Rule(
        "spec",
        "!has(self.nodes) || self.nodes <= 1 || !has(self.storage.accessMode) || "
        "self.storage.accessMode == 'ReadWriteMany'",
        "must be ReadWriteMany where nodes is over 1: every node writes to the claim",
        "self.storage.accessMode",
        field=".storage.accessMode",
    ),
)

ENV = (
    Rule("spec.env[]", exactly_one("value", "valueFrom"), "give exactly one of value and valueFrom"),
    Rule(
        "spec.env[].valueFrom",
        exactly_one("secretKeyRef", "configMapKeyRef"),
        "give exactly one of secretKeyRef and configMapKeyRef",
    ),
    Rule(
        "spec.env[]",
        f"!(self.name in {cel_list(RESERVED_ENV)}) && !{starts_with_any('self.name', RESERVED_ENV_PREFIXES)}",
        RESERVED_ENV_ADVICE,
        "self.name",
        field=".name",
    ),
    Rule(
        "spec.env[]",
        f"!(self.name in {cel_list(TOKEN_ENV)})",
        TOKEN_ENV_ADVICE,
        "self.name",
        field=".name",
    ),
    Rule(
        "spec.env[]",
        f"self.name != '{ENDPOINT_ENV}'",
        ENDPOINT_ENV_ADVICE,
        "self.name",
        field=".name",
    ),
)

VOLUMES = (
    Rule(
        "spec.volumes[]",
        exactly_one("claimName", "configMap", "secret"),
        "give exactly one of claimName, configMap and secret",
    ),
    Rule(
        "spec.volumes[].name",
        f"!self.startsWith('{RESERVED_VOLUME_PREFIX}')",
        f"begins as the system's own names do ({RESERVED_VOLUME_PREFIX}): choose another",
        "self",
    ),
    Rule(
        "spec.volumes[].mountPath",
        "self.matches('^(/[^/:]+)+$') && !self.matches('/[.]{1,2}(/|$)')",
        "must be an absolute path without `..`, `.`, `:` and a slash at its end",
        "self",
    ),
    Rule(
        "spec.volumes[].mountPath",
        f"!{cel_list(RESERVED_MOUNT_PATHS)}.exists(p, "
        "self == p || self.startsWith(p + '/') || p.startsWith(self + '/'))",
        "is a path that the system mounts, or above or below one: choose another, such as /data",
        "self",
    ),
    Rule(
        "spec.volumes[].subPath",
        "!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",
        "must be a path within the volume, without `..`",
        "self",
    ),
    Rule(
        "spec.volumes",
        "self.all(v, self.exists_one(w, w.mountPath == v.mountPath))",
        "two volumes are mounted at one path: each needs a mountPath of its own",
    ),
)

RULES = (*OBJECT, *MODEL, *STORAGE, *ENV, *VOLUMES)
