"""Python that tries a trained model, for all tasks: a block for its model card, a line for a shell after a run. Pure.

transformers 5 has no pipeline for questions, summaries or translations; there model and tokenizer are used directly.
"""

from __future__ import annotations

import json

from finetune_trainer.contract.task_facts import TASKS, TaskFacts

_BLOCK_LOADS = """from transformers import {cls}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({source})
model = {cls}.from_pretrained({source})
"""
_BLOCK_WRITES = """inputs = tokenizer({text}, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))"""
_BLOCK_ANSWERS = """inputs = tokenizer("Your question?", "The text that holds the answer.", return_tensors="pt")
outputs = model(**inputs)
start, end = outputs.start_logits.argmax(), outputs.end_logits.argmax()
print(tokenizer.decode(inputs.input_ids[0, start : end + 1]))"""
_LINE_WRITES = (
    "print(t.batch_decode(m.generate(**t('{prefix}your text', return_tensors='pt')), skip_special_tokens=True))"
)
_LINE_ANSWERS = (
    "i = t('your question', 'your context', return_tensors='pt'); o = m(**i); "
    "print(t.decode(i.input_ids[0][o.start_logits.argmax() : o.end_logits.argmax() + 1]))"
)


def block(task: str, repo_id: str, *, revision: str | None, prefix: str, options: str | None) -> str:
    """Write Python that loads the model from the Hub; `options` are the arguments that a pipeline needs for an adapter."""
    facts = TASKS[task]
    at = f", revision={_literal(revision)}" if revision else ""
    source = f"{_literal(repo_id)}{at}"
    if facts.pipeline:
        more = f", model_kwargs={options}" if options else ""
        return f'from transformers import pipeline\n\nmodel = pipeline("{task}", model={source}{more})'
    use = _BLOCK_WRITES.format(text=_literal(prefix + facts.sample)) if facts.writes else _BLOCK_ANSWERS
    return _BLOCK_LOADS.format(cls=facts.model_class, source=source) + use


def line(task: str, folder: str, *, prefix: str, adapter_labels: int | None, adapter_base: str | None) -> str:
    """Write a line that loads the model in `folder` and tries it, for a shell: it holds no double quote.

    An adapter holds neither its labels (`adapter_labels` is their number) nor its base model, which it looks for under the
    name that pods know (`adapter_base` is its folder on this machine). Both are None for a whole model.
    """
    facts = TASKS[task]
    option = f"num_labels={adapter_labels}" if adapter_labels and facts.labelled else ""
    if adapter_base is None and facts.pipeline:
        more = f", model_kwargs=dict({option})" if option else ""
        return f"from transformers import pipeline; p = pipeline('{task}', '{folder}'{more}); {_call(facts)}"
    cls = facts.model_class
    imports = (
        f"from transformers import AutoTokenizer, {cls}, pipeline; t = AutoTokenizer.from_pretrained('{folder}'); "
    )
    if adapter_base is not None:
        imports = f"from peft import PeftModel; {imports}"
        loaded = f"{cls}.from_pretrained('{adapter_base}'{f', {option}' if option else ''})"
        loaded = f"PeftModel.from_pretrained({loaded}, '{folder}').merge_and_unload()"
    else:
        loaded = f"{cls}.from_pretrained('{folder}')"
    if facts.pipeline:
        return f"{imports}p = pipeline('{task}', {loaded}, tokenizer=t); {_call(facts)}"
    return f"{imports}m = {loaded}; {_LINE_WRITES.format(prefix=prefix) if facts.writes else _LINE_ANSWERS}"


def _call(facts: TaskFacts) -> str:
    return "print(p('your text ' + p.tokenizer.mask_token))" if facts.masks else "print(p('your text'))"


def _literal(text: str) -> str:
    """Write text as a string of Python, on one line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
