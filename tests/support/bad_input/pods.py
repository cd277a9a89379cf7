"""Mistakes that only the pods show: kubelet, scheduler and kernel report them, the job's status repeats them in the user's words.

The tests are in `tests/e2e`. Each job is the good one with one thing wrong, on a claim of its own.
"""

from __future__ import annotations

from typing import Any

from tests.support.bad_input.row import BadInput, SaidBy

TRAINER_IMAGE = "docker.io/finetune/trainer:dev"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _row(
    name: str,
    what: str,
    reason: str,
    message: str,
    spec: dict[str, Any],
    setup: str = "",
    mended_by: str = "",
) -> BadInput:
    return BadInput(name, what, SaidBy.PODS, message, reason, spec, setup=setup, mended_by=mended_by)


def _volume(**source: str) -> list[dict[str, str]]:
    return [{"name": "extra", "mountPath": "/extra", **source}]


def _shell(name: str, script: str, **more: str) -> dict[str, Any]:
    """Return a container of the template."""
    return {
        "name": name,
        "image": TRAINER_IMAGE,
        "command": ["sh", "-c", script],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": RESTRICTED,
        **more,
    }


ROWS: tuple[BadInput, ...] = (
    _row(
        "secret-of-volume",
        "a volume of a Secret that does not exist",
        "SecretNotFound",
        "spec.volumes[extra].secret: there is no Secret 'no-such-secret'",
        {"volumes": _volume(secret="no-such-secret")},
        mended_by="make_secret",
    ),
    _row(
        "secret-of-env",
        "a variable from a Secret that does not exist",
        "SecretNotFound",
        "spec.env[API_KEY]: there is no Secret 'no-such-secret'",
        {"env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "key"}}}]},
        mended_by="make_secret",
    ),
    _row(
        "secret-key-of-env",
        "a variable from a key that its Secret does not have",
        "SecretKeyNotFound",
        "spec.env[API_KEY]: Secret 'half-a-secret' has no key 'key'",
        {"env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "half-a-secret", "key": "key"}}}]},
        setup="half_a_secret",
        mended_by="complete_secret",
    ),
    _row(
        "secret-of-token",
        "a Hub token from a Secret that does not exist",
        "SecretNotFound",
        "spec.hub.tokenSecretRef: there is no Secret 'no-such-token'",
        {"hub": {"tokenSecretRef": {"name": "no-such-token", "key": "token"}}},
        mended_by="make_token",
    ),
    _row(
        "secret-key-of-token",
        "a Hub token from a key that its Secret does not have",
        "SecretKeyNotFound",
        "spec.hub.tokenSecretRef: Secret 'half-a-secret' has no key 'token'",
        {"hub": {"tokenSecretRef": {"name": "half-a-secret", "key": "token"}}},
        setup="half_a_secret",
    ),
    _row(
        "image-not-there",
        "an image that cannot be pulled",
        "ImagePullFailed",
        "can't pull the image 'localhost:1/team/trainer:none'",
        {"image": "localhost:1/team/trainer:none"},
    ),
    _row(
        "image-of-sidecar",
        "a sidecar whose image cannot be pulled",
        "ImagePullFailed",
        "can't pull the image 'localhost:1/team/sidecar:none' of container sidecar",
        {
            "template": {
                "spec": {
                    "initContainers": [
                        {
                            "name": "sidecar",
                            "image": "localhost:1/team/sidecar:none",
                            "restartPolicy": "Always",
                            "securityContext": RESTRICTED,
                        }
                    ]
                }
            }
        },
    ),
    _row(
        "image-without-trainer",
        "an image with Python and without the trainer",
        "TrainerNotInImage",
        "the image 'docker.io/finetune/operator:dev' can't run the trainer",
        {"image": "docker.io/finetune/operator:dev"},
    ),
    _row(
        "image-without-python",
        "an image without Python",
        "TrainerNotInImage",
        "the image 'docker.io/finetune/pause:1' can't run the trainer",
        {"image": "docker.io/finetune/pause:1"},
    ),
    _row(
        "resource-of-no-machine",
        "a resource that no machine has",
        "FailedScheduling",
        "2 of 2 machines have too little example.com/fpga (it asks for 1). What to do: free or add machines with "
        "example.com/fpga; or ",
        {"resources.limits": {"example.com/fpga": 1}},
    ),
    _row(
        "memory-of-no-machine",
        "more memory than any machine has",
        "FailedScheduling",
        "2 of 2 machines have too little memory (it asks for 4000Gi)",
        {"resources.requests": {"memory": "4000Gi"}},
    ),
    _row(
        "node-selector-wrong",
        "a node selector that matches no machine",
        "FailedScheduling",
        "2 of 2 machines do not match its node selector or affinity",
        {"template": {"spec": {"nodeSelector": {"accelerator": "h200"}}}},
    ),
    _row(
        "claim-too-large",
        "a claim that no volume is large enough for",
        "ClaimNotBound",
        "claim 'claim-too-large' (900Ti of the default storage class)",
        {"storage": {"size": "900Ti", "accessMode": "ReadWriteMany"}},
    ),
    _row(
        "claim-read-only",
        "a claim whose volume is mounted read-only",
        "VolumeNotWritable",
        "is mounted read-only",
        {"storage": {"claimName": "read-only"}},
        setup="read_only_claim",
    ),
    _row(
        "claim-of-root",
        "a claim that the pods' user may not write to",
        "VolumeNotWritable",
        "(uid 10001, gid 10001) may not write to /output on the volume: it belongs to uid 0, gid 0, mode 0755",
        {"storage": {"claimName": "of-root"}},
        setup="claim_of_root",
    ),
    _row(
        "claim-full",
        "a claim that is full",
        "VolumeFull",
        "The volume at /output is full",
        {"storage": {"claimName": "full"}},
        setup="full_claim",
    ),
    _row(
        "init-container-fails",
        "an init container that fails",
        "InitContainerFailed",
        "container fetch of node 0 ended with exit code 2: no such host",
        {"template": {"spec": {"initContainers": [_shell("fetch", "echo no such host >&2; exit 2")]}}},
    ),
    _row(
        "sidecar-fails",
        "a sidecar that ends again and again",
        "SidecarFails",
        "container proxy of node 0 ends again and again with exit code 3: no route to upstream",
        {
            "template": {
                "spec": {
                    "initContainers": [
                        _shell("proxy", "echo no route to upstream >&2; exit 3", restartPolicy="Always"),
                        _shell("wait", "trap 'exit 0' TERM; sleep 3600 & wait"),
                    ]
                }
            }
        },
    ),
    _row(
        "python-cannot-start",
        "a variable that keeps Python from starting",
        "ContainerFailed",
        "container trainer of node 0 ended with exit code 1, without a record",
        {"env": [{"name": "PYTHONHOME", "value": "/nowhere"}]},
    ),
    _row(
        "memory-limit-too-low",
        "a memory limit that is too low",
        "OutOfMemory",
        "node 0 ran out of memory and was killed, its limit is 120Mi (`resources.limits.memory`)",
        {"resources": {"limits": {"memory": "120Mi"}}},
    ),
)
