"""The line of code that tries a model after `finetune run`, where a shell takes it as it is. Pure."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_trainer.contract import try_model


def code(job: FineTuneJob, folder: str, labels: int | None = None, base: str | None = None) -> str:
    """Return Python that loads the model in `folder` and tries it; nothing for a model of the user's own program.

    `labels` is the number of labels, `base` the folder of the base model on this machine.
    """
    if job.spec.task is None:
        return ""
    adapter = job.spec.peft is not None and not job.spec.peft.save_merged
    return try_model.line(
        job.spec.task,
        folder,
        prefix=_prefix(job),
        adapter_labels=labels if adapter else None,
        adapter_base=base if adapter else None,
    )


def stands_in_quotes(code: str) -> bool:
    """Return whether a shell takes the code as one plain word in double quotes, whatever the folders are called."""
    return code.isprintable() and not set(code) & set('"$`\\\\!')


def _prefix(job: FineTuneJob) -> str:
    """Return the words before each source text, if they mean nothing to a shell."""
    prefix = job.spec.preprocessing.source_prefix or ""
    return prefix if prefix.replace(" ", "").replace(":", "").isalnum() else ""
