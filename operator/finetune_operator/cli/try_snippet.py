"""The line of code that tries a model after `finetune run`. Pure.

transformers 5 has no pipeline that answers questions, sums up or translates; there model and tokenizer are used as they are.
No double quote may be in it: it stands in a shell's.
"""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob

CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "text-generation": "AutoModelForCausalLM",
    "fill-mask": "AutoModelForMaskedLM",
}
LABELLED = ("text-classification", "token-classification")

_WRITES = "print(t.batch_decode(m.generate(**t('{prefix}your text', return_tensors='pt')), skip_special_tokens=True))"
_ANSWERS = (
    "i = t('your question', 'your context', return_tensors='pt'); o = m(**i); "
    "print(t.decode(i.input_ids[0][o.start_logits.argmax() : o.end_logits.argmax() + 1]))"
)


def code(job: FineTuneJob, folder: str, labels: int | None = None, base: str | None = None) -> str:
    """Python that loads the model in `folder` and tries it.

    An adapter brings neither its labels (`labels`: how many there are) nor its base model along, which it looks for under the
    name that pods know it by (`base`: its folder on this machine).
    """
    task = job.spec.task
    adapter = job.spec.peft is not None and not job.spec.peft.save_merged
    told = f"num_labels={labels}" if adapter and labels and task in LABELLED else ""
    on_base = adapter and base is not None
    if not on_base and task not in ("summarization", "translation", "question-answering"):
        more = f", model_kwargs=dict({told})" if told else ""
        return f"from transformers import pipeline; p = pipeline('{task}', '{folder}'{more}); {_call(task)}"
    cls = CLASSES[task]
    imports = (
        f"from transformers import AutoTokenizer, {cls}, pipeline; t = AutoTokenizer.from_pretrained('{folder}'); "
    )
    if on_base:
        imports = f"from peft import PeftModel; {imports}"
        loaded = f"{cls}.from_pretrained('{base}'{f', {told}' if told else ''})"
        loaded = f"PeftModel.from_pretrained({loaded}, '{folder}').merge_and_unload()"
    else:
        loaded = f"{cls}.from_pretrained('{folder}')"
    match task:
        case "summarization" | "translation":
            return f"{imports}m = {loaded}; {_WRITES.format(prefix=_prefix(job))}"
        case "question-answering":
            return f"{imports}m = {loaded}; {_ANSWERS}"
        case _:
            return f"{imports}p = pipeline('{task}', {loaded}, tokenizer=t); {_call(task)}"


def stands_in_quotes(code: str) -> bool:
    """Whether a shell takes the code for nothing but a word in double quotes, whatever folders are called."""
    return code.isprintable() and not set(code) & set('"$`\\\\!')


def _call(task: str) -> str:
    return "print(p('your text ' + p.tokenizer.mask_token))" if task == "fill-mask" else "print(p('your text'))"


def _prefix(job: FineTuneJob) -> str:
    """The words before each source text, if they mean nothing to a shell."""
    prefix = job.spec.preprocessing.source_prefix or ""
    return prefix if prefix.replace(" ", "").replace(":", "").isalnum() else ""
