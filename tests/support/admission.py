"""An admission webhook as a tenant's cluster may have one: a real server, slow or broken as the test says."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.api import Api, ApiFailed, Manifest
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import eventually
from tests.support.serving import Handler, serving

PROBE = "probe-of-the-webhook"
TIMEOUT_SECONDS = 30
"""Longest time that the API server waits for a webhook."""


class Admission:
    """The behaviour of the webhook. A test may change it at any time."""

    def __init__(self) -> None:
        self.open = threading.Event()
        """Event before which no request is answered."""
        self.open.set()
        self.broken = False
        """Whether it answers 500."""
        self.refused: frozenset[str] = frozenset()
        """Operations that are refused: CREATE, UPDATE, DELETE."""


class _Webhook(Handler):
    methods = ("POST",)
    admission: Admission

    def serve(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        probe = request["name"] == PROBE
        if not probe:
            self.admission.open.wait(TIMEOUT_SECONDS * 2)
        if self.admission.broken and not probe:
            self.answer(500, b"out of order")
            return
        allowed = not probe and request["operation"] not in self.admission.refused
        response = {"uid": request["uid"], "allowed": allowed, "status": {"code": 403, "message": "not on a Sunday"}}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        self.answer(200, json.dumps(review).encode(), {"Content-Type": "application/json"})


@contextmanager
def webhook_on_jobs(cluster: ControlPlane, api: Api) -> Iterator[Admission]:
    """Install a webhook that is asked about each Job of one namespace; yield it."""
    admission = Admission()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cluster.pki / "api.crt", cluster.pki / "api.key")
    name = f"{api.namespace}.example.org"
    with serving(_Webhook, tls=tls, admission=admission) as address:
        authority = base64.b64encode((cluster.pki / "ca.crt").read_bytes()).decode()
        cluster.apply(_configuration(name, api.namespace, address, authority), namespace=None)
        try:
            eventually("the webhook is in force", lambda: _refuses_probe(api))
            yield admission
        finally:
            admission.open.set()
            cluster.kubectl("delete", "validatingwebhookconfiguration", name)


def _configuration(name: str, namespace: str, address: str, authority: str) -> Manifest:
    rule = {
        "apiGroups": ["batch"],
        "apiVersions": ["v1"],
        "resources": ["jobs"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
    }
    webhook = {
        "name": name,
        "clientConfig": {"url": address, "caBundle": authority},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def _refuses_probe(api: Api) -> bool:
    container = {"name": "probe", "image": "probe"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": PROBE}, "spec": {"template": template}}
    try:
        api.request("POST", f"{api.path('Job')}?dryRun=All", job)
    except ApiFailed as error:
        return error.status == 403
    return False
