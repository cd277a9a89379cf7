"""The build of the Dockerfile with buildah: one image a target."""

import sys
from functools import cache
from pathlib import Path

from tests.support.cache import content_hash
from tests.support.cluster.client import REPOSITORY
from tests.support.images.base import base_image
from tests.support.images.storage import Storage

TARGETS = ("operator", "trainer")
# Variables and files of this machine that a build needs to reach package registries; no image keeps them.
HOST_SETTINGS = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/uv")
# Files that the Dockerfile reads, and the code that reads the Dockerfile.
SOURCES = ("Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "operator", "trainer_image")
BUILDERS = Path(__file__).parent


def image_name(target: str) -> str:
    """Return the name of a target's image on the nodes."""
    return f"docker.io/finetune/{target}:dev"


@cache
def sources_hash() -> str:
    """Return a short name for everything in this checkout that the images are made from."""
    files = [REPOSITORY / name for name in SOURCES if (REPOSITORY / name).is_file()]
    for folder in (BUILDERS, *(REPOSITORY / name for name in SOURCES if (REPOSITORY / name).is_dir())):
        files += [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return content_hash(files, *(str(path.relative_to(REPOSITORY)) for path in sorted(files)))


def build(storage: Storage) -> list[str]:
    """Build all targets; return the names of their images."""
    base = base_image(storage)
    mounts = [f"--volume={path}:{path}:ro" for path in HOST_SETTINGS if Path(path).exists()]
    for target in TARGETS:
        print(f"building {image_name(target)}", file=sys.stderr, flush=True)
        storage.buildah(
            "build",
            "--quiet",
            "--network=host",
            "--isolation=chroot",
            "--pull-never",
            "--layers",
            *mounts,
            f"--build-arg=PYTHON={base}",
            f"--target={target}",
            f"--tag={image_name(target)}",
            f"--file={REPOSITORY / 'Dockerfile'}",
            REPOSITORY,
        )
    return [image_name(target) for target in TARGETS]
