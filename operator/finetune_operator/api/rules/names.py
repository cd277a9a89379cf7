"""Rules of the names in a spec: no image, object or key can have a name that they refuse."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule

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
    "spec.script.configMap.name": "ConfigMap",
    "spec.hub.tokenSecretRef.name": "Secret",
    "spec.dataset.credentialsSecretRef.name": "Secret",
}
KEYS = (
    "spec.env[].valueFrom.secretKeyRef.key",
    "spec.env[].valueFrom.configMapKeyRef.key",
    "spec.script.configMap.key",
    "spec.hub.tokenSecretRef.key",
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

RULES = (*IMAGE, *REFERENCES)
