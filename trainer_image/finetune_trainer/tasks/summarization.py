"""A text and its summary, compared by ROUGE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from finetune_trainer.tasks import generation, scripts
from finetune_trainer.tasks.seq2seq import SequenceToSequence
from finetune_trainer.tasks.task import Evaluated, Training

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
PERCENT = 100
"""Factor of ROUGE, which papers and the example scripts of transformers give from 0 to 100, the library from 0 to 1."""
LOOKED_AT = 1000
"""Summaries that are read to find out their script."""


class Summarization(SequenceToSequence):
    """F-measures of ROUGE-1, -2, -L and -Lsum, as means over the rows."""

    name = "summarization"

    def data_messages(self, tables: dict[str, pa.Table]) -> tuple[str, ...]:
        judged = tables.get("validation")
        if judged is None or not scripts.beyond_ascii(judged.column(self.roles[1])[:LOOKED_AT].to_pylist()):
            return ()
        return (
            "The summaries are not all in the letters a to z. rouge_score would leave the others out of the count: words "
            "of any script are counted, without the stemming that is for English.",
        )

    def scores(self, written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Compute ROUGE; sentences are put on lines of their own, which ROUGE-Lsum goes by."""
        from nltk.tokenize.punkt import PunktSentenceTokenizer
        from rouge_score.rouge_scorer import RougeScorer

        tokenizer = scripts.Words() if scripts.beyond_ascii(references[:LOOKED_AT]) else None
        scorer = RougeScorer(ROUGE, use_stemmer=True, tokenizer=tokenizer)
        sentences = PunktSentenceTokenizer()
        totals = dict.fromkeys(ROUGE, 0.0)
        for text, reference in zip(written, references, strict=True):
            lines = ["\n".join(sentences.tokenize(passage)) for passage in (reference, text)]
            for name, score in scorer.score(*lines).items():
                totals[name] += score.fmeasure
        return {name: PERCENT * total / len(references) for name, total in totals.items()}

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Name the tokenizer that split texts into words."""
        if not generation.wanted(run.config):
            return {}
        beyond = scripts.beyond_ascii(self._texts(evaluated, self.roles[1])[:LOOKED_AT])
        return {"rougeTokenizer": "words of any script" if beyond else "rouge_score with Porter stemmer"}


TASK = Summarization()
