"""Licence and language of the base model, taken from its own card where the card names them.

They are asked for once in a run and kept on the volume: our card must come out the same at every try.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.publish.retries import until_hub_answers
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.refusals import Passing, clean
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.retry import Backoff
from finetune_trainer.shared.volume import read_document, write_document

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"


class BaseFacts(Document):
    """Facts of the base model that its card tells."""

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] = ()


NOTHING = BaseFacts()


def facts_of(text: str, home: str | None = None) -> BaseFacts:
    """Parse a card's text; fields that are not as the Hub has them are left out. `home` is the page of its repository."""
    from huggingface_hub import ModelCard

    try:
        data: dict[str, Any] = vars(ModelCard(text, ignore_metadata_errors=True).data)
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return NOTHING  # people write cards by hand: one that can't be read tells nothing
    language = data.get("language")
    link = _text(data.get("license_link"))
    if link is not None and "://" not in link:
        link = f"{home}/blob/main/{link}" if home else None
    return BaseFacts(
        license=_text(data.get("license")),
        license_name=_text(data.get("license_name")),
        license_link=link,
        # YAML reads the language `no` as false
        language=tuple(name for name in (language if isinstance(language, list) else [language]) if _text(name)),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def known(
    name: str, commit: str | None, api: HfApi, memory: Path, backoff: Backoff, say: Callable[[str], None]
) -> BaseFacts:
    """Return the facts that an earlier try has kept in `memory`, else ask the Hub. Facts that stay unknown are no failure."""
    if name.startswith("/"):
        card = to_local(name) / CARD
        return facts_of(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else NOTHING
    try:
        remembered = read_document(memory, BaseFacts)
    except (ValueError, OSError):  # torn, or something else has its name
        remembered = None
    if remembered is not None:
        return remembered
    facts = _ask(name, commit, api, backoff, say)
    remember(memory, facts, say)
    return facts


def remember(memory: Path, facts: BaseFacts, say: Callable[[str], None]) -> None:
    """Keep the facts for the next try, which asks again where there are none."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_document(memory, facts)
    except OSError as error:
        say(f"what the base model's card says could not be noted on the volume: {error}")


def _ask(name: str, commit: str | None, api: HfApi, backoff: Backoff, say: Callable[[str], None]) -> BaseFacts:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def download() -> str:
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = api.hf_hub_download(name, CARD, revision=commit, cache_dir=folder)
            except LocalEntryNotFoundError as error:
                raise Passing(clean(str(error))) from error
            return Path(path).read_text(encoding="utf-8", errors="replace")

    try:
        return facts_of(until_hub_answers(download, backoff, say), f"{api.endpoint}/{name}")
    except (HfHubHTTPError, ExpectedError) as error:
        say(f"licence and language of {name} are not known: {clean(str(error))}")
        return NOTHING
