"""Rules of publishing: repository and branch need names that the Hub allows, and publishing needs a token."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule

_OWNER = "[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"

RULES = (
    Rule(
        "spec.publish.repoId",
        f"self.matches('^({_OWNER}/)?{_OWNER}$') && !self.contains('--') && !self.contains('..') && "
        "!self.endsWith('.git')",
        "is no name of a repository on the Hub: give owner/name or name, each of at most 96 letters, digits, `-`, `_` "
        "and `.`, with neither `--` nor `..`, beginning and ending with a letter or digit, without .git",
        "self",
    ),
    Rule(
        "spec.publish.revision",
        "!self.contains('..') && !self.contains('//') && !self.endsWith('/') && !self.endsWith('.') && "
        "!self.endsWith('.lock')",
        "is no name of a branch: give one such as main",
        "self",
    ),
    Rule(
        "spec",
        "!has(self.publish) || has(self.hub) && has(self.hub.tokenSecretRef)",
        "needs a token that may write: name its Secret in hub.tokenSecretRef",
        field=".publish",
    ),
)
