"""The requests of a rank to the `launch` of its own pod, over loopback HTTP.

It uses the standard library only, and a connection for each request: ranks send at most one message a second.
"""

from __future__ import annotations

import http.client
import os
import sys
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.contract.launch_protocol import (
    RankCheckpoint,
    RankEnv,
    RankModel,
    RankProgress,
    RankResult,
    Saved,
    SealedCheckpoint,
)
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Exit, Outcome, Progress
from finetune_trainer.shared.paths import to_local

P = TypeVar("P", bound=Prepared)
REPORT_SECONDS = 10.0
"""Timeout for progress, which is reported again."""
ONCE_SECONDS = 120.0
"""Timeout for reports that are made once: a disk that hangs for some seconds must not end a training."""


class LaunchError(Exception):
    """`launch` refused a request, or does not answer any more."""

    def __init__(self, message: str, status: int | None = None, answer: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer
        """Text of the answer."""


class LaunchClient:
    """The requests of a rank."""

    def __init__(self, url: str, token: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    @classmethod
    def from_environment(cls) -> LaunchClient:
        token = Path(os.environ[RankEnv.TOKEN_FILE]).read_text(encoding="utf-8").strip()
        return cls(os.environ[RankEnv.LAUNCH_URL], token)

    def prepared(self, kind: type[P]) -> P:
        """Return what prepare has left, once it exists. Raise LaunchError with status 409 if preparing has failed."""
        return kind.model_validate_json(self._ask("GET", "/rank/prepared", timeout=None))

    def progress(self, progress: RankProgress) -> Saved:
        """Report progress; return what became of checkpoints."""
        answer = self._ask("POST", "/rank/progress", progress, timeout=REPORT_SECONDS)
        return Saved.model_validate_json(answer) if answer else Saved()

    def advanced(self) -> None:
        """Report that this rank advanced, to the `launch` of a node that may have lost sight of node 0."""
        self._ask("POST", "/rank/advanced", timeout=REPORT_SECONDS)

    def checkpoint(self, checkpoint: RankCheckpoint) -> None:
        """Report that all files of this rank are written; `launch` makes them durable beside the training."""
        self._ask("POST", "/rank/checkpoint", checkpoint)

    def sealed(self, step: int) -> Path:
        """Return the folder of a checkpoint, once it is sealed and verified. Raise LaunchError with status 404 where it can't
        be used.
        """
        answer = self._ask("GET", f"/rank/checkpoint/{step}", timeout=None)
        return to_local(SealedCheckpoint.model_validate_json(answer).path)

    def model(self, model: RankModel) -> None:
        """Seal the final model; return when it is on the volume."""
        self._ask("POST", "/rank/model", model, timeout=None)

    def is_stopping(self) -> bool:
        """Return whether this pod was asked to end: then a program that ends has not come to its end."""
        return self._ask("GET", "/rank/stopping") == b"true"

    def others_ended(self) -> None:
        """Wait until the program has ended well on all other ranks. Raise LaunchError with status 409 where it has not on one, with
        status 408 where one does not end.
        """
        self._ask("GET", "/rank/others", timeout=None)

    def step(self) -> int | None:
        """Return the newest step that anybody has reported of this attempt."""
        return Progress.model_validate_json(self._ask("GET", "/progress")).step

    def result(self, result: RankResult) -> None:
        """Report the result of this rank."""
        self._ask("POST", "/rank/result", result)

    def end(self, result: RankResult) -> NoReturn:
        """Report the result of this rank, and end the process with it.

        It ends with `os._exit` and not with a return, because gloo sometimes aborts when the interpreter exits after a good run.
        So everything that must survive is written and flushed before.
        """
        try:
            self.result(result)
        except LaunchError as error:
            print(f"the result was not delivered: {error}", file=sys.stderr)  # noqa: T201
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(Exit.SUCCEEDED if result.outcome is Outcome.SUCCEEDED else Exit.FAILED)

    def _ask(
        self, method: str, path: str, body: Document | None = None, *, timeout: float | None = ONCE_SECONDS
    ) -> bytes:
        """Send one request. It has no timeout where `launch` holds the answer back until there is one."""
        connection = http.client.HTTPConnection(self._address, timeout=timeout)
        try:
            connection.request(method, path, body.to_json().encode() if body else None, self._headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LaunchError(f"{method} {path}: launch does not answer: {error}") from error
        finally:
            connection.close()
        if response.status >= HTTPStatus.BAD_REQUEST:
            text = answer[:200].decode(errors="replace")
            raise LaunchError(f"{method} {path}: {response.status} {text}", response.status, text)
        return answer
