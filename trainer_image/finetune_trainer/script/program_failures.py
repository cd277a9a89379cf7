"""From the end of a user's program to a failure in the user's words."""

from __future__ import annotations

import errno
import os
import subprocess
from http import HTTPStatus
from types import TracebackType

from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.contract.script import Script
from finetune_trainer.shared import rank_failures
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.volume import is_of_volume

_LAUNCHERS = frozenset(
    {
        "torchrun",
        "torch.distributed.run",
        "torch.distributed.launch",
        "accelerate",
        "accelerate.commands.launch",
        "deepspeed",
    }
)
_USAGE = 2
"""Exit code of argparse, and of most programs, where an argument is wrong."""


def is_success(error: SystemExit) -> bool:
    """Return whether a program that has called `sys.exit` has ended well."""
    return error.code is None or error.code == 0


def failure_of(error: BaseException, rank: int, config: ScriptConfig) -> Failure:
    """Say what ended the program, who is to blame, and what to do."""
    failure = _of_program(error, config) or rank_failures.failure_of(error, rank, to_local(config.output))
    # Names of files that are no text hold what JSON can't.
    message = failure.message.encode("utf-8", "backslashreplace").decode()
    return failure.model_copy(update={"rank": rank, "message": message})


def nothing_left(script: Script, *, trained: bool) -> ExpectedError:
    """Make the error for a program that has ended with success and has left no file of a model."""
    where = f"below {script.model_output} in OUTPUT_DIR" if script.model_output is not None else "in OUTPUT_DIR"
    did = "has trained" if trained else "has reported no step"
    message = (
        f"The program has ended with exit code 0; it {did}, and left no file of a model {where}. Let it save there: "
        "--output_dir=$(OUTPUT_DIR) in spec.script.args, or the variable OUTPUT_DIR."
    )
    return ExpectedError(Reason.NOTHING_TRAINED, message)


def of_others(status: int | None, answer: str) -> ExpectedError:
    """Make the error for rank 0 of a program that has ended well, and not on other ranks."""
    if status == HTTPStatus.REQUEST_TIMEOUT:
        message = (
            f"The program has ended on rank 0, and has not reported its end on {answer} for a long time: let it come to its end on "
            "every rank, by its last line or sys.exit."
        )
        return ExpectedError(Reason.RANK_FAILED, message, cause=Cause.ERROR)
    return ExpectedError(Reason.PEER_LOST, f"The program has ended on rank 0: {answer}.", cause=Cause.ERROR)


def _of_program(error: BaseException, config: ScriptConfig) -> Failure | None:
    """Return the failure where it is one of the program alone, not of the machine or the volume."""
    if isinstance(error, SystemExit):
        return _of_exit(error)
    if isinstance(error, OSError) and is_of_volume(error, to_local(config.output)):
        return None
    return _of_user(error, config.script)


def _of_exit(error: SystemExit) -> Failure:
    usage = _argparse_message(error.__traceback__)
    if usage is not None:
        message = f"The program does not take its arguments: {usage}. Correct spec.script.args."
        return Failure(reason=Reason.ARGUMENTS_INVALID, cause=Cause.USER, message=message, exit_code=_USAGE)
    code = error.code if isinstance(error.code, int) else 1
    said = f": {error.code}" if isinstance(error.code, str) else ""
    return Failure(
        reason=Reason.RANK_FAILED,
        cause=Cause.ERROR,
        message=f"The program has ended with exit code {code}{said[: rank_failures.ERROR_CHARACTERS]}.",
        exit_code=code,
    )


def _argparse_message(frames: TracebackType | None) -> str | None:
    """Return what argparse has said, where it has ended the program."""
    while frames is not None:
        code = frames.tb_frame.f_code
        if code.co_name == "error" and code.co_filename.endswith("argparse.py"):
            return str(frames.tb_frame.f_locals.get("message"))[: rank_failures.ERROR_CHARACTERS]
        frames = frames.tb_next
    return None


def _is_of_runpy(error: ImportError) -> bool:
    """Return whether there is no such module, in place of one that imports another in vain."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_globals.get("__name__") == "runpy"


def _of_own_launcher(error: BaseException) -> Failure | None:
    """Return the failure where the program starts ranks by itself, beside those that the job has started."""
    if not isinstance(error, subprocess.CalledProcessError):
        return None
    words = error.cmd.split() if isinstance(error.cmd, str) else [os.fsdecode(word) for word in error.cmd]
    name = next((name for word in words if (name := os.path.basename(word)) in _LAUNCHERS), None)
    if name is None:
        return None
    message = (
        f"The program starts {name} by itself. The job has started a process for each rank already: give the program that is to run "
        "on each of them in spec.script, and the number of processes in spec.nodes and spec.processesPerNode.\n"
        f"{rank_failures.last_lines(error)}"
    )
    return Failure(reason=Reason.SCRIPT_INVALID, cause=Cause.USER, message=message)


def _of_user(error: BaseException, script: Script) -> Failure | None:
    """Return the failure where trying again can't help."""
    own_launcher = _of_own_launcher(error)
    if own_launcher is not None:
        return own_launcher
    if isinstance(error, SyntaxError):
        column = f", column {error.offset}" if error.offset else ""
        where = f"line {error.lineno}{column}" if error.lineno else "an unknown line"
        message = f"{error.filename or script.path} can't be read as Python: {error.msg} in {where}."
        return Failure(reason=Reason.SCRIPT_INVALID, cause=Cause.USER, message=message)
    if isinstance(error, ModuleNotFoundError):
        missing = f"no module {error.name}" if error.name is not None else "not all that the program imports"
        message = (
            f"The training image has {missing}: name its package in spec.script.requirements, or choose an image "
            f"with it.\n{rank_failures.last_lines(error)}"
        )
        return Failure(reason=Reason.NOT_IN_IMAGE, cause=Cause.USER, message=message)
    if isinstance(error, ImportError) and script.module is not None and _is_of_runpy(error):
        message = f"spec.script.module: {error}."
        return Failure(reason=Reason.NOT_IN_IMAGE, cause=Cause.USER, message=message)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        message = (
            f"The program writes to {error.filename}, and a pod's own file system is read-only: let it write below OUTPUT_DIR, "
            f"which is kept, or /tmp.\n{rank_failures.last_lines(error)}"
        )
        return Failure(reason=Reason.SCRIPT_INVALID, cause=Cause.USER, message=message)
    if isinstance(error, ValueError) and "not used by the HfArgumentParser" in str(error):
        return Failure(
            reason=Reason.ARGUMENTS_INVALID,
            cause=Cause.USER,
            message=f"{str(error)[: rank_failures.ERROR_CHARACTERS]}. Correct spec.script.args.",
        )
    return None
