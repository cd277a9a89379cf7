"""Publishing as one function: from a run config to the model on the Hub."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from finetune_trainer.contract.records import PublishedModel, Reason
from finetune_trainer.contract.run_config import RunConfig, ScriptConfig, TaskConfig
from finetune_trainer.publish import base_model_card, card, script_card, sealed
from finetune_trainer.publish.base_model_card import NOTHING, BaseFacts
from finetune_trainer.publish.repository import Target
from finetune_trainer.publish.retries import until_hub_answers
from finetune_trainer.publish.sealed import SealedModel
from finetune_trainer.shared import connections
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.account import endpoint_of, required_token
from finetune_trainer.shared.hub.http_client import Traffic, one_try
from finetune_trainer.shared.hub.refusals import MetadataRefused
from finetune_trainer.shared.retry import Backoff
from finetune_trainer.shared.volume import Layout

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BASE_CARD_SECONDS = 30.0
"""The time for which the base model's card is asked for while the Hub answers: its licence is not worth more."""


def publish(
    config: TaskConfig | ScriptConfig, backoff: Backoff, traffic: Traffic, say: Callable[[str], None]
) -> PublishedModel:
    """Publish the run's model. Raise ExpectedError, and OSError of the volume."""
    from huggingface_hub import HfApi

    wanted = config.publish
    if wanted is None:
        raise ExpectedError(Reason.REPO_INVALID, "The job names no repository: there is nothing to publish.")
    model = sealed.find(Layout.of(config))
    token = required_token(config.hub)
    connections.require_usable()
    described = f"model of step {model.manifest.step} ({len(model.files)} files, {size(model.size_bytes)})"
    say(f"{described} to {wanted.repo_id}, branch {wanted.revision}")
    if model.left_out:
        say(f"not uploaded: {', '.join(model.left_out)}")
    with one_try(traffic):
        api = HfApi(endpoint=endpoint_of(config.hub), token=token)
        target = Target(api, wanted, token, say)
        facts = partial(_base_facts, config, model, api, backoff, say)
        published = until_hub_answers(lambda: _push(target, config, model, facts), backoff, say)
    say(f"{published.repo_id} has it: commit {published.commit}")
    return published


def _base_facts(
    config: RunConfig, model: SealedModel, api: HfApi, backoff: Backoff, say: Callable[[str], None]
) -> BaseFacts:
    if config.model is None:
        return NOTHING
    commit = model.resolved.model_revision or config.model.revision
    soon = replace(backoff, deadline=time.monotonic() + BASE_CARD_SECONDS)
    return base_model_card.known(config.model.name, commit, api, Layout.of(config).run.base_facts, soon, say)


def _push(
    target: Target, config: TaskConfig | ScriptConfig, model: SealedModel, facts: Callable[[], BaseFacts]
) -> PublishedModel:
    """Make one try. The base model's card is asked for once the Hub answers: its time must not pass while the Hub is down."""

    def text(known: Callable[[], BaseFacts]) -> Callable[[str], str]:
        return lambda repo_id: _card(config, model, known(), repo_id)

    message = target.publish.commit_message or f"Model of FineTuneJob {config.job}"
    try:
        return target.push(model, text(facts), message)
    except MetadataRefused:
        if facts() == NOTHING:
            raise
        # somebody else's licence or language that the Hub does not know must not keep the model back
        target.say("the Hub refuses licence or language of the base model's card: left out")
        return target.push(model, text(lambda: NOTHING), message)


def _card(config: TaskConfig | ScriptConfig, model: SealedModel, base: BaseFacts, repo_id: str) -> str:
    endpoint = endpoint_of(config.hub)
    if isinstance(config, ScriptConfig):
        trained = script_card.TrainedProgram(model.manifest, model.library, model.resolved)
        return script_card.render(config, trained, base, repo_id=repo_id, endpoint=endpoint)
    return card.render(config, model.report, base, repo_id=repo_id, endpoint=endpoint)


def size(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def deadline_of(config: RunConfig, text: str | None, started: datetime) -> datetime:
    """Return when publishing ends: as the operator says, which is the same for all its pods; else counted from this one's start."""
    if text:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return started + timedelta(seconds=config.publish.deadline_seconds if config.publish else 0)
