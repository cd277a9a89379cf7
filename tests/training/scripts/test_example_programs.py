"""The programs of `examples/scripts`, by hand on two ranks: what is resumed after a kill ends as what nobody disturbed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from finetune_operator.cli.manifest_files import read
from tests.support.example_programs import SCRIPTS, Finished, Programs, programs
from tests.support.tiny import reviews, tiny_bert, write_rows
from tests.support.tiny_t5 import PREFIX, stories, tiny_t5

JOBS = sorted(
    path
    for path in SCRIPTS.parent.glob("*.yaml")
    if "configMap" in read(str(path))[0]["spec"].get("script", {})  # modules are of other projects
)
"""Jobs of the examples that run one of the programs."""
CHANCE = 0.5
"""Accuracy of who guesses: half of the reviews are good ones."""
VALIDATION_STORIES = 15
"""Not a multiple of the ranks."""


@dataclass(frozen=True)
class Material:
    """Models and data that the programs train with."""

    folder: Path
    programs: Programs

    def classification(self, model: str) -> list[str]:
        """Return the arguments that the loops share, but for the model's: 20 steps an epoch."""
        files = [f"--{split}_file={self.folder / split}.csv" for split in ("train", "validation")]
        return [*files, model.format(self.folder), "--batch_size=16", "--learning_rate=5e-3"]

    def native(self, output: Path, *, model: str = "bert", resume: Path | None = None, **how: object) -> Finished:
        arguments = [*self.classification(f"--model={{}}/{model}"), "--warmup_steps=4", "--save_steps=8"]
        environment = {"OUTPUT_DIR": str(output), "RESUME_FROM_CHECKPOINT": str(resume or "")}
        return self.run("native_loop.py", arguments, output, environment=environment, **how)

    def accelerate(self, output: Path, *, model: str = "bert", resume: Path | None = None, **how: object) -> Finished:
        arguments = [*self.classification(f"--model_name_or_path={{}}/{model}"), "--num_warmup_steps=4"]
        arguments += ["--checkpointing_steps=8", f"--output_dir={output}"]
        arguments += [f"--resume_from_checkpoint={resume}"] if resume else []
        # What `accelerate launch --cpu` sets beside torchrun's variables.
        return self.run("accelerate_loop.py", arguments, output, environment={"ACCELERATE_USE_CPU": "true"}, **how)

    def summarize(self, output: Path, *, resume: Path | None = None, **how: object) -> Finished:
        arguments = [f"--model_name_or_path={self.folder}/t5", f"--output_dir={output}", "--use_cpu"]
        arguments += [f"--{split}_file={self.folder}/{split}-stories.csv" for split in ("train", "validation")]
        arguments += ["--text_column=story", "--summary_column=gist", f"--source_prefix={PREFIX}"]
        arguments += ["--max_train_samples=192", "--num_train_epochs=2", "--per_device_train_batch_size=8"]
        arguments += ["--learning_rate=1e-2", "--save_steps=8", "--logging_steps=4", "--report_to=none"]
        arguments += ["--do_train", "--do_predict", "--predict_with_generate", "--generation_max_length=12"]
        arguments += [f"--resume_from_checkpoint={resume}"] if resume else []
        return self.run("summarize_trainer.py", arguments, output, **how)

    def run(self, program: str, arguments: list[str], output: Path, **how: object) -> Finished:
        logs = output.with_name(f"{output.name}-logs")
        finished = self.programs.run(program, arguments, logs, **how)  # type: ignore[arg-type]
        assert not any(finished.exit_codes) or finished.was_killed, finished.output
        return finished


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("programs")
    with programs(folder / "cache") as running:
        tiny_bert(folder / "bert", dropout=0.1)
        tiny_bert(folder / "without-dropout")
        write_rows(folder / "train.csv", reviews(320))
        write_rows(folder / "validation.csv", reviews(61, seed=1))
        tiny_t5(folder / "t5", dropout=0.1)
        write_rows(folder / "train-stories.csv", stories(200))
        write_rows(folder / "validation-stories.csv", stories(VALIDATION_STORIES, seed=1))
        yield Material(folder, running)


def accuracies(finished: Finished) -> list[float]:
    """Return the accuracy after each epoch, as the loops print it."""
    return [float(number) for number in re.findall(r"epoch \d+: accuracy ([\d.]+)", finished.output)]


def assert_same_weights(folder: Path, other: Path, *, tolerance: float = 0.0) -> None:
    weights, others = (load_file(path / "model.safetensors") for path in (folder, other))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert np.abs(tensor - others[name]).max() <= tolerance, name


@pytest.mark.parametrize("path", JOBS, ids=[path.stem for path in JOBS])
def test_job_of_an_example_gives_its_program_arguments_that_it_has(path: Path) -> None:
    from transformers import Seq2SeqTrainingArguments

    (manifest,) = read(str(path))
    script = manifest["spec"]["script"]
    source = (SCRIPTS / script["configMap"]["key"]).read_text(encoding="utf-8")
    names = [argument.partition("=")[0] for argument in script["args"]]
    own = set(re.findall(r'"(--\w+)"', source)) | {
        f"--{name}" for name in re.findall(r"^ {4}(\w+): ", source, re.MULTILINE)
    }
    of_trainer = {f"--{name}" for name in Seq2SeqTrainingArguments.__dataclass_fields__}
    assert set(names) <= (own | of_trainer if "Seq2SeqTrainingArguments" in source else own)


def test_native_loop_resumed_after_a_kill_ends_as_undisturbed(material: Material, tmp_path: Path) -> None:
    undisturbed = material.native(tmp_path / "undisturbed")
    output = tmp_path / "disturbed"
    killed = material.native(output, kill_before="partial_32")
    assert killed.was_killed
    checkpoints = output / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step_16", "step_24"]
    resumed = material.native(output, resume=checkpoints / "step_24")

    assert_same_weights(output / "final", tmp_path / "undisturbed" / "final")
    assert accuracies(resumed)[-1] == accuracies(undisturbed)[-1] > CHANCE


def test_accelerate_loop_resumed_after_a_kill_ends_as_undisturbed(material: Material, tmp_path: Path) -> None:
    undisturbed = material.accelerate(tmp_path / "undisturbed")
    output = tmp_path / "disturbed"
    killed = material.accelerate(output, kill_before="step_32")
    assert killed.was_killed
    assert sorted(path.name for path in output.iterdir()) == ["step_16", "step_24", "step_8"]
    resumed = material.accelerate(output, resume=output / "step_24")

    assert_same_weights(output / "final", tmp_path / "undisturbed" / "final")
    assert accuracies(resumed)[-1] == accuracies(undisturbed)[-1] > CHANCE


def test_loops_learn_on_two_ranks_what_they_learn_on_one(material: Material, tmp_path: Path) -> None:
    """Without dropout, whose draws are each rank's own, all that differs is the order in which numbers are added."""
    for run in (material.native, material.accelerate):
        name = run.__name__
        alone = run(tmp_path / f"{name}-one", model="without-dropout", world=1)
        shared = run(tmp_path / f"{name}-two", model="without-dropout", world=2)
        assert accuracies(alone) == accuracies(shared)
        assert_same_weights(tmp_path / f"{name}-one" / "final", tmp_path / f"{name}-two" / "final", tolerance=1e-3)


def test_summarize_trainer_resumed_after_a_kill_ends_as_undisturbed(material: Material, tmp_path: Path) -> None:
    undisturbed, newest, explicit = (tmp_path / name for name in ("undisturbed", "newest", "explicit"))
    material.summarize(undisturbed)
    killed = material.summarize(newest, kill_before="checkpoint-24")
    assert killed.was_killed
    shutil.copytree(newest, explicit)
    material.summarize(newest)
    # That of an explicit path is the older one, which the program would not find by itself.
    material.summarize(explicit, resume=explicit / "checkpoint-8")

    for output in (newest, explicit):
        assert_same_weights(output, undisturbed)
        assert predictions(output) == predictions(undisturbed)
    assert len(predictions(undisturbed)) == VALIDATION_STORIES
    assert json.loads((undisturbed / "predict_results.json").read_text())["predict_rouge1"] > 50


def predictions(output: Path) -> list[str]:
    return (output / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()
