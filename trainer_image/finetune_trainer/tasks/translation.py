"""A text and its translation, compared by BLEU and chrF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_trainer.tasks import generation, scripts
from finetune_trainer.tasks.seq2seq import SequenceToSequence
from finetune_trainer.tasks.task import Evaluated, Training

LOOKED_AT = 1000
"""References that are read to find out their script."""
UNSPACED = 0.2
"""Share of letters of a script from which on words are split by its rules."""


class Translation(SequenceToSequence):
    """sacreBLEU's corpus BLEU and chrF."""

    name = "translation"

    def scores(self, written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {
            name: float(metric.corpus_score(list(written), [list(references)]).score)
            for name, metric in counters(references).items()
        }

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Return sacreBLEU's signatures, with which others can compute the same scores."""
        if not generation.wanted(run.config):
            return {}
        references = self._texts(evaluated, self.roles[1])
        metrics = counters(references)
        for metric in metrics.values():
            metric.corpus_score(references[:1], [references[:1]])  # a metric has a signature once it knows references
        return {f"{name}Signature": str(metric.get_signature()) for name, metric in metrics.items()}


def counters(references: Sequence[str]) -> dict[str, Any]:
    """Return sacreBLEU's counters for texts in the script of these."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU(tokenize=word_rules(references)), "chrf": CHRF()}


def word_rules(references: Sequence[str]) -> str:
    """Name sacreBLEU's rules for splitting a text into words: its usual rules count a text without spaces as one word."""
    looked_at = references[:LOOKED_AT]
    if scripts.share(looked_at, scripts.UNSPACED) < UNSPACED:
        return "13a"
    return "zh" if scripts.share(looked_at, r"\p{Han}") > 1 - UNSPACED else "char"


TASK = Translation()
