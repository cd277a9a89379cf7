"""`prepare`: resolve, download, check and tokenise, once for all ranks and before an accelerator is taken.

`prepare_command` is what the pod runs; `hub` and `files` bring rows in; a task knows what it needs of them; `store` keeps the
result, content-addressed. Nothing here imports torch: the import would cost seconds and serve nothing.
"""


def main() -> int:
    """Run the command; returns its exit code."""
    from finetune_trainer.prepare.prepare_command import main as run

    return run()
