"""The transport of an image into containerd, which sends only the layers that containerd lacks.

buildah's own push writes, and compresses, every layer of an image each time. Here the layers come straight out of its
storage as a partial OCI archive; containerd takes the other layers from its own store. After a change of source this
sends some kilobytes in place of gigabytes.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Sequence, Set
from hashlib import sha256
from typing import IO

from tests.support.commands import CommandFailed, output
from tests.support.images.storage import Image, Storage

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def load(storage: Storage, name: str, ctr: Sequence[str]) -> int:
    """Import an image through `ctr ...`; return the bytes of the layers that had to be sent."""
    image = storage.image(name)
    present = set(output(*ctr, "content", "ls", "-q").split())
    with subprocess.Popen(
        [*ctr, "images", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as importer:
        assert importer.stdin is not None
        sent = _write_archive(storage, image, present, importer.stdin)
    if importer.returncode:
        raise CommandFailed(f"containerd did not take {name}: ctr exited with {importer.returncode}")
    return sent


def _write_archive(storage: Storage, image: Image, present: Set[str], out: IO[bytes]) -> int:
    sent = 0
    with out, tarfile.open(fileobj=out, mode="w|") as archive:
        for layer in image.layers:
            if layer.digest not in present:
                with subprocess.Popen(storage.diff_command(layer), stdout=subprocess.PIPE) as diff:
                    assert diff.stdout is not None
                    _add(archive, _blob(layer.digest), layer.size, diff.stdout)
                sent += layer.size
        for data in (image.config, image.manifest):
            _add(archive, _blob(_digest(data)), len(data), io.BytesIO(data))
        for name, value in (("index.json", _index(image)), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
            data = json.dumps(value).encode()
            _add(archive, name, len(data), io.BytesIO(data))
    return sent


def _index(image: Image) -> dict[str, object]:
    names = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
    }
    described = {
        "mediaType": MANIFEST,
        "digest": _digest(image.manifest),
        "size": len(image.manifest),
        "annotations": names,
    }
    return {"schemaVersion": 2, "manifests": [described]}


def _add(archive: tarfile.TarFile, name: str, size: int, data: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    archive.addfile(member, data)


def _digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
