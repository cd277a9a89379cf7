"""Claims, ConfigMaps and Secrets of a local run as folders: what lies behind a pod's paths and its variables.

Knows nothing of processes. An object that the manifest names and nobody brought is an error before anything starts: on a
cluster the job would wait for it, here nobody would make it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.command_errors import CommandError

HUB_TOKEN_FILE = "hub-token"
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class Volumes:
    """Folders of the command line and of the work folder."""

    work_dir: Path
    claims: Mapping[str, Path] = field(default_factory=dict)
    """`--volume NAME=PATH`"""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    """`--secret NAME=PATH`: a folder with a file per key."""
    config_maps: Mapping[str, Path] = field(default_factory=dict)
    """`--config-map NAME=PATH`: a folder with a file per key."""

    def claim(self, name: str) -> Path:
        """Return the folder of a claim, whether or not it exists."""
        return self.claims.get(name) or self.work_dir / "claims" / name

    def secret(self, name: str) -> Path:
        """Return the folder of a Secret, whether or not it exists."""
        return self.secrets.get(name) or self.work_dir / "secrets" / name

    def config_map(self, name: str) -> Path:
        return self.config_maps.get(name) or self.work_dir / "configmaps" / name


def with_program_beside(job: FineTuneJob, volumes: Volumes, folder: Path) -> Volumes:
    """Take the folder of the manifest for the ConfigMap with the user's own program, where nobody named another and it has the
    file: in Git the two lie side by side.
    """
    program = job.spec.script.config_map if job.spec.script is not None else None
    if program is None or volumes.config_map(program.name).is_dir() or not (folder / program.key).is_file():
        return volumes
    return replace(volumes, config_maps={**volumes.config_maps, program.name: folder.resolve()})


def missing(job: FineTuneJob, volumes: Volumes) -> Iterator[str]:
    """Yield each folder and key that the job needs and that is missing, with what to do about it."""
    spec = job.spec
    if spec.storage.claim_name is not None:
        yield from _missing_claim("spec.storage.claimName", spec.storage.claim_name, volumes)
    for volume in spec.volumes:
        field_path = f"spec.volumes[{volume.name}]"
        if volume.sub_path is not None and ".." in PurePosixPath(volume.sub_path).parts:
            yield f"{field_path}.subPath: must not contain '..'"
        if volume.claim_name is not None:
            yield from _missing_claim(f"{field_path}.claimName", volume.claim_name, volumes)
        elif volume.config_map is not None:
            yield from _missing_folder(
                field_path, "ConfigMap", volume.config_map, volumes.config_map(volume.config_map)
            )
        elif volume.secret is not None:
            yield from _missing_folder(field_path, "Secret", volume.secret, volumes.secret(volume.secret))
    if spec.script is not None and spec.script.config_map is not None:
        code = spec.script.config_map
        yield from _missing_key(
            "spec.script.configMap", "ConfigMap", code.name, volumes.config_map(code.name) / code.key
        )
    credentials = spec.dataset.credentials_secret_ref if spec.dataset is not None else None
    if credentials is not None:
        field_path, folder = "spec.dataset.credentialsSecretRef", volumes.secret(credentials.name)
        yield from _missing_folder(field_path, "Secret", credentials.name, folder)
    for variable in spec.env:
        source, field_path = variable.value_from, f"spec.env[{variable.name}]"
        if source is not None and source.secret_key_ref is not None:
            ref = source.secret_key_ref
            yield from _missing_key(field_path, "Secret", ref.name, volumes.secret(ref.name) / ref.key)
        elif source is not None and source.config_map_key_ref is not None:
            selector = source.config_map_key_ref
            file = volumes.config_map(selector.name) / selector.key
            yield from _missing_key(field_path, "ConfigMap", selector.name, file)


def hub_token(job: FineTuneJob, volumes: Volumes) -> str | Path | None:
    """Return the Hub token of the job, as a file that holds it or as text; None where the job names none."""
    reference = job.spec.hub.token_secret_ref
    if reference is None:
        return None
    secret_file = volumes.secret(reference.name) / reference.key
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    login = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    if secret_file.is_file():
        return secret_file
    if os.environ.get("HF_TOKEN"):
        return os.environ["HF_TOKEN"]
    if login.is_file():
        return login
    raise CommandError(
        f"spec.hub.tokenSecretRef: there is no Secret {reference.name} here; set HF_TOKEN, log in with "
        f"`hf auth login`, or say --secret {reference.name}=FOLDER (with the token in a file named {reference.key})"
    )


@contextmanager
def token_file(job: FineTuneJob, volumes: Volumes, folder: Path) -> Iterator[Path | None]:
    """Hold the Hub token in a file that only its owner can read, as long as it is needed."""
    token = hub_token(job, volumes)
    if not isinstance(token, str):
        yield token
        return
    path = folder / HUB_TOKEN_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def pod_paths(job: FineTuneJob, pod: Mapping[str, Any], volumes: Volumes, token: Path | None) -> dict[str, str]:
    """Return the folders (or files) behind the mount points of the training container, which `FINETUNE_PATHS` holds."""
    by_name = {volume["name"]: volume for volume in pod["volumes"]}
    trainer = pod["containers"][0]
    paths: dict[str, str] = {}
    for mount in trainer["volumeMounts"]:
        paths |= _mounted(mount, by_name[mount["name"]], volumes)
    if job.spec.hub.token_secret_ref is not None and token is not None:
        paths = {
            mount_path: str(token) if mount_path.endswith("/hub/token") else folder
            for mount_path, folder in paths.items()
        }
    return paths


def behind(job: FineTuneJob, path: str, volumes: Volumes) -> Path | None:
    """Return the folder behind a path of the spec; None where the path is under no mount of a claim."""
    for volume in job.spec.volumes:
        mount_path = PurePosixPath(volume.mount_path)
        if volume.claim_name is not None and PurePosixPath(path).is_relative_to(mount_path):
            return (
                volumes.claim(volume.claim_name) / (volume.sub_path or "") / PurePosixPath(path).relative_to(mount_path)
            )
    return None


def _mounted(mount: Mapping[str, Any], volume: Mapping[str, Any], volumes: Volumes) -> dict[str, str]:
    mount_path = mount["mountPath"]
    if "persistentVolumeClaim" in volume:
        folder = volumes.claim(volume["persistentVolumeClaim"]["claimName"])
    elif "configMap" in volume:
        folder = volumes.config_map(volume["configMap"]["name"])
    elif "secret" in volume:
        folder = volumes.secret(volume["secret"]["secretName"])
        items = volume["secret"].get("items") or ()
        if items:
            return {f"{mount_path}/{item['path']}": str(folder / item["key"]) for item in items}
    else:
        return {}  # scratch space and shared memory are this machine's own
    return {mount_path: str(folder / mount.get("subPath", ""))}


def _missing_claim(field_path: str, name: str, volumes: Volumes) -> Iterator[str]:
    yield from _bad_name(field_path, name)
    folder = volumes.claim(name)
    if not folder.is_dir():
        yield f"{field_path}: claim {name} has no folder here; make {folder}, or say --volume {name}=FOLDER"


def _missing_folder(field_path: str, kind: str, name: str, folder: Path) -> Iterator[str]:
    yield from _bad_name(field_path, name)
    if not folder.is_dir():
        option = "--secret" if kind == "Secret" else "--config-map"
        yield f"{field_path}: {kind} {name} is not here; say {option} {name}=FOLDER (a folder with a file per key)"


def _missing_key(field_path: str, kind: str, name: str, file: Path) -> Iterator[str]:
    problems = list(_missing_folder(field_path, kind, name, file.parent))
    yield from problems
    if not problems and not file.is_file():
        yield f"{field_path}: {kind} {name} has no key {file.name} in {file.parent}"


def _bad_name(field_path: str, name: str) -> Iterator[str]:
    if OBJECT_NAME.fullmatch(name) is None:
        yield f"{field_path}: {name!r} is no name of a Kubernetes object"
