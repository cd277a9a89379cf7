"""`script`: one rank of the user's own program.

The launcher (torchrun, accelerate, python) starts `python -m finetune_trainer script` as it would start the program. This process waits
for what prepare has left, runs the program in itself, unmodified, and tells `launch` how it ended. Imports nothing slow: what the
program imports is its own affair.
"""

from finetune_trainer.script.script_command import main

__all__ = ["main"]
