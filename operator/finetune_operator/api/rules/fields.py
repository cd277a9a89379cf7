"""Rules of a spec by itself: what must be given together, what excludes each other, what is the system's."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, at_least_zero, cel_list, exactly_one, first, starts_with_any, whole

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MAX_LENGTH = 46
"""A Job's pods are named after it: `-train-`, five digits of attempt and three of index must fit into 63."""

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

ACCELERATORS = (
    "^(nvidia[.]com/(gpu|mig-.*)|amd[.]com/gpu|gpu[.]intel[.]com/.*|google[.]com/tpu|habana[.]ai/gaudi"
    "|aws[.]amazon[.]com/neuron.*)$"
)
"""The accelerators that the operator counts unless its settings say otherwise."""

MISSPELT_ACCELERATORS: dict[str, str] = {
    # Its name -> other ways to write it, in any case.
    "nvidia.com/gpu": "(www[.])?nvidia([.](com|io|org))?/gpus?",
    "amd.com/gpu": "(www[.])?amd([.](com|io|org))?/gpus?",
    "google.com/tpu": "(cloud[.])?(google|googleapis)([.]com)?/tpus?",
    "habana.ai/gaudi": "habana([.](ai|com|io))?/(gaudis?|gaudi2|gaudi3|hpus?)",
    "aws.amazon.com/neuron": "(aws|amazon|aws[.]amazon)([.]com)?/neurons",
}
"""Names so near to an accelerator's that no device plugin can mean another thing by them."""

_DOMAIN = "([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_PATH = "[a-z0-9]+(([_.]|__|-+)[a-z0-9]+)*"
IMAGE_PATTERN = (
    f"^(({_DOMAIN}([.]{_DOMAIN})*|\\[[a-fA-F0-9:]+\\])(:[0-9]+)?/)?{_PATH}(/{_PATH})*"
    "(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?"
    "(@[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"
)
"""The grammar of image names that container runtimes share."""

OBJECT_NAME_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
NAMED_OBJECTS: dict[str, str] = {
    # Path of a field that names an object -> its kind.
    "spec.storage.claimName": "PersistentVolumeClaim",
    "spec.storage.storageClassName": "StorageClass",
    "spec.volumes[].claimName": "PersistentVolumeClaim",
    "spec.volumes[].configMap": "ConfigMap",
    "spec.volumes[].secret": "Secret",
    "spec.env[].valueFrom.secretKeyRef.name": "Secret",
    "spec.env[].valueFrom.configMapKeyRef.name": "ConfigMap",
    "spec.hub.tokenSecretRef.name": "Secret",
}
KEYS = (
    "spec.env[].valueFrom.secretKeyRef.key",
    "spec.env[].valueFrom.configMapKeyRef.key",
    "spec.hub.tokenSecretRef.key",
)

_EXTENDED = "k.contains('/') && !k.contains('kubernetes.io/')"
_COUNT = (
    f"self.resources.limits.map(k, k.matches('{ACCELERATORS}') && {whole('self.resources.limits[k]')} ? "
    "int(string(self.resources.limits[k])) : 0).sum()"
)

_GOOD_NAME = (
    f"must be at most {NAME_MAX_LENGTH} lower case letters, digits and hyphens, beginning with a letter and ending "
    "with a letter or digit: the Service and the Jobs are named after it"
)
_ONE_DATASET = "give exactly one of name (a dataset on the Hub) and files (on a mounted volume)"
_ONLY_HUB = "only means something for a dataset on the Hub: leave it out, or give name in place of files"
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

SOURCES = (
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
    Rule("spec.dataset", exactly_one("name", "files"), _ONE_DATASET),
    Rule(
        "spec.dataset.name",
        "self.matches('^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$')",
        "must be a dataset on the Hub (name or owner/name); data on a volume goes under files",
        "self",
    ),
    *(
        Rule("spec.dataset", f"!has(self.{field}) || !has(self.files)", _ONLY_HUB, field=f".{field}")
        for field in ("config", "revision", "splits")
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

_NAMED = "k.contains('/') || k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-')"
_COMPARABLE = (
    "has(self.limits) && k in self.limits && isQuantity(string(self.requests[k])) && isQuantity(string(self.limits[k]))"
)
_COMPARED = "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k])))"
_ONLY_REQUESTED = f"{_EXTENDED} && (!has(self.limits) || !(k in self.limits) || {_COMPARABLE} && {_COMPARED} != 0)"
_OVER_LIMIT = f"{_COMPARABLE} && {_COMPARED} > 0"
_ONLY, _OVER = first("self.requests", _ONLY_REQUESTED), first("self.requests", _OVER_LIMIT)
_FRACTION = first("self", f"{_EXTENDED} && !{whole('self[k]')}")


def _misspelt(right: str, pattern: str) -> Rule:
    """An accelerator by a name that no device plugin gives it: such a pod would wait for ever."""
    wrong = f"k != '{right}' && k.matches('^(?i:{pattern})$')"
    return Rule(
        "spec.resources.limits",
        f"!self.exists(k, {wrong})",
        f"is no resource of any machine: did you mean {right}?",
        first("self", wrong),
    )


RESOURCES = (
    *(
        Rule(
            f"spec.resources.{which}",
            f"self.all(k, {_NAMED})",
            "is an unknown resource: give cpu, memory, ephemeral-storage, or a device with its domain, such as "
            "nvidia.com/gpu",
            first("self", f"!({_NAMED})"),
        )
        for which in ("limits", "requests")
    ),
    *(_misspelt(right, pattern) for right, pattern in MISSPELT_ACCELERATORS.items()),
    *(
        Rule(
            f"spec.resources.{which}[]",
            f"isQuantity(string(self)) && {at_least_zero('self')}",
            "must be a quantity, not below 0, such as 2, 500m or 16Gi",
            "string(self)",
        )
        for which in ("limits", "requests")
    ),
    Rule(
        "spec.resources.limits",
        f"self.all(k, !({_EXTENDED}) || {whole('self[k]')})",
        "is no whole number: devices are given out whole, give a plain number, such as 1",
        f"{_FRACTION} + ': ' + string(self[{_FRACTION}])",
    ),
    Rule(
        "spec.resources",
        f"!has(self.requests) || !self.requests.exists(k, {_ONLY_REQUESTED})",
        "differs from the limits: a device has the same number in requests and limits, give it in limits alone",
        f"{_ONLY} + ': ' + string(self.requests[{_ONLY}])",
        field=".requests",
    ),
    Rule(
        "spec.resources",
        f"!has(self.requests) || !self.requests.exists(k, {_OVER_LIMIT})",
        "is over its limit: raise the limit or lower the request",
        f"{_OVER} + ': ' + string(self.requests[{_OVER}]) + ' (limit ' + string(self.limits[{_OVER}]) + ')'",
        field=".requests",
    ),
    Rule(
        "spec",
        f"!has(self.processesPerNode) || !has(self.resources) || !has(self.resources.limits) || {_COUNT} == 0 || "
        f"self.processesPerNode <= {_COUNT}",
        "is more ranks than accelerators: lower it, or raise the accelerators in resources.limits",
        "self.processesPerNode",
        field=".processesPerNode",
    ),
)

IMAGE = (
    Rule(
        "spec.image",
        f"self.matches(r'{IMAGE_PATTERN}')",
        "is no image name: write it as registry.example.com/team/trainer:tag, lower case but for the tag",
        "self",
    ),
)

REFERENCES = (
    *(
        Rule(
            path,
            f"self.matches('{OBJECT_NAME_PATTERN}')",
            f"can't be the name of a {kind}: lower case letters, digits, `-` and `.`, beginning and ending with a letter or "
            "digit",
            "self",
        )
        for path, kind in NAMED_OBJECTS.items()
    ),
    *(
        Rule(path, "self.matches('^[-._a-zA-Z0-9]+$')", "can't be a key: letters, digits, `-`, `_` and `.`", "self")
        for path in KEYS
    ),
)

RULES = (*OBJECT, *SOURCES, *STORAGE, *ENV, *VOLUMES, *RESOURCES, *IMAGE, *REFERENCES)
