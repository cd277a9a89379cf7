"""The certificates of one cluster: an authority, the API server, a client, the key of the service accounts."""

from pathlib import Path

from tests.support.cluster.manifests import CONTROL_ADDRESS, SERVICE_ADDRESS
from tests.support.commands import run

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
NAMES = "localhost kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local"
ADDRESSES = f"127.0.0.1 {SERVICE_ADDRESS} {CONTROL_ADDRESS}"
ADMIN_TOKEN = "admin-token"  # of a server for the tests of one run on this machine


def make(folder: Path) -> None:
    """Write ca, api, admin (.crt and .key), sa.key, sa.pub and tokens.csv."""
    folder.mkdir(parents=True, mode=0o700)
    authority, key = folder / "ca.crt", folder / "ca.key"
    run("openssl", "req", "-x509", *EC, "-days", 30, "-subj", "/CN=test-ca", "-keyout", key, "-out", authority)
    alternatives = [f"DNS:{name}" for name in NAMES.split()] + [f"IP:{address}" for address in ADDRESSES.split()]
    leaves = {
        "api": ("/CN=kube-apiserver", f"subjectAltName={','.join(alternatives)}"),
        "admin": ("/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
    }
    for name, (subject, extension) in leaves.items():
        leaf_key, request, extensions = (folder / f"{name}.{suffix}" for suffix in ("key", "csr", "ext"))
        extensions.write_text(extension)
        run("openssl", "req", *EC, "-subj", subject, "-keyout", leaf_key, "-out", request)
        signing = ("-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", 30, "-extfile", extensions)
        run("openssl", "x509", "-req", "-in", request, *signing, "-out", folder / f"{name}.crt")
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "sa.key")
    run("openssl", "ec", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")
    (folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
