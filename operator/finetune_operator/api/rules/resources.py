"""Rules of `resources`, `helperResources` and `processesPerNode`: quantities, devices, and names that no machine has."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, at_least_zero, first, whole

WHOLE_ACCELERATORS = "^(nvidia[.]com/gpu(-.*)?|amd[.]com/(gpu|.*_nps[0-9]))$"
"""Resources of which each one is a device for a rank, unless the operator's settings say otherwise."""
PARTS = "^nvidia[.]com/(mig-.*|gpu.*[.]shared)$"
"""Parts of a device: a process computes on one of them, however many it is given."""

UNUSABLE = (
    "^((cloud-tpus[.])?google[.]com/(tpu|v[0-9]).*|habana[.]ai/.*|aws[.]amazon[.]com/neuron.*|[gn]pu[.]intel[.]com/.*"
    "|huawei[.]com/.*|cambricon[.]com/.*)$"
)
"""Devices that the training program cannot compute on: it knows CUDA, and ROCm, which looks the same to it."""

MISSPELT_ACCELERATORS: dict[str, str] = {
    # Name -> pattern of other ways to write it, in any case.
    "nvidia.com/gpu": "(www[.])?nvidia([.](com|io|org))?/gpus?",
    "amd.com/gpu": "(www[.])?amd([.](com|io|org))?/gpus?",
}
"""Names so near to an accelerator's name that no device plugin can mean another thing by them."""

_EXTENDED = "k.contains('/') && !k.contains('kubernetes.io/')"
_COUNT = (
    f"self.resources.limits.map(k, {whole('self.resources.limits[k]')} ? (k.matches('{WHOLE_ACCELERATORS}') ? "
    f"int(string(self.resources.limits[k])) : k.matches('{PARTS}') && string(self.resources.limits[k]) != '0' ? 1 : 0) : 0).sum()"
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
_SEVERAL = f"k.matches('{PARTS}') && {whole('self[k]')} && !(string(self[k]) in ['0', '1'])"
_LIMITS = "self.resources.limits"
_UNUSABLE = f"k.matches('{UNUSABLE}')"


def _misspelt(right: str, pattern: str) -> Rule:
    """Make the rule against a misspelt accelerator: no device plugin serves it, and a pod that asks for it would wait for ever."""
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
            f"spec.resources.{part}",
            f"self.all(k, {_NAMED})",
            "is an unknown resource: give cpu, memory, ephemeral-storage, or a device with its domain, such as "
            "nvidia.com/gpu",
            first("self", f"!({_NAMED})"),
        )
        for part in ("limits", "requests")
    ),
    *(_misspelt(right, pattern) for right, pattern in MISSPELT_ACCELERATORS.items()),
    Rule(
        "spec",
        f"!has(self.task) || !has(self.resources) || !has(self.resources.limits) || !{_LIMITS}.exists(k, {_UNUSABLE})",
        "is no device that tasks run on: ask for GPUs of NVIDIA or AMD, such as nvidia.com/gpu: 1, or leave it out and "
        "train on the CPU; a program of your own (script) may use it",
        first(_LIMITS, _UNUSABLE),
        field=".resources.limits",
    ),
    Rule(
        "spec.resources.limits",
        f"!self.exists(k, {_SEVERAL})",
        "is parts of devices, of which a pod computes on one: ask for 1, or for whole ones, such as nvidia.com/gpu",
        f"{first('self', _SEVERAL)} + ': ' + string(self[{first('self', _SEVERAL)}])",
    ),
    *(
        Rule(
            f"spec.resources.{part}[]",
            f"isQuantity(string(self)) && {at_least_zero('self')}",
            "must be a quantity, not below 0, such as 2, 500m or 16Gi",
            "string(self)",
        )
        for part in ("limits", "requests")
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

_PLAIN = "k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-')"
HELPERS = (
    *(
        Rule(
            f"spec.helperResources.{part}",
            f"self.all(k, {_PLAIN})",
            "is nothing that preparing and publishing use: give cpu, memory or ephemeral-storage; devices belong in resources",
            first("self", f"!({_PLAIN})"),
        )
        for part in ("limits", "requests")
    ),
    *(
        Rule(
            f"spec.helperResources.{part}[]",
            f"isQuantity(string(self)) && {at_least_zero('self')}",
            "must be a quantity, not below 0, such as 2, 500m or 16Gi",
            "string(self)",
        )
        for part in ("limits", "requests")
    ),
    Rule(
        "spec.helperResources",
        f"!has(self.requests) || !self.requests.exists(k, {_OVER_LIMIT})",
        "is over its limit: raise the limit or lower the request",
        f"{_OVER} + ': ' + string(self.requests[{_OVER}]) + ' (limit ' + string(self.limits[{_OVER}]) + ')'",
        field=".requests",
    ),
)

RULES = (*RESOURCES, *HELPERS)
