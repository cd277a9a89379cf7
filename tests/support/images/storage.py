"""buildah's storage in the user's cache, and the commands that work on it.

The commands run in a process that has mounts of its own (see `background`): whatever interrupts a build, its mounts and
processes go with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.support.cache import cache_folder, size_bytes
from tests.support.commands import output, run

# Two generations of the training image's dependencies; with more it is quicker to start again than to collect garbage.
LIMIT_BYTES = 16_000_000_000


@dataclass(frozen=True)
class Layer:
    """A layer of an image: where it is in the storage, its uncompressed digest and size."""

    id: str
    digest: str
    size: int


@dataclass(frozen=True)
class Image:
    """An image as the storage holds it."""

    name: str
    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Storage:
    """A storage folder, and a folder for state that lasts as long as the process."""

    root: Path
    runtime: Path

    @classmethod
    def open(cls) -> "Storage":
        """Open the cached storage; start with an empty one where it has grown too large."""
        root, runtime = cache_folder("images") / "storage", Path("/run/finetune-images")
        runtime.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", runtime)  # its records of mounts are true in this mount namespace only
        storage = cls(root, runtime)
        storage.buildah("rm", "--all")  # what an interrupted build has left
        if root.exists() and size_bytes(root) > LIMIT_BYTES:
            storage.buildah("rmi", "--all", "--force")
        return storage

    def buildah(self, *args: str | Path) -> str:
        """Run buildah on this storage."""
        return output("buildah", *self._where(), *args)

    def diff_command(self, layer: Layer) -> list[str]:
        """Return the command that writes a layer's tar archive, byte for byte as its digest has it."""
        where = ("--graph", str(self.root), "--run", str(self.runtime), "--storage-driver", "overlay")
        return ["containers-storage", *where, "diff", "--uncompressed", layer.id]

    def has(self, name: str) -> bool:
        """Return whether there is an image of this name."""
        return run("buildah", *self._where(), "inspect", "--type", "image", name, check=False).returncode == 0

    def image(self, name: str) -> Image:
        """Look an image up."""
        inspected = json.loads(self.buildah("inspect", "--type", "image", name))
        manifest = inspected["Manifest"].encode()
        listed = json.loads((self.root / "overlay-layers" / "layers.json").read_text())
        ids = {layer["diff-digest"]: layer["id"] for layer in listed if "diff-digest" in layer}
        layers = [Layer(ids[e["digest"]], e["digest"], e["size"]) for e in json.loads(manifest)["layers"]]
        return Image(name, manifest, inspected["Config"].encode(), tuple(layers))

    def _where(self) -> tuple[str | Path, ...]:
        return ("--root", self.root, "--runroot", self.runtime, "--storage-driver", "overlay")
