"""The `finetune` command: writes, runs, renders, validates and explains FineTuneJobs without a cluster.

`app` declares the commands; each lives in a module of its own and is imported when it is called. Nothing here may import
typer, rich or pydantic early, because the processes that `finetune run` starts import this package too.
"""


def main() -> None:
    """Run the console script."""
    from finetune_operator.cli.app import app

    app()
