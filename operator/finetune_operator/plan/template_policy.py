"""Rights that a job's pod template may ask of the cluster: those that reach beyond the job's own pods, each under a name.

An administrator lists the rights that jobs may use. A job asks for a right that the merged template has and the template
without the job's part does not: what the administrator gives to every job is never refused. Pure; this module knows pod
templates, no jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

FIELD = "spec.template"
SHOWN = 80
"""Characters of a value in a message."""


class Capability(StrEnum):
    """A kind of right, as the setting names it."""

    HOST_PATH = "hostPath"
    HOST_NETWORK = "hostNetwork"
    HOST_PROCESSES = "hostProcesses"
    PRIVILEGED = "privileged"
    NODE_NAME = "nodeName"
    NETWORK_VOLUMES = "networkVolumes"
    SERVICE_ACCOUNT = "serviceAccount"
    PRIORITY_CLASS = "priorityClass"
    RUNTIME_CLASS = "runtimeClass"


MEANINGS: Mapping[Capability, str] = {
    Capability.HOST_PATH: "folders of the machine",
    Capability.HOST_NETWORK: "the machine's network: hostNetwork, host ports, probes and hooks of another host",
    Capability.HOST_PROCESSES: "the machine's processes and memory: hostPID, hostIPC",
    Capability.PRIVILEGED: "more rights than an ordinary process: root, added capabilities, no seccomp or AppArmor profile",
    Capability.NODE_NAME: "a machine past the scheduler, with its taints and queues; a nodeSelector goes through it",
    Capability.NETWORK_VOLUMES: "volumes that the machine mounts from elsewhere with its own rights: nfs, iscsi, csi, ...",
    Capability.SERVICE_ACCOUNT: "a service account of the namespace, and its tokens",
    Capability.PRIORITY_CLASS: "another priority, which may preempt what others run",
    Capability.RUNTIME_CLASS: "another container runtime than the administrator's",
}
"""Meaning of each right, in the words of messages and documents."""

DEFAULT_ALLOWED = (
    Capability.NETWORK_VOLUMES,
    Capability.SERVICE_ACCOUNT,
    Capability.PRIORITY_CLASS,
    Capability.RUNTIME_CLASS,
)
"""Rights that jobs have by default: none that takes over a machine. Cloud identities need service accounts."""

NAMESPACED_VOLUMES = frozenset(
    {"configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
)
"""Sources of volumes whose content is from the job's namespace, or from a registry."""
ROOTS_VOLUMES = frozenset({"flexVolume", "gitRepo"})
"""Sources for which kubelet runs a program on the machine, as root."""
CREDENTIALS = ("serviceAccountToken", "podCertificate")
"""Sources of a projected volume that speak for a service account."""
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    }
)
"""Sysctls that change nothing outside of the pod (Pod Security Standards)."""
HARMLESS_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
UNSAID = (".allowPrivilegeEscalation", ".capabilities.drop")
"""Fields by which a container has too many rights if it says nothing of them."""
CONFINED = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
CONTAINERS = ("containers", "initContainers")
HANDLERS = ("lifecycle.postStart", "lifecycle.preStop", "livenessProbe", "readinessProbe", "startupProbe")


@dataclass(frozen=True)
class RequestedRight:
    """A right that a pod template asks for."""

    capability: Capability
    field: str
    """Path of the field below `spec.template`."""
    value: str

    def __str__(self) -> str:
        shown = self.value if len(self.value) <= SHOWN else f"{self.value[: SHOWN - 4]} ..."
        return (
            f"{FIELD}.{self.field}: {shown} is not for jobs here ({self.capability}: {MEANINGS[self.capability]}): leave it "
            f"out, or ask your administrator to add `{self.capability}` to the operator's setting `templateAllows`"
        )


def with_safe_defaults(merged: dict[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Secure the containers that a job's template names like the system's own, where they say nothing themselves."""
    named = {kind: _names(users, kind) for kind in CONTAINERS}
    spec = dict(merged["spec"])
    for kind in CONTAINERS:
        if named[kind]:
            spec[kind] = [
                _secured(container) if container["name"] in named[kind] else container for container in spec[kind]
            ]
    return {**merged, "spec": spec}


def _secured(container: Mapping[str, Any]) -> dict[str, Any]:
    context = dict(_map(container.get("securityContext")))
    if context.get("allowPrivilegeEscalation") is None:
        context["allowPrivilegeEscalation"] = False
    capabilities = dict(_map(context.get("capabilities")))
    if capabilities.get("drop") is None:
        capabilities["drop"] = ["ALL"]
    return {**container, "securityContext": {**context, "capabilities": capabilities}}


def off_limits(
    without_users: Mapping[str, Any],
    merged: Mapping[str, Any],
    *,
    users: Mapping[str, Any],
    defaults: Mapping[str, Any],
    allows: Iterable[Capability],
) -> tuple[str, ...]:
    """List the rights that a job's template asks for and jobs may not use, each with field, value and way out.

    `without_users`: the pod template before the job's part (`users`) was merged in; `defaults`: the administrator's part.
    """
    denied = frozenset(Capability) - frozenset(allows)
    before, after = (
        frozenset((*_asked(template), *_mounts(template, without_users))) for template in (without_users, merged)
    )
    new = sorted(
        (right for right in after - before if right.capability in denied), key=lambda right: (right.field, right.value)
    )
    changed = (
        f"{FIELD}.spec.initContainers[{name}]: is the administrator's, with rights that are not for jobs: neither it nor what "
        "it mounts can be changed; choose another name for yours"
        for name in _changed(merged, users=users, defaults=defaults)
        if _is_strong(name, after & before, denied)
    )
    return (*map(str, new), *changed)


def _is_strong(name: str, rights: Iterable[RequestedRight], denied: frozenset[Capability]) -> bool:
    """Return whether an init container asks for a denied right. A field of its security that it leaves out does not count."""
    own = (
        right
        for right in rights
        if right.field.startswith(f"spec.initContainers[{name}].") and right.capability in denied
    )
    return any(not right.field.endswith(UNSAID) for right in own)


def _changed(merged: Mapping[str, Any], *, users: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """List the administrator's init containers that the job's template names, or whose volumes it replaces."""
    named, merged_volumes = _names(users, "initContainers"), _volumes(merged)
    for container in _entries(_map(defaults.get("spec")), "initContainers"):
        volumes = _volumes(defaults)
        mounted = {mount.get("name") for mount in _entries(container, "volumeMounts")} & volumes.keys()
        if container["name"] in named or any(merged_volumes.get(name) != volumes[name] for name in mounted):
            yield container["name"]


def _asked(template: Mapping[str, Any]) -> Iterator[RequestedRight]:
    """List the rights that a whole pod template asks for."""
    spec = _map(template.get("spec"))
    yield from _of_pod(spec)
    yield from _of_pod_security(_map(spec.get("securityContext")))
    for volume in _entries(spec, "volumes"):
        yield from _of_volume(volume)
    for kind in CONTAINERS:
        for container in _entries(spec, kind):
            field = f"spec.{kind}[{container.get('name')}]"
            yield from _of_container_security(f"{field}.securityContext", _map(container.get("securityContext")))
            yield from _of_container_network(field, container)
    for name, value in _map(_map(template.get("metadata")).get("annotations")).items():
        if name.startswith(APPARMOR_ANNOTATION) and value == "unconfined":
            yield RequestedRight(Capability.PRIVILEGED, f"metadata.annotations[{name}]", value)


def _of_pod(spec: Mapping[str, Any]) -> Iterator[RequestedRight]:
    for name, capability in (
        ("hostNetwork", Capability.HOST_NETWORK),
        ("hostPID", Capability.HOST_PROCESSES),
        ("hostIPC", Capability.HOST_PROCESSES),
    ):
        if spec.get(name) is True:
            yield RequestedRight(capability, f"spec.{name}", "true")
    for name, capability in (
        ("nodeName", Capability.NODE_NAME),
        ("serviceAccountName", Capability.SERVICE_ACCOUNT),
        ("serviceAccount", Capability.SERVICE_ACCOUNT),
        ("priorityClassName", Capability.PRIORITY_CLASS),
        ("priority", Capability.PRIORITY_CLASS),
    ):
        if spec.get(name):
            yield RequestedRight(capability, f"spec.{name}", _text(spec[name]))
    if spec.get("automountServiceAccountToken") is not False:
        yield RequestedRight(Capability.SERVICE_ACCOUNT, "spec.automountServiceAccountToken", "true")
    # The default counts too: by removing the field a job would undo the administrator's choice.
    yield RequestedRight(
        Capability.RUNTIME_CLASS, "spec.runtimeClassName", _text(spec.get("runtimeClassName") or "the default")
    )
    if spec.get("hostUsers") is not False:
        yield RequestedRight(Capability.PRIVILEGED, "spec.hostUsers", "true")


def _of_pod_security(context: Mapping[str, Any]) -> Iterator[RequestedRight]:
    field = "spec.securityContext"
    yield from _of_security(field, context)
    if context.get("runAsNonRoot") is not True:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.runAsNonRoot", "false")
    kind = _map(context.get("seccompProfile")).get("type")
    if kind not in CONFINED:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.seccompProfile", _text(kind or "Unconfined"))
    for sysctl in _entries(context, "sysctls"):
        if sysctl.get("name") not in SAFE_SYSCTLS:
            yield RequestedRight(
                Capability.PRIVILEGED, f"{field}.sysctls[{sysctl.get('name')}]", _text(sysctl.get("value"))
            )


def _of_container_security(field: str, context: Mapping[str, Any]) -> Iterator[RequestedRight]:
    yield from _of_security(field, context)
    if context.get("privileged") is True:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.privileged", "true")
    if context.get("allowPrivilegeEscalation") is not False:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.allowPrivilegeEscalation", "true")
    if context.get("runAsNonRoot") is False:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.runAsNonRoot", "false")
    if (kind := _map(context.get("seccompProfile")).get("type")) not in (None, *CONFINED):
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.seccompProfile", _text(kind))
    if context.get("procMount") not in (None, "Default"):
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.procMount", _text(context["procMount"]))
    capabilities = _map(context.get("capabilities"))
    for name in _texts(capabilities.get("add")):
        if name not in HARMLESS_CAPABILITIES:
            yield RequestedRight(Capability.PRIVILEGED, f"{field}.capabilities.add", name)
    if "ALL" not in (kept := _texts(capabilities.get("drop"))):
        yield RequestedRight(
            Capability.PRIVILEGED, f"{field}.capabilities.drop", f"less than ALL ({', '.join(kept) or 'none'})"
        )


def _of_security(field: str, context: Mapping[str, Any]) -> Iterator[RequestedRight]:
    """List the rights that both pods and containers may ask for."""
    if context.get("runAsUser") == 0:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.runAsUser", "0")
    if _map(context.get("appArmorProfile")).get("type") == "Unconfined":
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.appArmorProfile", "Unconfined")
    if _map(context.get("windowsOptions")).get("hostProcess") is True:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.windowsOptions.hostProcess", "true")
    selinux = _map(context.get("seLinuxOptions"))
    if selinux.get("user") or selinux.get("role") or (selinux.get("type") or "") not in SELINUX_TYPES:
        yield RequestedRight(Capability.PRIVILEGED, f"{field}.seLinuxOptions", _text(selinux))


def _of_container_network(field: str, container: Mapping[str, Any]) -> Iterator[RequestedRight]:
    for port in _entries(container, "ports"):
        if port.get("hostPort"):
            port_field = f"{field}.ports[{port.get('containerPort')}].hostPort"
            yield RequestedRight(Capability.HOST_NETWORK, port_field, _text(port["hostPort"]))
    for path in HANDLERS:  # kubelet carries them out, in the machine's network
        outer, _, inner = path.partition(".")
        handler = _map(_map(container.get(outer)).get(inner)) if inner else _map(container.get(outer))
        for way in ("httpGet", "tcpSocket"):
            if host := _map(handler.get(way)).get("host"):
                yield RequestedRight(Capability.HOST_NETWORK, f"{field}.{path}.{way}.host", _text(host))


def _of_volume(volume: Mapping[str, Any]) -> Iterator[RequestedRight]:
    field = f"spec.volumes[{volume.get('name')}]"
    for kind, source in volume.items():
        if kind == "name" or source is None or kind in NAMESPACED_VOLUMES:
            continue
        capability = Capability.HOST_PATH if kind == "hostPath" else Capability.NETWORK_VOLUMES
        capability = Capability.PRIVILEGED if kind in ROOTS_VOLUMES else capability
        yield RequestedRight(capability, f"{field}.{kind}", _text(source))
    for index, source in enumerate(_entries(_map(volume.get("projected")), "sources")):
        for kind in CREDENTIALS:
            if source.get(kind) is not None:
                yield RequestedRight(
                    Capability.SERVICE_ACCOUNT, f"{field}.projected.sources[{index}].{kind}", _text(source[kind])
                )


def _mounts(template: Mapping[str, Any], lender: Mapping[str, Any]) -> Iterator[RequestedRight]:
    """List the mounts of those volumes of `lender` that ask for a right: the administrator lends them to certain mounts alone."""
    lent = {name: tuple(_of_volume(volume)) for name, volume in _volumes(lender).items()}
    for kind in CONTAINERS:
        for container in _entries(_map(template.get("spec")), kind):
            for mount in _entries(container, "volumeMounts"):
                for right in lent.get(mount.get("name"), ()):
                    field = f"spec.{kind}[{container.get('name')}].volumeMounts[{mount.get('mountPath')}]"
                    yield RequestedRight(right.capability, field, _text(mount))


def _volumes(template: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
    return {volume.get("name"): volume for volume in _entries(_map(template.get("spec")), "volumes")}


def _names(template: Mapping[str, Any], kind: str) -> set[Any]:
    return {container.get("name") for container in _entries(_map(template.get("spec")), kind)}


def _map(value: Any) -> Mapping[str, Any]:
    """Return a value that is an object; an empty one where it is none: the API server will refuse it."""
    return value if isinstance(value, Mapping) else {}


def _entries(holder: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    value = holder.get(name)
    return tuple(entry for entry in value if isinstance(entry, Mapping)) if isinstance(value, list) else ()


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
