"""Kubernetes events about a FineTuneJob, as manifests. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime

from finetune_operator.api.resource import API_VERSION, KIND
from finetune_operator.plan.types import EventNote, Manifest

COMPONENT = "finetune-operator"
MESSAGE_LIMIT = 1024
"""Longest message that the API server accepts."""


def event(body: Manifest, note: EventNote, now: datetime) -> Manifest:
    """Return the event for a transition away from the state `body`.

    Its name follows from that state (or, for an event that is posted once, from its words). So an operator that is killed
    after it posted the event and before it wrote the status posts the same name again, and the API server keeps one.
    """
    metadata = body["metadata"]
    state = "" if note.once else metadata["resourceVersion"]
    identity = "\0".join((metadata["uid"], state, note.type, note.reason, note.message))
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": note.type,
        "reason": note.reason,
        "message": note.message if len(note.message) <= MESSAGE_LIMIT else note.message[: MESSAGE_LIMIT - 1] + "…",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
