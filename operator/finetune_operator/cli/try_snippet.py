"""The line of code that tries a model after `finetune run`. Pure.

transformers 5 has no pipeline for questions, summaries or translations; there model and tokenizer are used directly. The code
must hold no double quote, because it stands in those of a shell.
"""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_trainer.contract.task_facts import TASKS, TaskFacts

_WRITES = "print(t.batch_decode(m.generate(**t('{prefix}your text', return_tensors='pt')), skip_special_tokens=True))"
_ANSWERS = (
    "i = t('your question', 'your context', return_tensors='pt'); o = m(**i); "
    "print(t.decode(i.input_ids[0][o.start_logits.argmax() : o.end_logits.argmax() + 1]))"
)


def code(job: FineTuneJob, folder: str, labels: int | None = None, base: str | None = None) -> str:
    """Return Python that loads the model in `folder` and tries it.

    An adapter holds neither its labels (`labels` is their number) nor its base model, which it looks for under the name that
    pods know (`base` is its folder on this machine).
    """
    task, facts = job.spec.task, TASKS[job.spec.task]
    adapter = job.spec.peft is not None and not job.spec.peft.save_merged
    option = f"num_labels={labels}" if adapter and labels and facts.labelled else ""
    on_base = adapter and base is not None
    if not on_base and facts.pipeline:
        more = f", model_kwargs=dict({option})" if option else ""
        return f"from transformers import pipeline; p = pipeline('{task}', '{folder}'{more}); {_call(facts)}"
    cls = facts.model_class
    imports = (
        f"from transformers import AutoTokenizer, {cls}, pipeline; t = AutoTokenizer.from_pretrained('{folder}'); "
    )
    if on_base:
        imports = f"from peft import PeftModel; {imports}"
        loaded = f"{cls}.from_pretrained('{base}'{f', {option}' if option else ''})"
        loaded = f"PeftModel.from_pretrained({loaded}, '{folder}').merge_and_unload()"
    else:
        loaded = f"{cls}.from_pretrained('{folder}')"
    if facts.pipeline:
        return f"{imports}p = pipeline('{task}', {loaded}, tokenizer=t); {_call(facts)}"
    return f"{imports}m = {loaded}; {_WRITES.format(prefix=_prefix(job)) if facts.writes else _ANSWERS}"


def stands_in_quotes(code: str) -> bool:
    """Return whether a shell takes the code as one plain word in double quotes, whatever the folders are called."""
    return code.isprintable() and not set(code) & set('"$`\\\\!')


def _call(facts: TaskFacts) -> str:
    return "print(p('your text ' + p.tokenizer.mask_token))" if facts.masks else "print(p('your text'))"


def _prefix(job: FineTuneJob) -> str:
    """Return the words before each source text, if they mean nothing to a shell."""
    prefix = job.spec.preprocessing.source_prefix or ""
    return prefix if prefix.replace(" ", "").replace(":", "").isalnum() else ""
