"""What ranks say to `launch` arrives as it was said."""

from __future__ import annotations

import pytest

from finetune_trainer.contract.launch_protocol import RankResult
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason
from finetune_trainer.shared.launch_client import LaunchClient, LaunchError
from tests.support.serving import Handler, serving


class _Listener(Handler):
    methods = ("POST",)
    heard: list[bytes]
    status = 200

    def serve(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.status)


def test_messages_are_text_of_any_alphabet() -> None:
    message = "Connection closed by peer: Größe, 大きさ, GLHF! 🏖️"
    failure = Failure(reason=Reason.PEER_LOST, cause=Cause.ERROR, message=message)
    heard: list[bytes] = []
    with serving(_Listener, heard=heard) as address:
        LaunchClient(address, "token").result(RankResult(rank=0, outcome=Outcome.FAILED, failure=failure))
    received = RankResult.model_validate_json(heard[0]).failure
    assert received is not None
    assert received.message == message


def test_a_refusal_is_an_error_of_its_own() -> None:
    with (
        serving(_Listener, heard=[], status=409) as address,
        pytest.raises(LaunchError, match="POST /rank/result: 409"),
    ):
        LaunchClient(address, "token").result(RankResult(rank=0, outcome=Outcome.SUCCEEDED))
