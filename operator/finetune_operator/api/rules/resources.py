"""Rules of `spec.resources` and of what counts accelerators: quantities, devices, and names no machine has."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, at_least_zero, first, whole

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

_EXTENDED = "k.contains('/') && !k.contains('kubernetes.io/')"
_COUNT = (
    f"self.resources.limits.map(k, k.matches('{ACCELERATORS}') && {whole('self.resources.limits[k]')} ? "
    "int(string(self.resources.limits[k])) : 0).sum()"
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

RULES = RESOURCES
