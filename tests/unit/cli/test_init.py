"""`finetune init`: what command lines of public examples become, what is taken out of them, and that no secret is written."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.init import launch_command, launcher_options, remarks
from finetune_operator.cli.init.command import init, manifest
from finetune_operator.cli.init.draft import job_name
from finetune_operator.cli.init.program_draft import draft_of
from finetune_operator.cli.manifest_files import load
from finetune_operator.cli.validate import validate_files, warnings
from finetune_trainer.script.program import expanded

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7b"
WANDB_KEY = "0123456789abcdef0123456789abcdef01234567"

TRAINER_PROGRAM = """\
import sys
import numpy as np
import evaluate
from datasets import load_dataset
from transformers import AutoModelForSeq2SeqLM, HfArgumentParser, Seq2SeqTrainingArguments
from columns import names

parser = HfArgumentParser(Seq2SeqTrainingArguments)
(arguments,) = parser.parse_args_into_dataclasses()
data = load_dataset("csv", data_files={})
trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
"""
GLUE_PROGRAM = """\
from datasets import load_dataset
from transformers import HfArgumentParser, TrainingArguments
if data_args.task_name is not None:
    raw = load_dataset("nyu-mll/glue", data_args.task_name)
else:
    raw = load_dataset("csv", data_files=files)
"""
ACCELERATE_PROGRAM = """\
import argparse
import evaluate
from accelerate import Accelerator
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("bert-base-cased")
model = AutoModelForSequenceClassification.from_pretrained("bert-base-cased")
rows = load_dataset("glue", "mrpc")
metric = evaluate.load("glue", "mrpc")
"""
KERAS_PROGRAM = "import tensorflow as tf\nfrom transformers import TFAutoModelForSequenceClassification\n"
FSDP_CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
downcast_bf16: 'no'
fsdp_config: {fsdp_sharding_strategy: FULL_SHARD, fsdp_offload_params: false}
machine_rank: 1
main_process_ip: 10.0.0.1
main_process_port: 29500
mixed_precision: bf16
num_machines: 2
num_processes: 16
rdzv_backend: static
same_network: true
use_cpu: false
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as users have it: programs, data, a configuration of accelerate."""
    files = {
        "run_summarization.py": TRAINER_PROGRAM,
        "columns.py": "import json\nnames = ['text', 'summary']\n",
        "run_glue.py": GLUE_PROGRAM,
        "run_clm.py": TRAINER_PROGRAM.replace("Seq2SeqTrainingArguments", "TrainingArguments"),
        "nlp_example.py": ACCELERATE_PROGRAM,
        "multinode.py": "import torch\nfrom torch.distributed import init_process_group\n",
        "keras_classify.py": KERAS_PROGRAM,
        "fsdp.yaml": FSDP_CONFIG,
        "data/train.csv": "text,summary\na,b\n",
        "data/validation.csv": "text,summary\na,b\n",
        "model/config.json": "{}",
        "zero3.json": "{}",
        "package/__init__.py": "",
        "package/train.py": "import torch\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spec(command: str, name: str | None = None) -> dict[str, Any]:
    """Return the spec of a command's job."""
    text = manifest(draft_of(launch_command.parse(shlex.split(command)), Path.cwd(), name), with_config_map=False)
    (document,) = load(text)
    assert yaml.safe_load(text).keys() == document.keys()
    result: dict[str, Any] = document["spec"]
    return result


def script(command: str) -> dict[str, Any]:
    result: dict[str, Any] = spec(command)["script"]
    return result


def said(command: str) -> str:
    draft = draft_of(launch_command.parse(shlex.split(command)), Path.cwd(), None)
    return "\n".join(remarks.lines(draft.remarks))


SUMMARIZATION = (
    "torchrun --nproc_per_node 8 run_summarization.py --model_name_or_path google-t5/t5-small --do_train --do_eval "
    "--dataset_name cnn_dailymail --dataset_config '3.0.0' --source_prefix 'summarize: ' --output_dir /tmp/tst-summarization "
    "--per_device_train_batch_size=4 --overwrite_output_dir --predict_with_generate"
)
PUBLIC_EXAMPLES = {
    "run_summarization": (
        SUMMARIZATION,
        {
            "script": {
                "launcher": "torchrun",
                "configMap": {"name": "run-summarization-code", "key": "run_summarization.py"},
                "args": [
                    *("--model_name_or_path", "google-t5/t5-small", "--do_train", "--do_eval"),
                    *("--dataset_name", "cnn_dailymail", "--dataset_config", "3.0.0"),
                    *("--source_prefix", "summarize: ", "--output_dir=$(OUTPUT_DIR)"),
                    *("--per_device_train_batch_size=4", "--predict_with_generate"),
                ],
                "requirements": ["evaluate"],
                "checkpointArgument": "--resume_from_checkpoint",
            },
            "model": {"name": "google-t5/t5-small"},
            "dataset": {"name": "cnn_dailymail", "config": "3.0.0"},
            "nodes": 1,
            "processesPerNode": 8,
            "resources": {"limits": {"nvidia.com/gpu": 8}},
            "storage": {"size": "50Gi"},
        },
        ["taken out: --overwrite_output_dir: a job overwrites no output of another"],
    ),
    "run_glue": (
        "python run_glue.py --model_name_or_path bert-base-cased --task_name mrpc --do_train --max_seq_length 128 "
        "--output_dir /tmp/mrpc/",
        {
            "script": {
                "launcher": "torchrun",
                "configMap": {"name": "run-glue-code", "key": "run_glue.py"},
                "args": [
                    *("--model_name_or_path", "bert-base-cased", "--task_name", "mrpc", "--do_train"),
                    *("--max_seq_length", "128", "--output_dir=$(OUTPUT_DIR)"),
                ],
            },
            "model": {"name": "bert-base-cased"},
            "dataset": {"name": "nyu-mll/glue", "config": "mrpc"},
            "nodes": 1,
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "storage": {"size": "50Gi"},
        },
        ["started by torchrun in place of python"],
    ),
    "run_clm": (
        "python -m torch.distributed.launch --nproc_per_node=2 run_clm.py --model_name_or_path openai-community/gpt2 "
        "--train_file data/train.csv --validation_file ./data/validation.csv --do_train --resume_from_checkpoint /tmp/x "
        "--local_rank 0 --ddp_backend nccl --cache_dir /tmp/cache --output_dir out",
        {
            "script": {
                "launcher": "torchrun",
                "configMap": {"name": "run-clm-code", "key": "run_clm.py"},
                "args": [
                    *("--model_name_or_path", "openai-community/gpt2", "--train_file", "$(DATA_DIR)/train.csv"),
                    *("--validation_file", "$(DATA_DIR)/validation.csv", "--do_train", "--output_dir=$(OUTPUT_DIR)"),
                ],
                "requirements": ["evaluate"],
                "checkpointArgument": "--resume_from_checkpoint",
            },
            "model": {"name": "openai-community/gpt2"},
            "dataset": {"files": {"train": ["/data/train.csv"], "validation": ["/data/validation.csv"]}},
            "nodes": 1,
            "processesPerNode": 2,
            "resources": {"limits": {"nvidia.com/gpu": 2}},
            "volumes": [{"name": "data", "mountPath": "/data", "readOnly": True, "claimName": "run-clm-data"}],
            "storage": {"size": "50Gi"},
        },
        [
            "taken out: --resume_from_checkpoint: the job gives the newest good checkpoint by itself",
            "taken out: --local_rank: the launcher tells each process its rank",
            "taken out: --ddp_backend: the job chooses it",
            "taken out: --cache_dir: the job downloads model and data once",
        ],
    ),
    "accelerate nlp_example": (
        "accelerate launch --multi_gpu --num_machines 2 --num_processes 8 --machine_rank 0 --main_process_ip 10.0.0.1 "
        "--main_process_port 29500 --mixed_precision fp16 nlp_example.py --mixed_precision fp16",
        {
            "script": {
                "launcher": "accelerate",
                "configMap": {"name": "nlp-example-code", "key": "nlp_example.py"},
                "args": ["--mixed_precision", "fp16"],
                "requirements": ["evaluate"],
                "accelerateConfig": {"mixed_precision": "fp16"},
            },
            "model": {"name": "bert-base-cased"},
            "dataset": {"name": "glue", "config": "mrpc"},
            "nodes": 2,
            "processesPerNode": 4,
            "resources": {"limits": {"nvidia.com/gpu": 4}},
            "storage": {"size": "50Gi"},
        },
        [
            "taken out: --machine_rank, --main_process_ip, --main_process_port: the nodes of a job find each other",
            "evaluate.load downloads from the Hub",
            "the program runs in the folder $OUTPUT_DIR: what it writes there is kept",
        ],
    ),
    "trl sft": (
        "trl sft --model_name_or_path Qwen/Qwen2-0.5B --dataset_name trl-lib/Capybara --packing --eos_token '<|im_end|>' "
        "--output_dir Qwen2-0.5B-SFT --push_to_hub",
        {
            "script": {
                "launcher": "torchrun",
                "module": "trl.scripts.sft",
                "args": [
                    *("--model_name_or_path", "Qwen/Qwen2-0.5B", "--dataset_name", "trl-lib/Capybara", "--packing"),
                    *("--eos_token", "<|im_end|>", "--output_dir=$(OUTPUT_DIR)"),
                ],
                "requirements": ["trl"],
            },
            "model": {"name": "Qwen/Qwen2-0.5B"},
            "dataset": {"name": "trl-lib/Capybara"},
            "nodes": 1,
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "storage": {"size": "50Gi"},
            "hub": {"tokenSecretRef": {"name": "hf", "key": "token"}},
            "publish": {"repoId": "Qwen2-0.5B-SFT"},
        },
        ["taken out: --push_to_hub: the job publishes the model itself"],
    ),
    "torchrun on several nodes": (
        "NCCL_DEBUG=INFO CUDA_VISIBLE_DEVICES=0,1,2,3 torchrun --nproc-per-node=4 --nnodes=2 --node-rank=0 --rdzv-id=456 "
        "--rdzv-backend=c10d --rdzv-endpoint=172.31.43.139:29603 --max-restarts 3 multinode.py 50 10",
        {
            "script": {
                "launcher": "torchrun",
                "configMap": {"name": "multinode-code", "key": "multinode.py"},
                "args": ["50", "10"],
            },
            "nodes": 2,
            "processesPerNode": 4,
            "resources": {"limits": {"nvidia.com/gpu": 4}},
            "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
            "storage": {"size": "50Gi"},
        },
        [
            "taken out: --node-rank, --rdzv-id, --rdzv-backend, --rdzv-endpoint: the nodes of a job find each other",
            "taken out: --max-restarts: a job that crashes begins again",
            "taken out: CUDA_VISIBLE_DEVICES: the cluster gives each pod its GPUs",
        ],
    ),
}


@pytest.mark.parametrize(("command", "expected", "sentences"), PUBLIC_EXAMPLES.values(), ids=PUBLIC_EXAMPLES)
def test_commands_of_public_examples(command: str, expected: dict[str, Any], sentences: list[str]) -> None:
    assert spec(command) == expected
    for sentence in sentences:
        assert sentence in said(command)


@pytest.mark.parametrize("command", [command for command, _, _ in PUBLIC_EXAMPLES.values()], ids=PUBLIC_EXAMPLES)
def test_the_manifest_of_each_passes_validate(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init_from(command, "-o", "job.yaml", "--with-configmap" if "trl" not in command else "--force") == 0
    capsys.readouterr()

    assert validate_files(["job.yaml"]) is ExitCode.SUCCEEDED

    assert capsys.readouterr().err == ""
    assert all(warnings(job) == () for job in load((folder / "job.yaml").read_text()) if job["kind"] == "FineTuneJob")


def init_from(command: str, *options: str) -> int:
    """Run `finetune init` in this process, where imports cost once."""
    return int(
        init(
            shlex.split(command),
            name=None,
            output=Path(options[options.index("-o") + 1]) if "-o" in options else None,
            force="--force" in options,
            with_config_map="--with-configmap" in options,
        )
    )


def test_a_manifest_reads_as_a_person_would_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    init_from("torchrun --nnodes 2 --nproc_per_node 4 multinode.py 50 10 'a: b' --flag no")

    output = capsys.readouterr()
    assert output.out == (
        "# multinode.py, started by torchrun. Written by `finetune init`.\n"
        "apiVersion: finetune.dev/v1alpha1\n"
        "kind: FineTuneJob\n"
        "metadata:\n"
        "  name: multinode\n"
        "spec:\n"
        "  script:\n"
        "    launcher: torchrun\n"
        "    configMap: {name: multinode-code, key: multinode.py}\n"
        "    args:\n"
        "      - '50'\n"
        "      - '10'\n"
        "      - 'a: b'\n"
        "      - --flag\n"
        "      - 'no'\n"
        "  nodes: 2\n"
        "  processesPerNode: 4\n"
        "  resources: {limits: {nvidia.com/gpu: 4}}   # for each node\n"
        "  storage: {size: 50Gi}   # all nodes write to it: needs a storageClassName that offers ReadWriteMany\n"
    )
    assert output.err.splitlines()[-3:] == [
        "next: kubectl create configmap multinode-code --from-file=multinode.py",
        "      kubectl apply -f job.yaml",
        "      or here, without a cluster: finetune run job.yaml",
    ]


@pytest.mark.parametrize(
    ("command", "field", "expected"),
    [
        ("torchrun --nnodes=1:4 multinode.py", "nodes", 4),
        ("torchrun --nnodes 3:3 multinode.py", "nodes", 3),
        ("torchrun --nproc_per_node gpu multinode.py", "resources", {"limits": {"nvidia.com/gpu": 1}}),
        (
            "CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node auto multinode.py",
            "resources",
            {"limits": {"nvidia.com/gpu": 2}},
        ),
        ("torchrun --nproc_per_node 2 multinode.py --use_cpu", "resources", None),
        ("torchrun --nproc_per_node 2 multinode.py --use_cpu False", "resources", {"limits": {"nvidia.com/gpu": 2}}),
        ("torchrun --nproc_per_node cpu multinode.py", "resources", None),
        ("CUDA_VISIBLE_DEVICES= python multinode.py", "resources", None),
        ("accelerate launch --cpu --num_processes 2 nlp_example.py", "processesPerNode", 2),
        ("accelerate launch --cpu --num_processes 2 nlp_example.py", "resources", None),
        ("torchrun --nproc 8 multinode.py", "processesPerNode", 8),  # argparse takes abbreviations
        ("trl dpo --num_processes 4 --model_name_or_path m", "processesPerNode", 4),
        ("python multinode.py --model_revision x --model_name_or_path a/b", "model", {"name": "a/b", "revision": "x"}),
        ("python multinode.py --model_name_or_path model", "model", {"name": "/data"}),
        ("python multinode.py --model_name_or_path /models/llama", "model", {"name": "/models/llama"}),
        (
            "python multinode.py --dataset_name csv --train_file data/train.csv",
            "dataset",
            {"files": {"train": ["/data/train.csv"]}},
        ),
        ("python multinode.py --dataset_name a/b --train_file data/train.csv", "dataset", {"name": "a/b"}),
        ("HF_ENDPOINT=https://mirror.example python multinode.py", "hub", {"endpoint": "https://mirror.example"}),
    ],
)
def test_a_field_of_a_command(command: str, field: str, expected: Any) -> None:
    assert spec(command).get(field) == expected


@pytest.mark.parametrize(
    ("command", "source"),
    [
        ("torchrun /code/train.py", {"path": "/code/train.py"}),
        ("torchrun //code/../opt/./train.py", {"path": "/opt/train.py"}),
        ("torchrun -m package.of.image", {"module": "package.of.image"}),
        ("python -u -W ignore -m trl.scripts.dpo", {"module": "trl.scripts.dpo"}),
        ("python -m multinode", {"configMap": {"name": "multinode-code", "key": "multinode.py"}}),
        ("./multinode.py", {"configMap": {"name": "multinode-code", "key": "multinode.py"}}),
        ("multinode.py", {"configMap": {"name": "multinode-code", "key": "multinode.py"}}),
        ("python3.11 somewhere/else.py", {"configMap": {"name": "else-code", "key": "else.py"}}),
        ("python 'my program.py'", {"configMap": {"name": "my-program-code", "key": "my_program.py"}}),
    ],
)
def test_where_the_program_comes_from(command: str, source: dict[str, Any]) -> None:
    fields = script(command)
    assert {key: fields[key] for key in ("path", "module", "configMap") if key in fields} == source


@pytest.mark.parametrize(
    ("command", "launcher"),
    [
        ("python multinode.py", "torchrun"),
        ("python keras_classify.py", "python"),
        ("python unknown.py", "python"),
        ("python -m torch.distributed.run multinode.py", "torchrun"),
        ("python -m accelerate.commands.launch nlp_example.py", "accelerate"),
        ("accelerate-launch nlp_example.py", "accelerate"),
        ("nohup uv run torchrun multinode.py", "torchrun"),
        ("env OMP_NUM_THREADS=1 torchrun multinode.py", "torchrun"),
    ],
)
def test_the_launcher_of_a_command(command: str, launcher: str) -> None:
    assert script(command)["launcher"] == launcher


def test_one_text_of_a_notebook_is_a_command() -> None:
    words = launch_command.parse(["!torchrun --nproc_per_node 2 \\\n  train.py --text 'a b'"])

    assert (words.program, words.processes_per_node, words.arguments) == ("train.py", 2, ("--text", "a b"))


def test_files_that_the_program_imports_lie_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    init_from(SUMMARIZATION, "--with-configmap")

    output = capsys.readouterr()
    job, config_map = load(output.out)
    assert config_map["metadata"] == {"name": "run-summarization-code"}
    assert config_map["data"] == {"run_summarization.py": TRAINER_PROGRAM, "columns.py": Path("columns.py").read_text()}
    assert job["spec"]["script"]["configMap"]["name"] == "run-summarization-code"
    assert "create configmap" not in output.err


def test_accelerate_s_configuration_is_written_into_the_job() -> None:
    command = "accelerate launch --config_file fsdp.yaml --fsdp_offload_params true --num_cpu_threads_per_process 4 nlp_example.py"

    job = spec(command)

    assert job["script"]["accelerateConfig"] == {
        "distributed_type": "FSDP",
        "downcast_bf16": "no",
        "fsdp_config": {"fsdp_sharding_strategy": "FULL_SHARD", "fsdp_offload_params": False}
        | {"fsdp_offload_params": True},
        "mixed_precision": "bf16",
        "use_cpu": False,
    }
    assert (job["nodes"], job["processesPerNode"]) == (2, 8)
    assert job["env"] == [{"name": "OMP_NUM_THREADS", "value": "4"}]
    assert "machine_rank of fsdp.yaml, main_process_ip of fsdp.yaml" in said(command)


def test_deepspeed_s_configuration_lies_on_the_volume() -> None:
    job = spec(
        "accelerate launch --use_deepspeed --deepspeed_config_file zero3.json --zero3_init_flag true nlp_example.py"
    )

    assert job["script"]["accelerateConfig"] == {
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": {"deepspeed_config_file": "/data/zero3.json", "zero3_init_flag": True},
    }
    assert job["script"]["requirements"] == ["deepspeed", "evaluate"]
    assert job["volumes"][0]["claimName"] == "nlp-example-data"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--train_file data/train.csv", ["--train_file", "$(DATA_DIR)/train.csv"]),
        (
            "--train_file=data/train.csv --deepspeed zero3.json",
            ["--train_file=$(DATA_DIR)/train.csv", "--deepspeed", "$(DATA_DIR)/../zero3.json"],
        ),
        ("--deepspeed zero3.json data/train.csv", ["--deepspeed", "/data/zero3.json", "/data/data/train.csv"]),
        (
            "--train_file data/train.csv --dataset_name a/b",
            ["--train_file", "/data/train.csv", "--dataset_name", "a/b"],
        ),
        ("--log_file data/train.csv . / /dev/null", ["--log_file", "data/train.csv", ".", "/", "/dev/null"]),
    ],
)
def test_how_arguments_name_files_of_this_machine(arguments: str, expected: list[str]) -> None:
    assert script(f"python multinode.py {arguments}")["args"] == expected


def test_arguments_keep_their_words_and_meaning() -> None:
    words = ["--a=1", "-x", "-3", "--text", "$(HOME) $HOME $(ls -l) $$(X)", "y", "--", "--hub", "z"]

    kept = script(f"python multinode.py {shlex.join(words)}")["args"]

    assert [expanded(word, {"HOME": "/", "X": "x"}) for word in kept] == words
    assert kept == ["--a=1", "-x", "-3", "--text", "$$(HOME) $HOME $(ls -l) $$$(X)", "y", "--", "--hub", "z"]


def test_a_switch_takes_no_word_that_is_not_its_own() -> None:
    assert script("python multinode.py --overwrite_output_dir a.txt --push_to_hub False b")["args"] == ["a.txt", "b"]
    assert "publish" not in spec("python multinode.py --push_to_hub False --hub_model_id me/x")


@pytest.mark.parametrize(
    ("arguments", "publish"),
    [
        ("--push_to_hub --hub_model_id me/bert --hub_private_repo", {"repoId": "me/bert", "private": True}),
        ("--push_to_hub True --output_dir out/my..run_1/", {"repoId": "my-run_1"}),
        ("--push_to_hub", {"repoId": "multinode"}),
        ("--push_to_hub --push_to_hub_model_id x --push_to_hub_organization team", {"repoId": "team/x"}),
        ("--hub_model_id me/bert --hub_revision dev", {"repoId": "me/bert", "revision": "dev"}),
    ],
)
def test_where_the_model_goes(arguments: str, publish: dict[str, Any]) -> None:
    job = spec(f"python multinode.py {arguments}")

    assert job["publish"] == publish
    assert job["hub"] == {"tokenSecretRef": {"name": "hf", "key": "token"}}
    assert not any("hub" in word for word in job["script"].get("args", ()))


def test_the_page_shows_what_its_command_writes(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/from-notebook-to-job.md").read_text()
    program, *_ = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    shown, *_ = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    command = re.findall(r"    finetune init -o job.yaml -- ((?:.*\\\n)*.*)\n", page)[0].replace("\\\n", " ")
    (folder / "train.py").write_text(program)

    init_from(command, "-o", "job.yaml")

    assert (folder / "job.yaml").read_text() == shown


SECRET_COMMANDS = (
    f"python multinode.py --hub_token {TOKEN}",
    f"python multinode.py --hub_token={TOKEN} --push_to_hub",
    "python multinode.py --token not-a-usual-token",
    f"python multinode.py --use_auth_token {TOKEN}",
    f"python multinode.py --anything {TOKEN} more",
    f"python multinode.py x {TOKEN} y",
    f"python multinode.py --{TOKEN}",
    f"python multinode.py --hub_model_id {TOKEN} --push_to_hub",
    f"python multinode.py --model_name_or_path {TOKEN}",
    f"HF_TOKEN={TOKEN} python multinode.py",
    f"OTHER={TOKEN} torchrun multinode.py",
    f"WANDB_API_KEY={WANDB_KEY} torchrun multinode.py",
    f"torchrun multinode.py --wandb_api_key {WANDB_KEY}",
    f"torchrun multinode.py --wandb-api-key={WANDB_KEY}",
    "HF_ENDPOINT=https://me:pass-word@mirror.example python multinode.py",
    "torchrun multinode.py --tracking_uri https://me:pass-word@mlflow.example",
    f"accelerate launch --aws_secret_access_key {WANDB_KEY} nlp_example.py",
    f"torchrun --{TOKEN} multinode.py",
    f"torchrun --nnodes {TOKEN} multinode.py",
    f"torchrun {TOKEN}/multinode.py",
    f"{TOKEN} multinode.py",
    f"python {TOKEN}.ipynb",
    f"python -m {TOKEN}-",
    f"python multinode.py --output_dir {TOKEN} --push_to_hub",
)


@pytest.mark.parametrize("command", SECRET_COMMANDS)
def test_secrets_are_written_nowhere(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        init_from(command)
    except CommandError as error:
        output = str(error)
    else:
        output = "".join(capsys.readouterr())
    for secret in (TOKEN, WANDB_KEY, "pass-word", "not-a-usual-token"):
        assert secret not in output


def test_a_secret_comes_from_a_secret() -> None:
    command = f"WANDB_API_KEY={WANDB_KEY} torchrun multinode.py --db_password {WANDB_KEY} --key_column id"

    job = spec(command)

    assert job["script"]["args"] == ["--db_password", "$(DB_PASSWORD)", "--key_column", "id"]
    assert job["env"] == [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "multinode-env", "key": name}}}
        for name in ("WANDB_API_KEY", "DB_PASSWORD")
    ]
    assert "kubectl create secret generic multinode-env --from-literal=WANDB_API_KEY=..." in said(command)


def test_a_program_with_a_secret_in_it_is_not_copied(folder: Path) -> None:
    (folder / "login.py").write_text(f"import torch\nlogin('{TOKEN}')\n")

    assert "line 2 of the program holds what looks like a secret" in said("python login.py")
    with pytest.raises(CommandError, match=r"login.py:2: holds what looks like a secret"):
        init_from("python login.py", "--with-configmap")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "nothing to run"),
        ("deepspeed --num_gpus 8 train.py", "accelerate launch --use_deepspeed"),
        ("python -m deepspeed.launcher.runner train.py", "accelerate launch --use_deepspeed"),
        ("srun python train.py", "srun starts a process for each node"),
        ("bash train.sh", "give the line of the shell script that trains"),
        ("./train.sh", "give the line of the shell script that trains"),
        ("python notebook.ipynb", "jupyter nbconvert --to script notebook.ipynb"),
        ("python -c print(1)", "write the program into a file"),
        ("python", "python is given no program"),
        ("torchrun --nproc_per_node 8", "torchrun is given no program"),
        ("torchrun --nproc_per_node", "--nproc_per_node: a value is missing"),
        (
            "torchrun --nproc_per_node train.py",
            "--nproc_per_node is a number from 1 to 64, not train.py; was a variable empty?",
        ),
        ("torchrun --nnodes 0 train.py", "--nnodes is a number from 1 to 1000, not 0"),
        ("torchrun --nproc_per_node 65 train.py", "--nproc_per_node is a number from 1 to 64"),
        ("torchrun --nprocs 8 train.py", "--nprocs: no option of torchrun that is known here"),
        ("torchrun --r 8 train.py", "(is it one of --rdzv_backend"),
        ("torchrun --no-python ./train", "--no-python: a job runs programs in Python alone"),
        ("torchrun accelerate launch train.py", "torchrun can't start accelerate"),
        ("accelerate launch -m torch.distributed.run train.py", "accelerate can't start torchrun"),
        ("accelerate config", "only `accelerate launch` trains"),
        ("accelerate launch --tpu train.py", "give the program with python"),
        ("accelerate launch --num_machines 2 --num_processes 3 train.py", "3 processes on 2 nodes"),
        ("trl chat", "of trl's commands these train: sft"),
        ("ls -l", "ls: no way to start a training"),
        ("python -m 'no module'", "no module: no name of a Python module"),
        ("'torchrun a.py && torchrun b.py'", "one command alone"),
        ("'torchrun \"a.py'", "can't be read: No closing quotation"),
        ("accelerate launch --config_file data/train.csv nlp_example.py", "train.csv: not a Kubernetes object"),
        ("python multinode.py --push_to_hub --hub_model_id a/b/c", "spec.publish.repoId: Invalid value"),
    ],
)
def test_what_is_no_training_is_said(command: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        init_from(command) if command else launch_command.parse([])


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import torch\nif True\n    pass\n", "train.py:2:8: expected ':': it can't run as it is"),
        ("import tensorflow\n", "the program imports tensorflow: name an image with it in spec.image"),
        ("import our_company\n", "the program imports our_company: what the image lacks goes into script.requirements"),
        ("from package import train\n", "the program imports package, which are folders: a ConfigMap holds none"),
        ("load_dataset('a/b')\nload_dataset('c/d')\n", "the program loads several datasets (a/b, c/d)"),
        ("\0", "it can't run as it is"),
    ],
)
def test_what_a_program_tells_of_itself(program: str, sentence: str, folder: Path) -> None:
    (folder / "train.py").write_text(program)

    assert sentence in said("python train.py")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("python missing.py", "missing.py is not in this folder"),
        ("python /code/missing.py", "/code/missing.py is not on this machine"),
        ("python -m package.train", "package.train lies in this folder: build an image with it"),
        (
            "python multinode.py --train_file elsewhere/train.csv",
            "--train_file elsewhere/train.csv is not on this machine",
        ),
        ("python multinode.py --config fsdp.yaml", "fsdp.yaml is not read here"),
        ("python multinode.py --model_name_or_path a/b --tokenizer_name c/d", "one model is downloaded for a job"),
        ("accelerate launch --config_file gone.yaml nlp_example.py", "gone.yaml can't be read here"),
        ("torchrun --nnodes 1:4 multinode.py", "a job has a fixed number of nodes, here the upper bound: nodes: 4"),
        ("PYTHONPATH=src HF_HOME=/x python multinode.py", "PYTHONPATH: it speaks of folders of this machine"),
        ("PYTHONPATH=src HF_HOME=/x python multinode.py", "taken out: HF_HOME: the job sets it"),
        ("python -O multinode.py", "taken out: -O: python is started by the job"),
    ],
)
def test_what_is_left_to_the_user_is_said(command: str, sentence: str) -> None:
    assert sentence in said(command)


def test_a_file_is_overwritten_only_by_force(folder: Path) -> None:
    (folder / "job.yaml").write_text("mine\n")

    with pytest.raises(CommandError, match=r"job.yaml: is there already; --force overwrites it"):
        init_from("python multinode.py", "-o", "job.yaml")
    assert (folder / "job.yaml").read_text() == "mine\n"

    init_from("python multinode.py", "-o", "job.yaml", "--force")
    assert "kind: FineTuneJob" in (folder / "job.yaml").read_text()


def test_a_config_map_holds_no_program_that_is_too_large_or_missing(folder: Path) -> None:
    (folder / "large.py").write_text("#" * (901 << 10))

    with pytest.raises(CommandError, match="a ConfigMap holds 900"):
        init_from("python large.py", "--with-configmap")
    with pytest.raises(CommandError, match=r"missing.py: No such file"):
        init_from("python missing.py", "--with-configmap")
    with pytest.raises(CommandError, match="the program is no file of this machine"):
        init_from("python -m trl.scripts.sft", "--with-configmap")


@pytest.mark.parametrize(
    ("text", "name"),
    [("run_glue", "run-glue"), ("7B.model", "train-7b-model"), ("é", "train"), ("", "train"), ("a" * 60, "a" * 46)],
)
def test_a_job_has_a_name_that_it_may_have(text: str, name: str) -> None:
    assert job_name(text) == name


WORDS = st.sampled_from(
    (
        *(
            "torchrun",
            "python",
            "-m",
            "accelerate",
            "launch",
            "trl",
            "sft",
            "deepspeed",
            "env",
            "nohup",
            "uv",
            "run",
            "--",
        ),
        *(
            "--nproc_per_node",
            "--nproc-per-node=8",
            "8",
            "--nnodes",
            "1:4",
            "2",
            "0",
            "--num_processes",
            "--num_machines",
        ),
        *(
            "--config_file",
            "fsdp.yaml",
            "data/train.csv",
            "--fsdp_x",
            "--zero_stage=3",
            "--mixed_precision",
            "no",
            "--cpu",
        ),
        *(
            "multinode.py",
            "nlp_example.py",
            "run_summarization.py",
            "/code/x.py",
            "package",
            "trl.scripts.sft",
            ".",
            "..",
            "/",
        ),
        *(
            "--output_dir",
            "--output_dir=",
            "--push_to_hub",
            "--hub_model_id",
            "me/x",
            "--hub_token",
            TOKEN,
            "--token",
            "a b",
        ),
        *(
            "--model_name_or_path",
            "model",
            "--dataset_name",
            "x/y",
            "--train_file",
            "--use_cpu",
            "--resume_from_checkpoint",
        ),
        *(
            "A=1",
            "HF_TOKEN=x",
            "CUDA_VISIBLE_DEVICES=",
            f"API_KEY={WANDB_KEY}",
            "=",
            "-",
            "-x",
            "--=",
            "$(X)",
            "",
            "\n",
            "é",
        ),
        "x" * 9000,
    )
)
START = st.sampled_from(
    ([], ["torchrun", "multinode.py"], ["accelerate", "launch", "nlp_example.py"], ["python", "run_summarization.py"])
)


@settings(max_examples=120, deadline=None)
@given(START, st.lists(WORDS | st.text(), max_size=12))
@example([], [])
@example([], ["\udcff"])
@example(["python", "run_summarization.py"], ["--a\0"])
@example(["python", "run_summarization.py"], ["x"] * 600)
def test_any_words_become_a_valid_job_or_an_error(start: list[str], words: list[str]) -> None:
    try:
        draft = draft_of(launch_command.parse([*start, *words]), Path.cwd(), None)
        text = manifest(draft, with_config_map=False)
    except CommandError as error:
        text = str(error)
    else:
        assert len(load(text)) == 1
    assert TOKEN not in text


@pytest.mark.parametrize(
    ("package", "file", "table"),
    [
        ("torch", "distributed/run.py", launcher_options.TORCHRUN),
        ("accelerate", "commands/launch.py", launcher_options.ACCELERATE),
    ],
)
def test_every_option_of_the_installed_launcher_is_known(
    package: str, file: str, table: launcher_options.OptionTable
) -> None:
    specification = find_spec(package)
    assert specification is not None
    assert specification.origin is not None
    source = (Path(specification.origin).parent / file).read_text()
    options = set(re.findall(r'^\s+"(--[a-z][a-z0-9_-]*)",$', source, re.MULTILINE))
    flags = set(re.findall(r'"(--[a-z][a-z0-9_-]*)",[^()]*?action="store_(?:true|false)"', source))

    assert len(options) > 25
    names = {option: table.resolve(option) for option in options}
    assert {option for option, name in names.items() if name not in table.flags} & flags <= {"--help"}
    assert {name for option, name in names.items() if name in table.flags} <= {
        table.resolve(flag) for flag in flags
    } | {
        *("module", "help", "no_python", "run_path", "standalone", "print_completion", "virtual_local_rank", "use_env")
    }
