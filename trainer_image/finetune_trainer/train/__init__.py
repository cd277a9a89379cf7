"""`train`: one rank, a child of torchrun.

`recipe` is the whole training on a page: world, model, data, Trainer, result. `data.sampler` decides which rows make a batch,
`trainer` is what differs from the stock Trainer, `pulse` lets all ranks decide the same, `progress_reporter` reports to
`launch`. Everything slow is imported by `recipe`; this module and `train_command` are not slow.
"""


def main() -> int:
    """Run the rank. It does not return: the process ends in `train_command`."""
    from finetune_trainer.train.train_command import main as run

    return run()
