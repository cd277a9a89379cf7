"""The obstacle that keeps a pod from starting, in the user's words: object, field of the spec, way out. Pure.

The texts of kubelet, container runtime and scheduler come in as they are; one that is not known is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum

from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.objects import ContainerView, PodView
from finetune_operator.plan.observed.scheduler_message import no_place
from finetune_operator.plan.types import PodEvent


class Obstacle(StrEnum):
    """Reasons of our own: those of Kubernetes say less, or change back and forth."""

    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_NOT_FOUND = "SecretKeyNotFound"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    CONFIG_MAP_KEY_NOT_FOUND = "ConfigMapKeyNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    SIDECAR_FAILS = "SidecarFails"
    NODE_SILENT = "NodeSilent"


_CREATE = "create it; the job goes on by itself then"

ADVICE: Mapping[str, str] = {
    Obstacle.SECRET_NOT_FOUND: _CREATE,
    Obstacle.SECRET_KEY_NOT_FOUND: "add the key to it; the job goes on by itself then",
    Obstacle.CONFIG_MAP_NOT_FOUND: _CREATE,
    Obstacle.CONFIG_MAP_KEY_NOT_FOUND: "add the key to it; the job goes on by itself then",
    Obstacle.IMAGE_PULL_FAILED: "push the image, or give its registry's Secret in `imagePullSecrets` of `spec.template`",
    Obstacle.CLAIM_NOT_BOUND: (
        "offer a volume that fits (`kubectl describe pvc` says what is missing); the job goes on by itself then"
    ),
    Obstacle.SIDECAR_FAILS: "read the sidecar's log (`kubectl logs -c`)",
    Obstacle.NODE_SILENT: (
        "see why its kubelet does not report; if the machine is gone, delete the Node object: the job starts again at "
        "once then"
    ),
    "FailedScheduling": "free or add such machines",
    "FailedMount": "create the Secret, ConfigMap or volume that is named",
    "FailedAttachVolume": "check that the volume is not attached to another machine",
    "FailedCreate": "raise the namespace's quota, or change what its admission rules refuse",
    "InvalidImageName": "an image is named `registry/repository:tag`, in lower case",
    "CreateContainerConfigError": "create the object, or the key in it, that the message names",
    "CreateContainerError": "check the container's settings in `spec.template`",
    "RunContainerError": "check the container's settings in `spec.template`",
    "FailedCreatePodSandBox": "look at the machine's network and container runtime",
}
"""Reasons that say what keeps pods from starting, or from being seen, and what helps without a change of the spec."""

LAST_WORDS_MAX = 500
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
_FIELDS_AT_FAULT: Mapping[str, str] = {
    Obstacle.IMAGE_PULL_FAILED: "`spec.image`",
    "InvalidImageName": "`spec.image`",
    Obstacle.CLAIM_NOT_BOUND: "`spec.storage`",
    Obstacle.SIDECAR_FAILS: "`spec.template`",
}

_MISSING = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found', re.IGNORECASE)
_NO_KEY = re.compile(r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) [^/\s]+/(?P<name>[^\s,]+)")
_NO_KEY_IN_VOLUME = re.compile(
    r'volume "(?P<volume>[^"]+)" : .*references non-existent (?P<kind>secret|config) key: (?P<key>\S+)', re.DOTALL
)
_PULL_PREFIX = re.compile(
    r'^(?:Back-off pulling image "[^"]*"(?:: )?)?(?:ErrImagePull: )?(?:rpc error: code = \w+ desc = )?'
)
_RESTARTED = re.compile(r"^Back-off restarting failed container (?P<name>\S+) in pod")
_IMAGE = re.compile(r'image "(?P<image>[^"]+)"')


def from_status(pod: PodView) -> Iterator[Fact]:
    """Find the obstacles that the pod's own status tells."""
    if pod.unschedulable is not None:
        yield _unschedulable(pod, pod.unschedulable)
    for container in (*([pod.trainer] if pod.trainer else []), *pod.others):
        if (blocker := _of_container(pod, container)) is not None:
            yield blocker


def from_event(pod: PodView, event: PodEvent) -> Fact:
    """Return the obstacle that an event about the pod tells."""
    if event.reason == "FailedScheduling":
        return _unschedulable(pod, event.message)
    if (restarted := _RESTARTED.search(event.message)) is not None:
        container = next((other for other in pod.others if other.name == restarted["name"]), None)
        if container is not None:
            return _sidecar(pod, container)
    missing = _reference(pod, event.message)
    return missing or fact(event.reason, f"{pod.who}: {event.message}")


def fact(reason: str, message: str, advice: str | None = None) -> Fact:
    """Make a condition that does not hold, with the way out."""
    way_out = advice or ADVICE.get(reason)
    text = message.rstrip(". ")
    return Fact(False, reason, f"{text}. What to do: {way_out}." if way_out else f"{text}.")


RESOURCES, HELPER_RESOURCES = "`spec.resources`", "`spec.helperResources`"
_RESOURCES_OF = {"prepare": HELPER_RESOURCES, "publish": HELPER_RESOURCES}


def change(pod: PodView, fields: str) -> str:
    """Say how a user changes these fields: once training pods are made, all but one are fixed."""
    if pod.role == "prepare":
        return f"correct {fields}: the edit starts the job again"
    if fields == HELPER_RESOURCES:
        return f"correct {fields} and raise `spec.retry`"
    return (
        f"delete this job and apply one of another name with another {fields} (a spec is fixed once its pods are made)"
    )


def _of_container(pod: PodView, container: ContainerView) -> Fact | None:
    reason, message = container.waiting_reason, container.waiting_message
    if reason in _PULLING:
        return _image(pod, container, message)
    if _ends_again(pod, container):
        return _sidecar(pod, container)
    if reason is None or reason not in ADVICE:
        return None
    if (missing := _reference(pod, message)) is not None:
        return missing
    advice = ADVICE[reason]
    if reason in _FIELDS_AT_FAULT:
        advice = f"{advice}; {change(pod, _field(container, _FIELDS_AT_FAULT[reason]))}"
    return fact(reason, f"{pod.who}, container {container.name}: {message}", advice)


def _ends_again(pod: PodView, container: ContainerView) -> bool:
    """Return whether a sidecar ends again and again: its state shows now its end, now its next start, as long as kubelet tries."""
    again = container.restarts > 0 and bool(container.exit_code) and pod.phase == "Pending"
    return again or container.waiting_reason == "CrashLoopBackOff"


def _sidecar(pod: PodView, container: ContainerView) -> Fact:
    code = container.exit_code or container.last_exit_code
    last_words = (container.ended_message or container.last_message).strip()
    text = f"container {container.name} of {pod.who} ends again and again"
    text += f" with exit code {code}" if code is not None else ""
    text += f": {last_words[-LAST_WORDS_MAX:]}" if last_words else ""
    advice = f"read its log (`kubectl logs {pod.name} -c {container.name}`); or {change(pod, '`spec.template`')}"
    return fact(Obstacle.SIDECAR_FAILS, text, advice)


def _field(container: ContainerView, own: str) -> str:
    return own if container.trainer else f"`{container.name}` in `spec.template`"


def _image(pod: PodView, container: ContainerView, message: str) -> Fact:
    cause = _PULL_PREFIX.sub("", message).strip() or message
    named = _IMAGE.search(message)
    image = named["image"] if named else container.image
    text = f"{pod.who} can't pull the image {image!r} of container {container.name}: {cause}"
    field = _field(container, _FIELDS_AT_FAULT[Obstacle.IMAGE_PULL_FAILED])
    advice = f"{ADVICE[Obstacle.IMAGE_PULL_FAILED]}: it is tried again; or {change(pod, field)}"
    return fact(Obstacle.IMAGE_PULL_FAILED, text, advice)


def _unschedulable(pod: PodView, message: str) -> Fact:
    obstacle = no_place(message, pod.requests)
    if obstacle.claims:
        text = f"{_claims(pod)} is not bound to a volume ({obstacle.lack}): {pod.pod} waits for it"
        advice = f"{ADVICE[Obstacle.CLAIM_NOT_BOUND]}; or {change(pod, '`spec.storage`')}"
        return fact(Obstacle.CLAIM_NOT_BOUND, text, advice)
    text = f"no machine takes {pod.pod}: {obstacle.lack}"
    ways = [obstacle.outside] if obstacle.outside else []
    fields = [_RESOURCES_OF.get(pod.role, field) if field == RESOURCES else field for field in obstacle.fields]
    ways += [change(pod, " and ".join(fields))] if fields else []
    return fact("FailedScheduling", text, "; or ".join(ways) or None)


def _claims(pod: PodView) -> str:
    """Name the claims of the pod; the one that is made for the job comes first, with what it asks for."""
    storage, name = pod.job.spec.storage, manifests.claim_name(pod.job)
    wanted = ""
    if storage.claim_name is None:
        storage_class = storage.storage_class_name
        of_class = f"storage class {storage_class!r}" if storage_class else "the default storage class"
        wanted = f" ({storage.size} of {of_class})"
    others = sorted({volume.claim_name for volume in pod.job.spec.volumes if volume.claim_name} - {name})
    return " or ".join([f"claim {name!r}{wanted}", *(f"claim {other!r}" for other in others)])


def _reference(pod: PodView, message: str) -> Fact | None:
    """Find the Secret or ConfigMap, or the key in one, that is not there."""
    namespace = pod.job.metadata.namespace
    if (match := _NO_KEY.search(message)) is not None:
        kind, name, key = match["kind"], match["name"], match["key"]
    elif (match := _NO_KEY_IN_VOLUME.search(message)) is not None:
        kind = "Secret" if match["kind"] == "secret" else "ConfigMap"
        name, key = _object_of_volume(pod, match["volume"]), match["key"]
    elif (match := _MISSING.search(message)) is not None:
        kind, name, key = "Secret" if match["kind"].lower() == "secret" else "ConfigMap", match["name"], None
    else:
        return None
    field = _field_of(pod, kind, name)
    prefix = f"{field}: " if field else ""
    if key is None:
        reason = Obstacle.SECRET_NOT_FOUND if kind == "Secret" else Obstacle.CONFIG_MAP_NOT_FOUND
        return fact(reason, f"{prefix}there is no {kind} {name!r} in namespace {namespace!r}")
    reason = Obstacle.SECRET_KEY_NOT_FOUND if kind == "Secret" else Obstacle.CONFIG_MAP_KEY_NOT_FOUND
    return fact(reason, f"{prefix}{kind} {name!r} has no key {key!r}")


def _object_of_volume(pod: PodView, volume: str) -> str:
    token = pod.job.spec.hub.token_secret_ref
    for declared in pod.job.spec.volumes:
        if declared.name == volume:
            return declared.secret or declared.config_map or volume
    return token.name if token is not None and volume.endswith("hub-token") else volume


def _field_of(pod: PodView, kind: str, name: str) -> str:
    """Return the field of the spec that names a Secret or ConfigMap; empty where none does (a template's)."""
    spec, token = pod.job.spec, pod.job.spec.hub.token_secret_ref
    if kind == "Secret" and token is not None and token.name == name:
        return "spec.hub.tokenSecretRef"
    script = spec.script.config_map if spec.script is not None else None
    if kind == "ConfigMap" and script is not None and script.name == name:
        return "spec.script.configMap"
    credentials = spec.dataset.credentials_secret_ref if spec.dataset is not None else None
    if kind == "Secret" and credentials is not None and credentials.name == name and pod.role == "prepare":
        return "spec.dataset.credentialsSecretRef"
    for variable in spec.env:
        source = variable.value_from
        ref = (source.secret_key_ref if kind == "Secret" else source.config_map_key_ref) if source else None
        if ref is not None and ref.name == name:
            return f"spec.env[{variable.name}]"
    for volume in spec.volumes:
        if name == (volume.secret if kind == "Secret" else volume.config_map):
            return f"spec.volumes[{volume.name}].{'secret' if kind == 'Secret' else 'configMap'}"
    return ""
