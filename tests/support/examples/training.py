"""One rank in this process: the whole of `train`, without the seconds that a process of its own takes to import it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from finetune_trainer.contract.launch_protocol import RankEnv
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.shared.host import free_port
from finetune_trainer.shared.launch_client import LaunchClient
from tests.support.ranks import TOKEN, Heard, PlayedLaunch


def train_here(folder: Path, config: TaskConfig, prepared: PreparedTask) -> Path:
    """Train; return the folder of the finished model."""
    from finetune_trainer.train.progress_reporter import Reporter
    from finetune_trainer.train.recipe import train

    staging, sealed = folder / "staging", folder / "sealed"
    for part in (staging, sealed):
        part.mkdir(parents=True)
    launch = PlayedLaunch(Heard(), prepared, staging, sealed, world=1, kill_after=None)
    of_one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    torchrun = {**of_one, "MASTER_ADDR": "127.0.0.1"}
    variables = {**torchrun, "MASTER_PORT": str(free_port("127.0.0.1")), RankEnv.STAGING.value: str(staging)}
    with launch.served() as address:
        client = LaunchClient(address, TOKEN)
        reporter = Reporter(client, active=True)
        try:
            with mock.patch.dict(os.environ, variables):
                train(config, client, reporter)
        finally:
            reporter.close()
            _forget_the_world()
    return staging / "model"


def _forget_the_world() -> None:
    """Forget the process group, and accelerate's copy of its state: the next training makes its own."""
    import torch.distributed as dist
    from accelerate.state import AcceleratorState

    if dist.is_initialized():
        dist.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
