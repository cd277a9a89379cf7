"""Progress for `launch`: gathered at once, and sent from a thread once a second at most.

Training never waits for it. A report that was not delivered is sent again with the next one; a report that was refused is not.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from finetune_trainer.contract.frozen_document import left_out
from finetune_trainer.contract.launch_protocol import RankProgress, Saved
from finetune_trainer.shared.launch_client import LaunchClient, LaunchError

PERIOD_SECONDS = 1.0
SIGN_SECONDS = 5.0


class Reporter:
    """The reports of rank 0; on other ranks it does nothing."""

    def __init__(self, client: LaunchClient, *, active: bool) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._fields: dict[str, Any] = {}
        self._messages: list[str] = []
        self._step_seconds: list[float] = []
        self._closed = threading.Event()
        self._active = active
        self.saved = Saved()
        """State of checkpoints, as `launch` last reported."""
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        if active:
            self._thread.start()

    def tell(self, *messages: str, **fields: Any) -> None:
        """Note fields of RankProgress, of which the last value counts, and messages."""
        if self._active:
            with self._lock:
                self._fields.update(fields)
                self._messages += messages

    def tell_left_out(self, source: str, metrics: Mapping[str, float]) -> None:
        """Report which metrics are not finite, because no report can hold them."""
        message = left_out(source, metrics)
        if message is not None:
            self.tell(message)

    def step_took(self, seconds: float) -> None:
        """Note the duration of an optimizer step."""
        if self._active:
            with self._lock:
                self._step_seconds.append(seconds)

    def close(self) -> None:
        """Send what is left, and end the thread."""
        self._closed.set()
        if self._active and self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_SECONDS):
            self._send()
        self._send()

    def _send(self) -> None:
        with self._lock:
            fields, messages, seconds = self._fields, self._messages, self._step_seconds
            self._fields, self._messages, self._step_seconds = {}, [], []
        if not fields and not messages and not seconds:
            return
        try:
            report = RankProgress(**fields, messages=tuple(messages), step_seconds=tuple(seconds))
            self.saved = self._client.progress(report)
        except (LaunchError, ValidationError) as error:
            print(f"progress was not delivered: {error}", file=sys.stderr)  # noqa: T201
            if isinstance(error, ValidationError) or error.status == HTTPStatus.BAD_REQUEST:
                # A report that is not understood would be refused again, together with everything after it.
                content = ", ".join(sorted(fields)) or "messages"
                self.tell(
                    f"A report of progress ({content}) was refused and is left out: {error}",
                    *(messages if fields else ()),
                )
                return
            with self._lock:
                self._fields = {**fields, **self._fields}
                self._messages = messages + self._messages
                self._step_seconds = seconds + self._step_seconds


class SignsOfLife:
    """Messages to the `launch` of this node that the ranks advance, sent from a thread every few seconds at most.

    They keep `launch` from giving up a training because node 0 does not answer. Node 0 itself gets the reports of progress.
    """

    def __init__(self, client: LaunchClient, *, active: bool) -> None:
        self._client = client
        self._noted = False
        if active:
            threading.Thread(target=self._run, name="signs of life", daemon=True).start()

    def note(self) -> None:
        """Note that all ranks together have done a part of a step."""
        self._noted = True

    def _run(self) -> None:
        while True:
            time.sleep(SIGN_SECONDS)
            if self._noted:
                self._noted = False
                with suppress(LaunchError):  # the next request reports as much
                    self._client.advanced()
