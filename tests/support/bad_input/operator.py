"""Mistakes that the operator reports in the condition `Validated`. The tests are in `tests/cluster`.

A row's `spec` differs from the job of `tests.support.jobs`. Objects that a row is about have the row's name; the functions
that make and mend them are in `operator_objects`.
"""

from __future__ import annotations

from typing import Any

from tests.support.bad_input.row import BadInput, SaidBy

CONTAINERS = "spec.template.spec.containers[trainer]"


def _row(name: str, what: str, reason: str, message: str, *, setup: str = "", by: str = "", **spec: Any) -> BadInput:
    return BadInput(name, what, SaidBy.OPERATOR, message, reason, spec=spec, setup=setup, mended_by=by)


def _template(name: str, what: str, message: str, **pod: Any) -> BadInput:
    """Return a pod template that `finetune validate` refuses too."""
    spec = {"template": {"spec": pod}}
    return BadInput(name, what, SaidBy.OPERATOR, message, "TemplateInvalid", spec=spec, on_laptop=True)


def _trainer(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "trainer", **fields}]


def _output(name: str) -> dict[str, Any]:
    return {"claimName": name}


def _data(**source: Any) -> list[dict[str, Any]]:
    return [{"name": "data", "mountPath": "/data", "readOnly": True, **source}]


def _variable(name: str, key: str) -> list[dict[str, Any]]:
    return [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": name, "key": key}}}]


CLAIMS = (
    _row(
        "claim-missing",
        "a claim that does not exist",
        "ClaimNotFound",
        "spec.storage.claimName: there is no PersistentVolumeClaim 'claim-missing' in namespace",
        by="create_the_claim",
        storage=_output("claim-missing"),
    ),
    _row(
        "claim-of-one-machine",
        "a claim that is not ReadWriteMany, with 2 nodes",
        "AccessMode",
        "spec.nodes is 2, but claim 'claim-of-one-machine' is ReadWriteOnce: pods on several nodes can't all write to it",
        setup="a_claim_of_one_machine",
        by="make_the_claim_anew",
        storage=_output("claim-of-one-machine"),
        nodes=2,
    ),
    _row(
        "claim-without-write-mode",
        "a claim that can only be read",
        "AccessMode",
        "spec.storage.claimName: claim 'claim-without-write-mode' can't be written to; name a ReadWriteMany one",
        setup="a_claim_to_read",
        by="make_the_claim_anew",
        storage=_output("claim-without-write-mode"),
    ),
    _row(
        "claim-without-class",
        "a claim that cannot be bound, its storage class does not exist",
        "StorageClassNotFound",
        "claim 'claim-without-class' waits for its volume, because there is no StorageClass 'claim-without-class'",
        setup="a_claim_of_no_class",
        by="create_the_storage_class",
        storage=_output("claim-without-class"),
    ),
    _row(
        "storage-class-missing",
        "a claim to make, of a storage class that does not exist",
        "StorageClassNotFound",
        "spec.storage.storageClassName: there is no StorageClass 'storage-class-missing'; create it, or name another",
        by="create_the_storage_class",
        storage={"size": "1Gi", "storageClassName": "storage-class-missing"},
    ),
    _row(
        "claim-lost",
        "a claim that has lost its volume",
        "ClaimLost",
        "spec.storage.claimName: claim 'claim-lost' has lost its volume; restore the volume, or name another claim",
        setup="a_claim_of_a_lost_volume",
        by="make_the_claim_anew",
        storage=_output("claim-lost"),
    ),
    _row(
        "claim-being-deleted",
        "a claim that is being deleted",
        "ClaimTerminating",
        "spec.storage.claimName: claim 'claim-being-deleted' is being deleted; create it again, or name another",
        setup="a_claim_being_deleted",
        by="make_the_claim_anew",
        storage=_output("claim-being-deleted"),
    ),
    _row(
        "claim-of-a-block-device",
        "a claim that is a raw block device",
        "ClaimIsBlock",
        "claim 'claim-of-a-block-device' is a raw block device; name one with `volumeMode: Filesystem`",
        setup="a_block_claim",
        by="make_the_claim_anew",
        storage=_output("claim-of-a-block-device"),
    ),
    _row(
        "claim-of-somebody-else",
        "a claim of the job's name that belongs to somebody else",
        "NameTaken",
        "PersistentVolumeClaim 'claim-of-somebody-else' is already there: it belongs to somebody else and stays untouched",
        setup="a_claim",
        by="delete_the_other_claim",
        storage={"size": "1Gi"},
    ),
    _row(
        "claim-of-a-former-job",
        "a claim that a former job of this name has left",
        "NameTaken",
        "it was kept from a former job of this name, with its model and checkpoints: set `spec.storage.claimName: "
        "claim-of-a-former-job` to go on from it, or delete the claim",
        setup="a_claim_of_a_former_job",
        storage={"size": "1Gi"},
    ),
    _row(
        "data-claim-missing",
        "a claim with data that does not exist",
        "ClaimNotFound",
        "spec.volumes[data].claimName: there is no PersistentVolumeClaim 'data-claim-missing' in namespace",
        by="create_the_claim",
        volumes=_data(claimName="data-claim-missing"),
    ),
    _row(
        "data-claim-of-one-machine",
        "a claim with data that one machine can mount, with 2 nodes",
        "AccessMode",
        "spec.volumes[data].claimName: claim 'data-claim-of-one-machine' is ReadWriteOnce, but spec.nodes is 2",
        setup="a_claim_of_one_machine",
        by="make_the_claim_anew",
        volumes=_data(claimName="data-claim-of-one-machine"),
        nodes=2,
    ),
)

OBJECTS = (
    _row(
        "config-map-missing",
        "a ConfigMap that does not exist, as a volume",
        "ConfigMapNotFound",
        "spec.volumes[data].configMap: there is no ConfigMap 'config-map-missing' in namespace",
        by="create_the_config_map",
        volumes=_data(configMap="config-map-missing"),
    ),
    _row(
        "config-map-missing-for-variable",
        "a ConfigMap that does not exist, for a variable",
        "ConfigMapNotFound",
        "spec.env[LEVEL]: there is no ConfigMap 'config-map-missing-for-variable'; create it",
        by="create_the_config_map",
        env=_variable("config-map-missing-for-variable", "level"),
    ),
    _row(
        "config-map-key-missing",
        "a key that the ConfigMap does not have",
        "ConfigMapKeyNotFound",
        "spec.env[LEVEL]: ConfigMap 'config-map-key-missing' has no key 'level'; its keys: colour",
        setup="a_config_map_of_another_key",
        by="add_the_key",
        env=_variable("config-map-key-missing", "level"),
    ),
    _row(
        "service-of-somebody-else",
        "a Service of the job's name that belongs to somebody else",
        "NameTaken",
        "Service 'service-of-somebody-else' is already there: it belongs to somebody else and stays untouched",
        setup="a_service",
        by="delete_the_other_service",
        nodes=2,
    ),
    _row(
        "template-of-unknown-field",
        "a misspelt field in the pod template",
        "CreateBadRequest",
        'unknown field "spec.template.spec.nodeSelecter"',
        template={"spec": {"nodeSelecter": {"zone": "a"}}},
    ),
    _row(
        "template-refused",
        "a pod template that the API server refuses",
        "CreateInvalid",
        'spec.template.spec.dnsPolicy: Unsupported value: "Sometimes"',
        template={"spec": {"dnsPolicy": "Sometimes"}},
    ),
    _row(
        "template-mistyped",
        "a wrong type in the pod template",
        "CreateBadRequest",
        "cannot unmarshal string into Go struct field",
        template={"spec": {"hostIPC": "yes please"}},
    ),
)

OFF_LIMITS = (
    _row(
        "accelerator-unknown",
        "a GPU by a name that the operator does not know",
        "AcceleratorUnknown",
        "spec.resources.limits[example.com/gpu-a100]: looks like an accelerator, and the operator does not know it as one: "
        "training would run on the CPU of a pod that holds it. Ask your administrator to add 'example.com/gpu-a100' to the "
        "operator's setting `acceleratorResources`",
        resources={"limits": {"example.com/gpu-a100": 1}},
    ),
    _row(
        "template-host-path",
        "a folder of the machine in the pod template, which the administrator lets no job have",
        "TemplateNotAllowed",
        'spec.template.spec.volumes[docker].hostPath: {"path": "/var/run/docker.sock"} is not for jobs here (hostPath: folders of '
        "the machine): leave it out, or ask your administrator to add `hostPath` to the operator's setting `templateAllows`",
        template={"spec": {"volumes": [{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}]}},
    ),
    _row(
        "template-privileged",
        "a privileged sidecar, likewise",
        "TemplateNotAllowed",
        "spec.template.spec.initContainers[tune].securityContext.privileged: true is not for jobs here",
        template={
            "spec": {"initContainers": [{"name": "tune", "image": "busybox", "securityContext": {"privileged": True}}]}
        },
    ),
)

TEMPLATES = (
    _template(
        "template-second-container",
        "a pod template with a second container, which might never end",
        "spec.template.spec.containers[logger]: a second container would keep the Job from ending; make it a sidecar: an "
        "entry of initContainers with restartPolicy: Always",
        containers=[{"name": "logger", "image": "busybox"}],
    ),
    _template(
        "template-names-clash",
        "a pod template with two containers of one name",
        "spec.template.spec.initContainers[1]: name 'fetch' is given twice",
        initContainers=[{"name": "fetch", "image": "busybox"}, {"name": "fetch", "image": "alpine"}],
    ),
    _template(
        "template-name-of-the-system",
        "a container of the pod template with the training container's name",
        "spec.template.spec.initContainers[trainer]: trainer is the training container, which belongs under containers",
        initContainers=[{"name": "trainer", "image": "busybox"}],
    ),
    _template(
        "template-command",
        "a pod template that overrides the command",
        f"{CONTAINERS}.command: can't be set (the program is the system's)",
        containers=_trainer(command=["sleep"]),
    ),
    _template(
        "template-mounts",
        "a pod template that overrides a mount of the system's",
        f"{CONTAINERS}.volumeMounts[/output]: is a path that the system mounts; mount yours elsewhere",
        containers=_trainer(volumeMounts=[{"name": "mine", "mountPath": "/output"}]),
        volumes=[{"name": "mine", "emptyDir": {}}],
    ),
    _template(
        "template-volume",
        "a pod template that overrides a volume of the system's",
        "spec.template.spec.volumes[finetune-output]: names that begin with finetune- are the system's",
        volumes=[{"name": "finetune-output", "emptyDir": {}}],
    ),
    _template(
        "template-port",
        "a pod template that overrides a port of the system's",
        f"{CONTAINERS}.ports[8080]: port 8080 and the name metrics are the system's: choose another",
        containers=_trainer(ports=[{"containerPort": 8080}]),
    ),
    _template(
        "template-port-of-sidecar",
        "a sidecar that listens where the training container does",
        "spec.template.spec.initContainers[proxy].ports[8080]: port 8080 and the name metrics are the system's",
        initContainers=[
            {"name": "proxy", "image": "busybox", "restartPolicy": "Always", "ports": [{"containerPort": 8080}]}
        ],
    ),
    _template(
        "template-variable",
        "a pod template that overrides a variable of the system's",
        f"{CONTAINERS}.env[WORLD_SIZE]: is set by the system: leave it out",
        containers=_trainer(env=[{"name": "WORLD_SIZE", "value": "4"}]),
    ),
    _template(
        "template-claim-of-nobody",
        "a pod template with a ResourceClaim that no container has",
        "spec.template.spec.resourceClaims[gpu]: no container has it: name it where the training container is: containers: "
        "[{name: trainer, resources: {claims: [{name: gpu}]}}]",
        resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
    ),
    _template(
        "template-resources",
        "a pod template with the training container's resources",
        f"{CONTAINERS}.resources: can't be set (set spec.resources)",
        containers=_trainer(resources={"limits": {"nvidia.com/gpu": 1}}),
    ),
)

ROWS: tuple[BadInput, ...] = (*CLAIMS, *OBJECTS, *OFF_LIMITS, *TEMPLATES)
