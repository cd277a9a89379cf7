"""Mistakes about the Hub that the prepare step reports: unknown names, closed repositories, tokens without the right.

The tests are in `tests/training`; `setup` is the token in the job's Secret. The Hub has, of owner `us`, the models `tiny` (good),
`gated`, `closed` (gated, and nobody was let in), `private` and some that are none; datasets `reviews` (good), `configs`
(`plain` and `short`), `gated`, `closed` and some that are none; `me/kept` and
`somebody/model`. The account `me` is in the organisation `team`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.bad_input.row import BadInput, SaidBy


def _row(name: str, what: str, reason: str, message: str, spec: Mapping[str, Any], setup: str = "") -> BadInput:
    return BadInput(name, what, SaidBy.PREPARE, message, reason, spec, setup=setup)


MODELS = (
    _row(
        "model-misspelt",
        "a model that does not exist",
        "ModelNotFound",
        "The model 'us/tinny' is not on the Hub. Did you mean 'us/tiny'?",
        {"model.name": "us/tinny"},
    ),
    _row(
        "model-private",
        "a private model without a token",
        "ModelNotFound",
        "The model 'us/private' is not on the Hub. If it is private, name a Secret with your token in "
        "spec.hub.tokenSecretRef.",
        {"model.name": "us/private"},
        "no_token",
    ),
    _row(
        "model-revision",
        "a revision that the model does not have",
        "ModelNotFound",
        "The model 'us/tiny' has no revision 'mian'; it has the branches main and the tags v1. Did you mean 'main'? "
        "Set spec.model.revision to a branch, a tag or a commit of it.",
        {"model.revision": "mian"},
    ),
    _row(
        "model-commit",
        "a commit that the model does not have",
        "ModelNotFound",
        "The model 'us/tiny' has no revision '0123456789012345678901234567890123456789'",
        {"model.revision": "0123456789" * 4},
    ),
    _row(
        "model-gated-no-token",
        "a gated model without a token",
        "AccessDenied",
        "Access to the model 'us/gated' is restricted. Ask for access on its page, then name a Secret with your token "
        "in spec.hub.tokenSecretRef.",
        {"model.name": "us/gated"},
        "no_token",
    ),
    _row(
        "model-gated-wrong-token",
        "a gated model with a token that is not valid",
        "AccessDenied",
        "The Hub refused access to the model 'us/gated'. The token of spec.hub.tokenSecretRef is not valid (any more).",
        {"model.name": "us/gated"},
        "wrong_token",
    ),
    _row(
        "model-gated-closed",
        "a gated model to which the token's account was not let in",
        "AccessDenied",
        "Access to the model 'us/closed' is restricted. Its owner must grant access to the account of the token",
        {"model.name": "us/closed"},
    ),
    _row(
        "token-empty",
        "a Secret whose key is empty",
        "AccessDenied",
        "The key that spec.hub.tokenSecretRef names is empty.",
        {},
        "empty_token",
    ),
    _row(
        "model-without-weights",
        "a model repository without weights",
        "ModelNotFound",
        "The model 'us/no-weights' has no weights (model.safetensors); it holds config.json, tokenizer.json",
        {"model.name": "us/no-weights"},
    ),
    _row(
        "model-without-tokenizer",
        "a model repository without a tokenizer",
        "ModelNotFound",
        "The model 'us/no-tokenizer' has no tokenizer (tokenizer.json, vocab.txt, ...); it holds config.json, "
        "model.safetensors.",
        {"model.name": "us/no-tokenizer"},
    ),
    _row(
        "model-without-config",
        "a model repository without config.json (weights of another library)",
        "ModelNotFound",
        "The model 'us/gguf' is no model of transformers: it has no config.json; it holds README.md, tiny.gguf.",
        {"model.name": "us/gguf"},
    ),
    _row(
        "model-empty",
        "an empty model repository",
        "ModelNotFound",
        "The model 'us/empty' is no model of transformers: it has no config.json",
        {"model.name": "us/empty"},
    ),
    _row(
        "model-adapter",
        "an adapter in place of a model",
        "ModelNotFound",
        "The model 'us/adapter' is an adapter (adapter_config.json), not a whole model: merge it with its base model",
        {"model.name": "us/adapter"},
    ),
    _row(
        "model-is-a-dataset",
        "the name of a dataset in place of a model's",
        "ModelNotFound",
        "The model 'us/reviews' is not on the Hub.",
        {"model.name": "us/reviews"},
    ),
)

DATASETS = (
    _row(
        "dataset-misspelt",
        "a dataset that does not exist",
        "DatasetNotFound",
        "The dataset 'us/review' is not on the Hub. Did you mean 'us/reviews'?",
        {"dataset.name": "us/review"},
    ),
    _row(
        "dataset-format-as-name",
        "the name of a file format in place of a dataset's",
        "DatasetNotFound",
        "The dataset 'csv' is not on the Hub.",
        {"dataset.name": "csv"},
    ),
    _row(
        "dataset-config-misspelt",
        "a config that the dataset does not have",
        "DatasetNotFound",
        "The dataset 'us/configs' has no config 'plane'; it has plain, short. Did you mean 'plain'? "
        "Set spec.dataset.config.",
        {"dataset.name": "us/configs", "dataset.config": "plane"},
    ),
    _row(
        "dataset-config-missing",
        "no config where the dataset has several",
        "DatasetNotFound",
        "The dataset 'us/configs' has several configs: plain, short. Choose one in spec.dataset.config.",
        {"dataset.name": "us/configs"},
    ),
    _row(
        "dataset-config-of-none",
        "a config where the dataset has one alone",
        "DatasetNotFound",
        "The dataset 'us/reviews' has no config 'full'; it has default.",
        {"dataset.config": "full"},
    ),
    _row(
        "dataset-split-train",
        "a split to train on that the dataset does not have",
        "DatasetNotFound",
        "The dataset has no split 'training'; it has train, test. Did you mean 'train'? Set spec.dataset.splits.train.",
        {"dataset.splits.train": "training"},
    ),
    _row(
        "dataset-split-validation",
        "a split to evaluate on that the dataset does not have",
        "DatasetNotFound",
        "The dataset has no split 'validation'; it has train, test. Set spec.dataset.splits.validation.",
        {"dataset.splits.validation": "validation"},
    ),
    _row(
        "dataset-without-train",
        "no split named where the dataset has no `train`",
        "DatasetNotFound",
        "The dataset has no split 'train'; it has test. Set spec.dataset.splits.train.",
        {"dataset.name": "us/only-test", "dataset.splits": None},
    ),
    _row(
        "dataset-revision",
        "a revision that the dataset does not have",
        "DatasetNotFound",
        "The dataset 'us/reviews' has no revision 'v2'; it has the branches main and the tags v1.",
        {"dataset.revision": "v2"},
    ),
    _row(
        "dataset-gated-no-token",
        "a gated dataset without a token",
        "AccessDenied",
        "Access to the dataset 'us/gated' is restricted. Ask for access on its page, then name a Secret with your token",
        {"dataset.name": "us/gated"},
        "no_token",
    ),
    _row(
        "dataset-gated-closed",
        "a gated dataset to which the token's account was not let in",
        "AccessDenied",
        "Access to the dataset 'us/closed' is restricted. Its owner must grant access to the account of the token",
        {"dataset.name": "us/closed"},
    ),
    _row(
        "dataset-without-files",
        "a dataset repository without data",
        "DataInvalid",
        "The dataset 'us/no-files' cannot be read: The directory at hf://datasets/us/no-files@",
        {"dataset.name": "us/no-files"},
    ),
    _row(
        "dataset-script",
        "a dataset that is a program",
        "DataInvalid",
        "The dataset 'us/script' cannot be read: Dataset scripts are no longer supported, but found script.py",
        {"dataset.name": "us/script"},
    ),
    _row(
        "dataset-broken",
        "a dataset whose file is broken in a line",
        "DataInvalid",
        "The dataset 'us/broken' cannot be read: JSON parse error: Invalid encoding in string. in row 1",
        {"dataset.name": "us/broken"},
    ),
    _row(
        "dataset-column",
        "a column that the dataset does not have",
        "ColumnNotFound",
        "split 'train' of us/reviews has no column 'reviews'; it has review, stars. Did you mean 'review'?",
        {"dataset.columns": {"text": "reviews", "label": "stars"}},
    ),
)

PUBLISHING = (
    _row(
        "publish-to-somebody-else",
        "publishing to a repository of somebody else",
        "RepoIdInvalid",
        "somebody/model",
        {"publish": {"repoId": "somebody/model"}},
    ),
    _row(
        "publish-to-other-namespace",
        "publishing to a new repository of an owner that the token's account does not belong to",
        "RepoIdInvalid",
        "somebody/new",
        {"publish": {"repoId": "somebody/new"}},
    ),
    _row(
        "publish-read-token",
        "publishing with a token that may only read",
        "AccessDenied",
        "The token of me may only read: put one with the role `write` into the Secret of spec.hub.tokenSecretRef.",
        {"publish": {"repoId": "me/model"}},
        "read_token",
    ),
    _row(
        "publish-fine-grained-token",
        "publishing with a fine-grained token for other repositories",
        "AccessDenied",
        "The token may not write to me/kept",
        {"publish": {"repoId": "me/kept"}},
        "fine_grained_token",
    ),
    _row(
        "publish-private-to-public",
        "publishing what is to be private to a repository that is there and public",
        "RepoIsPublic",
        "me/kept is public, and spec.publish.private is true: nothing was uploaded.",
        {"publish": {"repoId": "me/kept", "private": True}},
    ),
    _row(
        "publish-wrong-token",
        "publishing with a token that is not valid",
        "AccessDenied",
        "spec.hub.tokenSecretRef",
        {"publish": {"repoId": "me/model"}},
        "wrong_token",
    ),
)

ROWS: tuple[BadInput, ...] = (*MODELS, *DATASETS, *PUBLISHING)
