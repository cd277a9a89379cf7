"""The code in a model card: how anybody loads the model and tries it. Pure.

transformers 5 has no pipeline that answers questions, sums up or translates; there model and tokenizer are used as they are.
"""

from __future__ import annotations

from finetune_trainer.contract.run_config import RunConfig
from finetune_trainer.contract.task_facts import TASKS
from finetune_trainer.publish.markdown import literal

_LOADED = """from transformers import {cls}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({where})
model = {cls}.from_pretrained({where})
"""
_WRITES = """inputs = tokenizer({text}, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))"""
_ANSWERS = """inputs = tokenizer("Your question?", "The text that holds the answer.", return_tensors="pt")
outputs = model(**inputs)
start, end = outputs.start_logits.argmax(), outputs.end_logits.argmax()
print(tokenizer.decode(inputs.input_ids[0, start : end + 1]))"""


def code(config: RunConfig, repo_id: str, revision: str | None, options: str | None) -> str:
    """Write Python that loads the model; `options`: what a pipeline must be told of an adapter."""
    at = f", revision={literal(revision)}" if revision else ""
    where = f"{literal(repo_id)}{at}"
    facts = TASKS[config.task]
    if facts.pipeline:
        more = f", model_kwargs={options}" if options else ""
        return f'from transformers import pipeline\n\nmodel = pipeline("{config.task}", model={where}{more})'
    text = literal((config.preprocessing.source_prefix or "") + facts.sample)
    return _LOADED.format(cls=facts.model_class, where=where) + (
        _WRITES.format(text=text) if facts.writes else _ANSWERS
    )
