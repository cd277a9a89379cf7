"""The message of a scheduler that finds no machine: from its one long sentence to words about the spec. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_COUNTS = re.compile(r"^\d+/(?P<total>\d+) nodes? (?:is|are) available: (?P<why>.*)$", re.DOTALL)
_REST = re.compile(r"[.,]? *(?:no new claims to deallocate|preemption:).*$", re.DOTALL)
_PART = re.compile(r"^(?P<count>\d+) (?:node\(s\) )?(?P<text>.*)$", re.DOTALL)
_NEXT = re.compile(r", (?=\d+ )")
_TOO_LITTLE = re.compile(r"^Insufficient (?P<resource>\S+)$")
_UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims?|available persistent volumes to bind|not bound")
_CLAIM = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" (?P<text>.*)$')

_WORDS: Mapping[str, str] = {
    "Too many pods": "are full of pods",
    "didn't match Pod's node affinity/selector": "do not match its node selector or affinity",
    "were unschedulable": "are cordoned",
    "had volume node affinity conflict": "do not reach its volume",
    "didn't match pod topology spread constraints": "do not match its topology spread constraints",
    "didn't match pod anti-affinity rules": "do not match its anti-affinity rules",
    "didn't match pod affinity rules": "do not match its pod affinity rules",
}
_FIELDS: Mapping[str, str] = {
    "didn't match Pod's node affinity/selector": "`nodeSelector` or `affinity` in `spec.template`",
    "didn't match pod topology spread constraints": "`topologySpreadConstraints` in `spec.template`",
    "didn't match pod anti-affinity rules": "`affinity` in `spec.template`",
    "didn't match pod affinity rules": "`affinity` in `spec.template`",
}


@dataclass(frozen=True)
class NoPlace:
    """Lack that keeps the scheduler from placing a pod."""

    lack: str
    """The lack in words: `2 of 2 machines have too little nvidia.com/gpu (it asks for 1)`."""
    fields: tuple[str, ...]
    """Fields of the spec whose change would help."""
    outside: str
    """Help from outside of the spec; empty where there is none."""
    claims: bool = False
    """Whether the reason is a claim that is not bound."""


def no_place(message: str, requests: Mapping[str, str]) -> NoPlace:
    """Read the scheduler's message. `requests`: resource -> quantity that the pod asks for."""
    counts = _COUNTS.match(message)
    if counts is None:
        return NoPlace(message.rstrip(". "), ("`spec.resources` or `spec.template`",), "")
    total, why = int(counts["total"]), _REST.sub("", counts["why"]).rstrip(". ").removesuffix(". not found")
    if _UNBOUND.search(why) or _CLAIM.search(why):
        return NoPlace(why, (), "", claims=True)
    parts = [match for part in _NEXT.split(why) if (match := _PART.match(part))]
    if not parts:
        return NoPlace(why, ("`spec.resources` or `spec.template`",), "")
    lacks = [_lack(match["text"], int(match["count"]), total, requests) for match in parts]
    resources = [little["resource"] for part in parts if (little := _TOO_LITTLE.match(part["text"]))]
    outside = f"free or add machines with {', '.join(resources)}" if resources else "free or add such machines"
    return NoPlace("; ".join(lacks), tuple(dict.fromkeys(_fields(parts))), outside)


def _lack(text: str, count: int, total: int, requests: Mapping[str, str]) -> str:
    who = f"{count} of {total} machine{'s' * (total > 1)}"
    if (little := _TOO_LITTLE.match(text)) is not None:
        resource = little["resource"]
        wanted = f" (it asks for {requests[resource]})" if resource in requests else ""
        return f"{who} {'have' if count > 1 else 'has'} too little {resource}{wanted}"
    if text.startswith("had untolerated taint"):
        taint = text[text.find("{") :] if "{" in text else text
        return f"{who} {'have' if count > 1 else 'has'} the taint {taint}, which it does not tolerate"
    return f"{who} {_WORDS.get(text, text)}"


def _fields(parts: Iterable[re.Match[str]]) -> Iterator[str]:
    for part in parts:
        text = part["text"]
        if _TOO_LITTLE.match(text) is not None:
            yield "`spec.resources`"
        elif text.startswith("had untolerated taint"):
            yield "`tolerations` in `spec.template`"
        elif text in _FIELDS:
            yield _FIELDS[text]
    # what is left (a cordoned machine, a full one) is no matter of the spec
