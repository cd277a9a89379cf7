"""Languages of multilingual tokenizers: which there are, which a run translates between, how its target begins.

A text without its language's code is read as another language, and a model that is not made to begin with the target's
code writes whichever it likes. So both are asked for before anything is tokenised. No torch in here.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.shared.failures import ExpectedError

CODE = re.compile(r"__(\w+)__|([a-z]{2,3}_[A-Z][A-Za-z]{1,3})")
"""`__en__` (M2M100), `en_XX` (mBART), `eng_Latn` (NLLB)."""
MARKED = re.compile(r">>(\S+)<<")
"""How multilingual Marian models name the target at the start of each source text."""
FIELDS = ("source_language", "target_language")
YAML_PATHS = {"source_language": "preprocessing.sourceLanguage", "target_language": "preprocessing.targetLanguage"}


def check(model: ModelDescription, config: TaskConfig) -> None:
    """Raise ExpectedError where languages are missing, unknown, or given to a tokenizer that has none."""
    wanted = {field: getattr(config.preprocessing, field) for field in FIELDS}
    known = codes(model.tokenizer)
    if not _has_languages(model.tokenizer):
        _check_marked(model, wanted)
        return
    if None in chosen(model.tokenizer, config):
        missing = [YAML_PATHS[field] for field in FIELDS if wanted[field] is None]
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"{model.name} reads and writes many languages and must be told which: set {' and '.join(missing)}. "
            f"Its codes: {names(known, 30)}.",
        )
    for field, code in wanted.items():
        if code is not None and _id_of(model.tokenizer, code) is None:
            raise _unknown(model, field, code, known)


def codes(tokenizer: Any) -> list[str]:
    """Return the codes of the languages that a tokenizer knows, as a user writes them."""
    if marked := getattr(tokenizer, "supported_language_codes", None):
        return sorted(token.removeprefix(">>").removesuffix("<<") for token in marked)
    known = list(getattr(tokenizer, "lang_code_to_id", None) or ())
    special = [
        match.group(1) or match.group(2) for token in tokenizer.all_special_tokens if (match := CODE.fullmatch(token))
    ]
    return sorted({*(token.strip("_") for token in known), *special})


def chosen(tokenizer: Any, config: TaskConfig) -> tuple[str | None, str | None]:
    """Return source and target language: what the user gave, else the pair that the tokenizer was saved with."""
    saved = tuple(tokenizer.init_kwargs.get(name) for name in ("src_lang", "tgt_lang"))
    source, target = saved if None not in saved else (None, None)
    return config.preprocessing.source_language or source, config.preprocessing.target_language or target


def set_languages(tokenizer: Any, config: TaskConfig) -> None:
    """Set the languages in which a multilingual tokenizer reads source and target."""
    if _has_languages(tokenizer):
        tokenizer.src_lang, tokenizer.tgt_lang = chosen(tokenizer, config)


def prefix(tokenizer: Any, config: TaskConfig) -> str:
    """Return the text before each source text: the code that a Marian model asks for, and the user's prefix."""
    marked = getattr(tokenizer, "supported_language_codes", None) and config.preprocessing.target_language
    return (f">>{marked}<< " if marked else "") + (config.preprocessing.source_prefix or "")


def unmarked(tokenizer: Any, config: TaskConfig) -> bool:
    """Tell whether a Marian model of several target languages is given none of them by this run."""
    known = getattr(tokenizer, "supported_language_codes", None)
    return bool(known) and not MARKED.match(prefix(tokenizer, config))


def begin_targets(model: Any, tokenizer: Any) -> None:
    """Make generation begin as the targets in training do, also when others load the saved model.

    Some tokenizers put the language first in the target: then generation is forced to begin with it. Others put it last: then
    training shifts it to where decoding starts.
    """
    if not _has_languages(tokenizer):
        return
    language = language_id(tokenizer)
    ids = tokenizer(text_target="a")["input_ids"]
    settings = model.generation_config
    if ids[0] == language:
        settings.forced_bos_token_id = language
    else:
        settings.forced_bos_token_id = None
        settings.decoder_start_token_id = model.config.decoder_start_token_id = language


def language_id(tokenizer: Any) -> int | None:
    """Return the token of the target language; None for a tokenizer that has no languages."""
    return _id_of(tokenizer, tokenizer.tgt_lang) if _has_languages(tokenizer) and tokenizer.tgt_lang else None


def _has_languages(tokenizer: Any) -> bool:
    return hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang")


def _id_of(tokenizer: Any, code: str) -> int | None:
    for token in (f"__{code}__", code):  # `en` alone is also a piece of words
        token_id = tokenizer.convert_tokens_to_ids(token)
        if token_id is not None and token_id != tokenizer.unk_token_id:
            return int(token_id)
    return None


def _check_marked(model: ModelDescription, wanted: dict[str, str | None]) -> None:
    known, target = codes(model.tokenizer), wanted["target_language"]
    if known and target is not None and target not in known:
        raise _unknown(model, "target_language", target, known)
    wrong = [
        YAML_PATHS[field]
        for field in FIELDS
        if wanted[field] is not None and not (known and field == "target_language")
    ]
    if wrong:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"{model.name} has no codes for languages. Leave {' and '.join(wrong)} out; T5 is told the languages in "
            'words, in preprocessing.sourcePrefix: "translate English to German: ".',
        )


def _unknown(model: ModelDescription, field: str, code: str, known: list[str]) -> ExpectedError:
    same_start = [other for other in known if other.casefold().startswith(code.casefold()[:2])]
    close = get_close_matches(code, same_start or known, 1, 0.3)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return ExpectedError(
        Reason.ARGUMENTS_INVALID,
        f"{model.name} has no language {code!r} ({YAML_PATHS[field]}).{meant} Its codes: {names(known, 30)}.",
    )
