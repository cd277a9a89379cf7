"""`train`: one rank, a child of torchrun.

`recipe` is the whole story in a page: world, model, data, Trainer, result. `data.sampler` decides which rows make a batch,
`trainer` is what differs from the stock Trainer, `pulse` lets all ranks decide the same, `report` tells `launch`.
Everything slow is imported by `recipe`; this module and `command` are not.
"""


def main() -> int:
    """Run the rank. Does not return: the process ends in `command`."""
    from finetune_trainer.train.command import main as run

    return run()
