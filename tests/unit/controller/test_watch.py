"""How kopf is set up to watch."""

from __future__ import annotations

from finetune_operator.controller.watch import make_settings


def test_a_deaf_connection_is_given_up_after_a_quarter_of_a_minute() -> None:
    """A watch is never silent for so long: the API server ends it sooner. With kopf's 70 s a new job was noticed after 67 s."""
    watching = make_settings().watching
    assert watching.server_timeout is not None
    assert watching.server_timeout < watching.inactivity_timeout == 15
