"""Checks of a spec that need the cluster: whether the objects that it names exist and fit, and its own objects' names are free.

Problems are values. Those that something from outside can mend keep the job waiting; the others fail it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.types import Manifest, Observed, PlanSettings, Ref

CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True)
class SpecProblem:
    """Problem of a spec, as the condition Validated shows it."""

    reason: str
    message: str
    mendable: bool = True
    """Whether something other than an edit of the spec can mend it."""


def needed(job: FineTuneJob, known: Mapping[Ref, Manifest | None] = MappingProxyType({})) -> tuple[Ref, ...]:
    """List the objects that the spec names and the operator may read, and the storage classes that `known` claims wait for.

    The operator may not read Secrets: the events of pods tell where one is missing.
    """
    spec = job.spec
    refs: list[Ref] = []
    if spec.storage.claim_name is not None:
        refs.append(Ref(CLAIM, spec.storage.claim_name))
    elif spec.storage.storage_class_name:
        refs.append(Ref("StorageClass", spec.storage.storage_class_name))
    for volume in spec.volumes:
        if volume.claim_name is not None:
            refs.append(Ref(CLAIM, volume.claim_name))
        if volume.config_map is not None:
            refs.append(Ref("ConfigMap", volume.config_map))
    refs.extend(Ref("ConfigMap", name) for name, _, _ in _keys(job))
    waited_for = (_class_waited_for(known.get(ref)) for ref in refs if ref.kind == CLAIM)
    refs.extend(Ref("StorageClass", name) for name in waited_for if name is not None)
    return tuple(dict.fromkeys(refs))


def problems(observed: Observed, planned: tuple[Manifest, ...]) -> tuple[SpecProblem, ...]:
    """Find all problems. `observed.references` holds all objects that are `needed`; `planned`: the objects to be made next."""
    job = observed.job
    return (
        *_template(job, observed.settings),
        *(SpecProblem("AcceleratorUnknown", text) for text in manifests.accelerator_problems(job, observed.settings)),
        *(problem for manifest in planned if (problem := taken(observed, manifest)) is not None),
        *_storage(observed),
        *_volumes(job, observed.references),
        *_variables(observed),
        *_script(job),
    )


def _template(job: FineTuneJob, settings: PlanSettings) -> tuple[SpecProblem, ...]:
    """Check the template: an invalid one fails the job; one that asks for too much waits, for an edit or for the administrator."""
    if wrong := manifests.template_problems(job):
        return tuple(SpecProblem("TemplateInvalid", text, mendable=False) for text in wrong)
    return tuple(SpecProblem("TemplateNotAllowed", text) for text in manifests.template_off_limits(job, settings))


def taken(observed: Observed, planned: Manifest) -> SpecProblem | None:
    """Return the problem of a planned object whose name somebody else's object has; None where the name is free."""
    present = find(observed, planned["kind"], planned["metadata"]["name"])
    if present is None or manifests.is_controlled_by(present, observed.job):
        return None
    kind, name = planned["kind"], planned["metadata"]["name"]
    if manifests.retained_for(present) is not None:
        advice = (
            "it was kept from a former job of this name, with its model and checkpoints: set "
            f"`spec.storage.claimName: {name}` to go on from it, or delete the claim"
        )
    elif present["metadata"].get("deletionTimestamp"):
        advice = "it is being deleted; the job goes on when it is gone"
    else:
        advice = "it belongs to somebody else and stays untouched: delete or rename it, or give this job another name"
    return SpecProblem("NameTaken", f"{kind} {name!r} is already there: {advice}")


def find(observed: Observed, kind: str, name: str) -> Manifest | None:
    """Find the living object of this name."""
    for item in observed.objects:
        metadata = item["metadata"]
        if item["kind"] == kind and metadata["name"] == name and metadata.get("uid") not in observed.gone:
            return item
    return None


def access_mode(observed: Observed) -> str | None:
    """Return the access mode of the claim that the job writes to; None while that is not known."""
    claim = _claim(observed)
    if claim is None:
        planned = manifests.claim(observed.job)
        modes = planned["spec"]["accessModes"] if planned else ()
    else:
        modes = (claim.get("spec") or {}).get("accessModes") or ()
    return next((mode for mode in ("ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod") if mode in modes), None)


def _claim(observed: Observed) -> Manifest | None:
    name = manifests.claim_name(observed.job)
    if observed.job.spec.storage.claim_name is not None:
        return observed.references.get(Ref(CLAIM, name))
    return find(observed, CLAIM, name)


def _class_waited_for(claim: Manifest | None) -> str | None:
    """Return the storage class that has yet to make the claim's volume; None where the claim waits for none."""
    spec, status = ((claim or {}).get(part) or {} for part in ("spec", "status"))
    if status.get("phase") != "Pending" or spec.get("volumeName"):
        return None
    return spec.get("storageClassName") or None


def _storage(observed: Observed) -> Iterator[SpecProblem]:
    job, references = observed.job, observed.references
    storage, name = job.spec.storage, manifests.claim_name(job)
    wanted = storage.storage_class_name if storage.claim_name is None else None
    if wanted and references.get(Ref("StorageClass", wanted)) is None:
        text = f"spec.storage.storageClassName: there is no StorageClass {wanted!r}; create it, or name another"
        yield SpecProblem("StorageClassNotFound", text)
    claim = _claim(observed)
    if storage.claim_name is not None:
        yield from _usable(claim, name, "spec.storage.claimName", job.metadata.namespace, references)
    elif claim is not None and manifests.is_controlled_by(claim, job):
        yield from _usable(claim, name, "spec.storage", job.metadata.namespace, {})
    mode = access_mode(observed)
    if job.spec.nodes > 1 and mode in ("ReadWriteOnce", "ReadWriteOncePod"):
        yield SpecProblem(
            "AccessMode",
            f"spec.nodes is {job.spec.nodes}, but claim {name!r} is {mode}: pods on several nodes can't all write to "
            "it. A claim's access mode is fixed once made: use a ReadWriteMany claim (`spec.storage.claimName`), or "
            "set `nodes: 1`",
            mendable=claim is not None,
        )
    elif storage.claim_name is not None and claim is not None and mode is None:
        yield SpecProblem(
            "AccessMode", f"spec.storage.claimName: claim {name!r} can't be written to; name a ReadWriteMany one"
        )


def _volumes(job: FineTuneJob, references: Mapping[Ref, Manifest | None]) -> Iterator[SpecProblem]:
    for volume in job.spec.volumes:
        field = f"spec.volumes[{volume.name}]"
        if volume.config_map is not None and references.get(Ref("ConfigMap", volume.config_map)) is None:
            where = f"in namespace {job.metadata.namespace!r}"
            text = f"{field}.configMap: there is no ConfigMap {volume.config_map!r} {where}; create it"
            yield SpecProblem("ConfigMapNotFound", text)
        if volume.claim_name is None or volume.claim_name == job.spec.storage.claim_name:
            continue
        claim = references.get(Ref(CLAIM, volume.claim_name))
        yield from _usable(claim, volume.claim_name, f"{field}.claimName", job.metadata.namespace, references)
        modes = ((claim or {}).get("spec") or {}).get("accessModes") or ()
        if claim is not None and job.spec.nodes > 1 and not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
            text = (
                f"{field}.claimName: claim {volume.claim_name!r} is {', '.join(modes)}, but spec.nodes is "
                f"{job.spec.nodes}: pods on several nodes can't all mount it; use a ReadWriteMany or ReadOnlyMany "
                "claim, or set `nodes: 1`"
            )
            yield SpecProblem("AccessMode", text)


def _usable(
    claim: Manifest | None, name: str, field: str, namespace: str, known: Mapping[Ref, Manifest | None]
) -> Iterator[SpecProblem]:
    if claim is None:
        text = f"{field}: there is no PersistentVolumeClaim {name!r} in namespace {namespace!r}; create it"
        yield SpecProblem("ClaimNotFound", text)
        return
    if claim["metadata"].get("deletionTimestamp"):
        yield SpecProblem(
            "ClaimTerminating", f"{field}: claim {name!r} is being deleted; create it again, or name another"
        )
    elif (claim.get("status") or {}).get("phase") == "Lost":
        yield SpecProblem(
            "ClaimLost", f"{field}: claim {name!r} has lost its volume; restore the volume, or name another claim"
        )
    elif (waited := _class_waited_for(claim)) is not None and known.get(Ref("StorageClass", waited), claim) is None:
        yield SpecProblem(
            "StorageClassNotFound",
            f"{field}: claim {name!r} waits for its volume, because there is no StorageClass {waited!r}: create the class "
            "or a volume of it, or name another claim",
        )
    if (claim.get("spec") or {}).get("volumeMode") == "Block":
        yield SpecProblem(
            "ClaimIsBlock", f"{field}: claim {name!r} is a raw block device; name one with `volumeMode: Filesystem`"
        )


def _script(job: FineTuneJob) -> Iterator[SpecProblem]:
    """Check what neither the schema nor a rule can: whether Python takes the pattern as a regular expression."""
    pattern = job.spec.script.progress_pattern if job.spec.script is not None else None
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        text = f"spec.script.progressPattern: {pattern!r} is no regular expression of Python: {error}"
        yield SpecProblem("ScriptInvalid", text, mendable=False)


def _variables(observed: Observed) -> Iterator[SpecProblem]:
    for name, key, field in _keys(observed.job):
        config_map = observed.references.get(Ref("ConfigMap", name))
        if config_map is None:
            yield SpecProblem("ConfigMapNotFound", f"{field}: there is no ConfigMap {name!r}; create it")
        elif key not in (config_map.get("data") or {}):
            keys = ", ".join(sorted(config_map.get("data") or {})) or "none"
            yield SpecProblem(
                "ConfigMapKeyNotFound", f"{field}: ConfigMap {name!r} has no key {key!r}; its keys: {keys}"
            )


def _keys(job: FineTuneJob) -> Iterator[tuple[str, str, str]]:
    """Yield ConfigMap, key, and field of environment variables, and of the user's own program."""
    script = job.spec.script
    if script is not None and script.config_map is not None:
        yield script.config_map.name, script.config_map.key, "spec.script.configMap"
    for variable in job.spec.env:
        ref = variable.value_from.config_map_key_ref if variable.value_from else None
        if ref is not None:
            yield ref.name, ref.key, f"spec.env[{variable.name}]"
