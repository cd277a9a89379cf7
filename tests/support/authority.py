"""A company's certificate authority: its certificate, and a server on this machine that it has certified. Needs openssl."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import run

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    certificate: Path
    server: ssl.SSLContext
    """The context of a server at 127.0.0.1 or localhost."""


def authority(folder: Path) -> Authority:
    """Make a new authority, whose files are in `folder`."""
    folder.mkdir(parents=True)
    certificate, key = folder / "ca.pem", folder / "ca.key"
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    run(
        "openssl", "req", "-x509", *EC, *usage, "-days", 30, "-subj", "/CN=company", "-keyout", key, "-out", certificate
    )
    leaf, leaf_key, request, extensions = (folder / f"server.{suffix}" for suffix in ("pem", "key", "csr", "ext"))
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("openssl", "req", *EC, "-subj", "/CN=localhost", "-keyout", leaf_key, "-out", request)
    signing = ("-CA", certificate, "-CAkey", key, "-CAcreateserial", "-days", 30, "-extfile", extensions)
    run("openssl", "x509", "-req", "-in", request, *signing, "-out", leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf, leaf_key)
    return Authority(certificate, context)
