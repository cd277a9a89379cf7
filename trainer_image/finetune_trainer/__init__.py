"""What runs inside the training image, and `report`, by which a program of the user's own tells its progress.

Layers, lowest first: `contract` (documents that the operator reads and writes too) < `shared` (volume, paths, failures, the Hub,
checkpoints) < `data` (rows and the model that reads them) < `tasks` < the five commands, which know nothing of each other:
`prepare` turns the user's data into tokenised Arrow files, `launch` is process 1 of every training pod, `train` is one rank of a
task, `script` one of the user's own program, `publish` brings the finished model to the Hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune_trainer.reporting import report

__all__ = ["report"]


def __getattr__(name: str) -> Any:
    """Import `report` when a program asks for it: the operator's image has `contract` alone."""
    if name != "report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finetune_trainer.reporting import report

    return report
