"""Adapters: what is trained and saved of them, that a resume changes nothing, how they are loaded and published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary, Resolved
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import EarlyStopping, Peft, Quantization, TaskConfig
from finetune_trainer.contract.training_report import REPORT_FILE, TrainingReport
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.global_step import WORLDS, steps, training
from tests.support.hub_jobs import hub_of_this_process
from tests.support.published import Publishing, report, seal_model
from tests.support.ranks import Finished, run_ranks
from tests.support.runs import run_config
from tests.support.stub_hub import TOKEN, Repository, stub_hub
from tests.support.tiny import reviews, tiny_bert, write_rows
from tests.support.tiny_kinds import tiny_whole
from tests.support.tiny_llama import tiny_llama
from tests.support.tiny_t5 import tiny_t5

LABELS = ("negative", "positive")
ARGUMENTS = {
    "num_train_epochs": 8,
    "learning_rate": 5e-3,
    "logging_steps": 1,
    "per_device_train_batch_size": 8,
    "eval_strategy": "epoch",
    "metric_for_best_model": "f1",
}
NEVER_BETTER = 1.0
"""A threshold by which no F1 improves: training ends as soon as patience does."""
EPOCH_STEPS = 26


class Runs:
    """Runs of one job with LoRA on two ranks that ends early, after its third evaluation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model = tiny_bert(folder / "initial")
        self.validation = reviews(61, seed=1)
        config = run_config(
            folder / "output",
            model=self.model,
            train=write_rows(folder / "train.csv", reviews(403)),
            validation=write_rows(folder / "validation.jsonl", self.validation),
            arguments=ARGUMENTS,
            processes=2,
        )
        changes = {
            "peft": Peft(r=8, dropout=0.1, target_modules=("query", "value", "dense")),
            "early_stopping": EarlyStopping(patience=2, threshold=NEVER_BETTER),
        }
        self.config = config.model_copy(update=changes)

    def run(self, name: str, **options: Any) -> Finished:
        return run_ranks(self._folder / name, self.config, world=2, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> Finished:
    finished = runs.run("undisturbed")
    assert finished.returncode == 0, finished.output
    return finished


def weights(finished: Finished) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(finished.model / "adapter_model.safetensors"))


def test_training_ends_where_evaluations_do_not_improve(undisturbed: Finished) -> None:
    assert {result["step"] for result in undisturbed.heard.results.values()} == {3 * EPOCH_STEPS}
    (note,) = [message for message in undisturbed.heard.messages() if "ended early" in message]
    assert note.startswith("Training ended early, at step 78 of 208: f1 did not improve in 2 evaluations; its best is ")


def test_the_best_adapter_is_the_one_that_is_kept(undisturbed: Finished) -> None:
    evaluations = {entry["step"]: entry for entry in undisturbed.log() if "eval_f1" in entry}
    assert sorted(evaluations) == [26, 52, 78]
    best = max(evaluations, key=lambda step: (evaluations[step]["eval_f1"], -step))
    assert [part["step"] for part in undisturbed.heard.checkpoints if part["best"]][-1] == best
    assert undisturbed.heard.results[0]["evaluation"]["f1"] == pytest.approx(evaluations[best]["eval_f1"])
    from safetensors.torch import load_file

    sealed = load_file(undisturbed.checkpoint(best) / "adapter_model.safetensors")
    kept = weights(undisturbed)
    assert kept.keys() == sealed.keys()
    assert all((kept[name] == sealed[name]).all() for name in sealed)


def test_a_checkpoint_holds_the_adapter_and_not_the_model(undisturbed: Finished) -> None:
    (mine, theirs) = (
        next(set(part["files"]) for part in undisturbed.heard.checkpoints if part["rank"] == rank) for rank in (0, 1)
    )
    assert {"adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt"} <= mine
    assert "LoRA trains 6,722 of" in undisturbed.output
    assert "peft" in TrainingReport.model_validate_json((undisturbed.model / REPORT_FILE).read_text()).versions
    assert "model.safetensors" not in mine
    assert theirs == {"rng_state_1.pth"}


def test_killed_and_resumed_is_bit_identical_and_ends_as_early(runs: Runs, undisturbed: Finished) -> None:
    """The evaluations before the kill count."""
    step = 2 * EPOCH_STEPS
    killed = runs.run("killed", kill_after_checkpoint=step)
    assert not killed.heard.results
    require_same(runs.run("resumed", resume=killed.checkpoint(step), sealed_before=killed.sealed), undisturbed)


def test_a_run_that_was_to_end_ends_at_once_when_it_is_resumed(runs: Runs, undisturbed: Finished) -> None:
    checkpoint = undisturbed.checkpoint(3 * EPOCH_STEPS)
    resumed = runs.run("resumed-at-the-end", resume=checkpoint, sealed_before=undisturbed.sealed)
    require_same(resumed, undisturbed)
    assert not resumed.heard.checkpoints, "no step was trained"


def require_same(resumed: Finished, undisturbed: Finished) -> None:
    assert resumed.returncode == 0, resumed.output
    assert resumed.heard.results[0]["step"] == undisturbed.heard.results[0]["step"]
    assert resumed.heard.results[0]["evaluation"] == undisturbed.heard.results[0]["evaluation"]
    expected, actual = weights(undisturbed), weights(resumed)
    assert all((expected[name] == actual[name]).all() for name in expected)


def test_the_adapter_names_its_base_as_the_user_did(runs: Runs, undisturbed: Finished) -> None:
    (handed,) = undisturbed.heard.models
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "finetune-report.json"} <= {
        *handed["files"]
    }
    assert not {"README.md", "config.json", "model.safetensors", "training_args.bin"} & {*handed["files"]}
    saved = json.loads((undisturbed.model / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(runs.model)
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"], saved["task_type"]) == (8, 16, 0.1, "SEQ_CLS")
    assert "classifier" in saved["modules_to_save"]


def test_a_pipeline_with_the_adapter_scores_what_was_reported(runs: Runs, undisturbed: Finished) -> None:
    from transformers import pipeline

    named = {"num_labels": 2, "id2label": dict(enumerate(LABELS))}
    classify = pipeline("text-classification", model=str(undisturbed.model), model_kwargs=named)
    results = classify([row["review"] for row in runs.validation])
    pairs = zip(results, runs.validation, strict=True)
    accuracy = sum(result["label"] == row["stars"] for result, row in pairs) / len(results)
    assert accuracy == pytest.approx(undisturbed.heard.results[0]["evaluation"]["accuracy"])
    assert accuracy > 0.7, "a few epochs are enough to learn most of twelve words"


# --- in this process ---------------------------------------------------------------------------------------------


def prepared_of(model: Path, labels: tuple[str, ...] = ()) -> PreparedTask:
    return PreparedTask(
        config_digest="",
        data="/data",
        model=str(model),
        label_names=labels,
        summary=PrepareSummary(train_rows=1),
        resolved=Resolved(model_revision="c" * 40),
    )


def adapted(
    folder: Path, task: str, model: Path, peft: Peft, *, name: str | None = None, bits: int | None = None
) -> tuple[Any, Any, Any, Any]:
    """Return adapters, the model with adapters that were trained a little, the model as it was loaded, its tokenizer."""
    import torch

    from finetune_trainer.train.adapters import Adapters

    config = run_config(folder / "output", model=name or model)
    config = TaskConfig.model_validate({**config.model_dump(), "task": task, "peft": peft.model_dump()})
    config = config.model_copy(update={"quantization": Quantization()} if bits else {})
    prepared = prepared_of(model, LABELS if task.endswith("classification") else ())
    adapters = Adapters(tasks.find(config.task), config, prepared, "fp32", "cpu")
    base, tokenizer = tasks.find(config.task).load(model, prepared, config, adapters.options())
    wrapped = adapters.wrap(base, checkpointing=False)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapters, wrapped.eval(), base, tokenizer


def begin(model: Any) -> dict[str, Any]:
    import torch

    return {"decoder_input_ids": torch.tensor([[0, 3, 4]])} if model.config.is_encoder_decoder else {}


MODELS: dict[str, tuple[str, Any]] = {
    "text-classification": ("AutoModelForSequenceClassification", tiny_bert),
    "token-classification": ("AutoModelForTokenClassification", tiny_bert),
    "question-answering": ("AutoModelForQuestionAnswering", tiny_bert),
    "fill-mask": ("AutoModelForMaskedLM", tiny_bert),
    "text-generation": ("AutoModelForCausalLM", tiny_llama),
    "summarization": ("AutoModelForSeq2SeqLM", tiny_t5),
}


@pytest.mark.parametrize("task", MODELS)
def test_an_adapter_and_a_merged_model_say_what_was_trained(task: str, tmp_path: Path) -> None:
    import peft
    import transformers

    kind, make = MODELS[task]
    model = make(tmp_path / "model")
    adapters, wrapped, base, tokenizer = adapted(tmp_path, task, model, Peft(r=2, target_modules=("all-linear",)))
    more = begin(base)
    expected = first(wrapped, tokenizer, **more)
    adapters.save(wrapped, tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    plain = getattr(transformers, kind)
    ways = [plain]
    if hasattr(peft, f"AutoPeft{kind.removeprefix('Auto')}"):
        ways.append(getattr(peft, f"AutoPeft{kind.removeprefix('Auto')}"))
    for way in ways:
        loaded = way.from_pretrained(tmp_path / "adapter")
        assert (first(loaded, tokenizer, **more) - expected).abs().max() < 1e-6
    wanted = Peft(r=2, target_modules=("all-linear",), save_merged=True)
    replace(adapters, config=adapters.config.model_copy(update={"peft": wanted})).save(wrapped, tmp_path / "merged")
    assert not (tmp_path / "merged/adapter_config.json").exists()
    merged = plain.from_pretrained(tmp_path / "merged")
    assert (first(merged, tokenizer, **more) - expected).abs().max() < 1e-5
    if task == "text-classification":
        assert merged.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_merged_model_has_the_precision_of_its_base(dtype: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = tiny_bert(tmp_path / "model", dtype=dtype)
    wanted = Peft(r=2, target_modules=("all-linear",), save_merged=True)
    adapters, wrapped, _, _ = adapted(tmp_path, "text-classification", model, wanted)
    adapters.save(wrapped, tmp_path / "merged")
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged/model.safetensors").values()} == {
        getattr(torch, dtype)
    }


def test_weight_beyond_base_precision_keeps_its_own(tmp_path: Path) -> None:
    """A weight that does not fit the precision of the base keeps its own."""
    import torch
    from transformers import AutoModel

    from finetune_trainer.train import precision

    folder = tiny_bert(tmp_path / "model", dtype="float16")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        next(model.parameters())[0, 0] = 1e5
    assert precision.as_in(folder, model) is None
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_other_files_have_precision_of_configuration(tmp_path: Path) -> None:
    """Weights of other files have the precision that the configuration names."""
    import torch
    from transformers import AutoModel

    from finetune_trainer.train import precision

    folder = tiny_bert(tmp_path / "model", dtype="float16")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert precision.as_in(folder, model) is torch.float16
    assert {weight.dtype for weight in model.parameters()} == {torch.float16}


def first(model: Any, tokenizer: Any, **more: Any) -> Any:
    """Return the first of a model's outputs: logits, or those of where an answer begins."""
    import torch

    with torch.no_grad():
        return model.eval()(**tokenizer("the soup was awful", return_tensors="pt"), **more)[0]


def test_a_new_head_is_trained_and_one_that_was_there_is_not(tmp_path: Path) -> None:
    names = {}
    for task, make in (
        ("text-classification", lambda folder: tiny_bert(folder, architecture="distilbert")),
        ("text-generation", tiny_llama),
    ):
        _, wrapped, _, _ = adapted(tmp_path / task, task, make(tmp_path / task / "model"), Peft(r=2))
        names[task] = {name for name, each in wrapped.named_parameters() if each.requires_grad}
    whole = {name for name in names["text-classification"] if "lora_" not in name}
    assert {name.split(".")[2] for name in whole} == {"pre_classifier", "classifier"}
    assert all("lora_" in name for name in names["text-generation"])


def test_what_no_weights_were_saved_of_is_trained_and_saved(tmp_path: Path) -> None:
    """A model without its head for masks, and one without its pooler; what two layers share is neither."""
    from transformers import BertForMaskedLM

    model = tiny_bert(tmp_path / "model")
    _, wrapped, _, _ = adapted(tmp_path, "fill-mask", model, Peft(r=2))
    assert {path for path in saved_whole(wrapped) if not path.startswith("cls.predictions.transform.")} == set()
    whole = BertForMaskedLM.from_pretrained(model)
    whole.save_pretrained(model)
    _, wrapped, _, _ = adapted(tmp_path, "fill-mask", model, Peft(r=2))
    assert saved_whole(wrapped) == set()
    _, wrapped, _, _ = adapted(tmp_path, "text-classification", model, Peft(r=2))
    assert saved_whole(wrapped) == {"bert.pooler.dense", "classifier"}


@pytest.mark.parametrize("kind", ["gemma3", "llama4", "mllama"])
def test_what_reads_pictures_or_chooses_experts_gets_no_adapter(kind: str, tmp_path: Path) -> None:
    import torch

    from finetune_trainer.train import towers

    model = tiny_whole(tmp_path / "model", kind)
    _, wrapped, base, _ = adapted(tmp_path, "text-generation", model, Peft(r=2, target_modules=("all-linear",)))
    without = tuple(f"base_model.model.{path}." for path in towers.towers(base))
    trained = {name: each for name, each in wrapped.named_parameters() if each.requires_grad}
    assert without
    assert trained
    assert [name for name in trained if name.startswith(without) or ".router." in name] == []
    wrapped(input_ids=torch.arange(5, 25).reshape(2, 10), use_cache=False).logits.sum().backward()
    assert [name for name, each in trained.items() if each.grad is None] == [], "text passes all that is trained"


def saved_whole(wrapped: Any) -> set[str]:
    """Return the modules that are trained without an adapter."""
    names = (name for name, each in wrapped.named_parameters() if each.requires_grad and "lora_" not in name)
    return {name.removeprefix("base_model.model.").partition(".modules_to_save")[0] for name in names}


def test_four_bits_leave_head_whole_and_merge_plain(tmp_path: Path) -> None:
    """bitsandbytes has the same layers for a GPU and for this processor, where the test runs."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    model = tiny_bert(tmp_path / "model", size="small")
    wanted = Peft(r=2, target_modules=("all-linear",), save_merged=True)
    adapters, wrapped, _, tokenizer = adapted(tmp_path, "text-classification", model, wanted, bits=4)
    kinds = {type(layer).__name__ for name, layer in wrapped.named_modules() if name.endswith("base_layer")}
    assert kinds == {"Linear4bit"}
    assert type(wrapped.base_model.model.classifier.modules_to_save["default"]).__name__ == "Linear"
    expected = first(wrapped, tokenizer)
    adapters.save(wrapped, tmp_path / "merged")
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged/model.safetensors").values()} == {torch.float32}
    assert not (tmp_path / "merged-adapter").exists()
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert not hasattr(merged.config, "quantization_config")
    assert (first(merged, tokenizer) - expected).abs().max() < 0.1, "but for what four bits round away"


def test_a_step_with_adapters_is_the_same_whoever_shares_it(tmp_path: Path) -> None:
    from finetune_trainer.train.adapters import Adapters

    model, train = tiny_bert(tmp_path / "model"), write_rows(tmp_path / "train.csv", reviews(29))
    config = run_config(tmp_path / "output", model=model, train=train).model_copy(update={"peft": Peft(r=2)})
    run = training(config, prepare(config))
    Adapters(tasks.find(config.task), config, run.prepared, "fp32", "cpu").wrap(run.model, checkpointing=False)
    expected = steps(run, ranks=1, accumulation=1)
    assert len(expected) == 4
    for ranks, accumulation in WORLDS[1:]:
        for mine, theirs in zip(steps(run, ranks=ranks, accumulation=accumulation), expected, strict=True):
            assert mine.rows == theirs.rows
            assert mine.loss == pytest.approx(theirs.loss, abs=1e-6)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("q_porj",), "BertForSequenceClassification has no module 'q_porj'. Choose from dense, key, query, value, or"),
        (("query", "gate"), "has no module 'gate'"),
        (("attention",), "'attention' is a BertAttention of BertForSequenceClassification, which is no single layer"),
    ],
)
def test_a_module_that_the_model_does_not_have_is_refused(
    wanted: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError) as raised:
        adapted(tmp_path, "text-classification", tiny_bert(tmp_path / "model"), Peft(target_modules=wanted))
    assert (raised.value.reason, raised.value.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)
    assert str(raised.value).startswith("spec.peft.targetModules: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft": Peft(target_modules=("q_proj", "query"))}, "has no module q_proj. Choose from"),
        ({"peft": Peft(target_modules=("all-linear", "query"))}, "all-linear stands for all of them"),
        ({"peft": Peft(), "quantization": Quantization()}, "weights in four bits need a CUDA accelerator"),
        ({"quantization": Quantization(), "accelerators": True}, "cannot be trained themselves; add spec.peft"),
        ({"early_stopping": EarlyStopping()}, "spec.earlyStopping needs validation data"),
    ],
)
def test_what_cannot_be_trained_so_is_refused_before_a_rank_starts(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model, train = tiny_bert(tmp_path / "model"), write_rows(tmp_path / "train.csv", reviews(40))
    config = run_config(tmp_path / "output", model=model, train=train, arguments={"eval_strategy": "epoch"})
    with pytest.raises(ExpectedError) as raised:
        prepare(config.model_copy(update={**changes, "training_arguments": {}}))
    assert raised.value.reason is Reason.ARGUMENTS_INVALID
    assert message in str(raised.value)


def test_modules_that_are_there_pass(tmp_path: Path) -> None:
    model, train = tiny_bert(tmp_path / "model"), write_rows(tmp_path / "train.csv", reviews(40))
    config = run_config(tmp_path / "output", model=model, train=train)
    wanted = Peft(target_modules=("query", "attention.self.value", "classifier"))
    assert prepare(config.model_copy(update={"peft": wanted})).summary.train_rows == 40


def test_an_adapter_of_a_model_of_the_hub_is_published_and_loaded_by_name(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from transformers import AutoModelForSequenceClassification

    model = tiny_bert(tmp_path / "model")
    adapters, wrapped, _, tokenizer = adapted(tmp_path, "text-classification", model, Peft(r=2), name="us/tiny")
    expected = first(wrapped, tokenizer)
    adapters.save(wrapped, tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter/predictions.jsonl").write_text('{"text": "private"}\n')
    with stub_hub() as hub:
        hub.models["us/tiny"] = Repository(model)
        publishing = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
        content = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
        seal_model(publishing.layout, {**content, REPORT_FILE: report().to_json().encode()}, whole=True)
        publishing.run(peft=Peft(r=2).model_dump())
        files = hub.models["me/reviews"].files()
        with hub_of_this_process(hub, tmp_path / "cache"):
            loaded = AutoModelForSequenceClassification.from_pretrained("me/reviews", token=TOKEN)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= files.keys()
    assert "predictions.jsonl" not in files
    named = json.loads(files["adapter_config.json"])
    assert (named["base_model_name_or_path"], named["revision"]) == ("us/tiny", "c" * 40)
    assert (first(loaded, tokenizer) - expected).abs().max() < 1e-6
    card = files["README.md"].decode()
    data: Any = ModelCard(card).data
    assert (data.library_name, data.base_model, data.base_model_relation) == ("peft", "us/tiny", "adapter")
    assert "'id2label': {0: 'negative', 1: 'positive'}" in card
