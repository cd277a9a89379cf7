"""The model card: a pure function of what was trained, so that every try makes the same one.

Ids of the Hub go into its metadata, where the Hub makes links of them; models and files of a volume are named in the text
alone. Names that others gave (datasets, columns, labels, metrics) are text in it, never markup: see `markdown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_trainer.contract import try_model
from finetune_trainer.contract.prepared import Resolved
from finetune_trainer.contract.run_config import DatasetSource, TaskConfig
from finetune_trainer.contract.task_facts import TASKS
from finetune_trainer.contract.training_report import Evaluation, TrainingReport
from finetune_trainer.publish.base_model_card import BaseFacts
from finetune_trainer.publish.markdown import address, cell, code, front_matter
from finetune_trainer.shared.addresses import shown as address_shown

TEMPLATE = Path(__file__).with_name("card.md.jinja")
DEFAULT_ENDPOINT = "https://huggingface.co"
LIBRARY, ADAPTER_LIBRARY = "transformers", "peft"
LOSS = "loss"
TITLES = {"loss": "Loss", "accuracy": "Accuracy", "f1": "F1"}
FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".arrow": "arrow"}
NAMES_SHOWN = 20
LABELS_IN_CODE = 100


def is_local(name: str) -> bool:
    """Tell whether a model lies on a volume."""
    return name.startswith("/")


def render(
    config: TaskConfig, report: TrainingReport | None, base: BaseFacts, *, repo_id: str, endpoint: str | None
) -> str:
    """Render the card's text, its metadata in front."""
    import jinja2

    hub = endpoint or DEFAULT_ENDPOINT
    resolved = report.resolved if report else Resolved()
    revision = config.publish.revision if config.publish and config.publish.revision != "main" else None
    text = jinja2.Template(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=front_matter(_metadata(config, report, base, repo_id).to_dict()),
        name=cell(repo_id.rsplit("/", 1)[-1]),
        usage=try_model.block(
            config.task,
            repo_id,
            revision=revision,
            prefix=config.preprocessing.source_prefix or "",
            options=_model_options(config, report),
        ),
        task=config.task,
        adapter=is_adapter(config),
        base=base_model(config.model.name, resolved.model_revision, hub),
        data=data_source(config.dataset, resolved.dataset_revision, hub),
        report=report,
        validation_split=cell(config.dataset.splits.get("validation", "validation")),
        metrics=[
            (cell(title(name, config.task)), number(value))
            for name, value in ((report and report.evaluation) or {}).items()
        ],
        setup=_setup(config, report),
        arguments=[(code(name), code(value)) for name, value in (report.training_arguments if report else {}).items()],
        versions={cell(name): cell(version) for name, version in (report.versions if report else {}).items()},
        history=_history(report.evaluations, report.kept_step, config.task) if report else None,
    )
    return str(text).rstrip() + "\n"


def is_adapter(config: TaskConfig) -> bool:
    """Tell whether the trained model is an adapter, which is loaded on top of the base model."""
    return config.peft is not None and not config.peft.save_merged


def _model_options(config: TaskConfig, report: TrainingReport | None) -> str | None:
    """Return the options for loading an adapter: without them, number and names of the labels would be the base model's."""
    labels = report.summary.labels if report is not None and report.summary is not None else ()
    if not is_adapter(config) or not TASKS[config.task].labelled or not labels:
        return None
    known = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
    return repr(known if len(labels) <= LABELS_IN_CODE else {"num_labels": len(labels)})


def _metadata(config: TaskConfig, report: TrainingReport | None, base: BaseFacts, repo_id: str) -> Any:
    from huggingface_hub import ModelCardData

    metrics = [name for name in (report.evaluation or {}) if name != LOSS] if report else []
    return ModelCardData(
        **licence_of(base),
        library_name=ADAPTER_LIBRARY if is_adapter(config) else LIBRARY,
        pipeline_tag=config.task,
        base_model=None if is_local(config.model.name) else config.model.name,
        base_model_relation=None if is_local(config.model.name) or not is_adapter(config) else "adapter",
        datasets=[config.dataset.name] if config.dataset.name else None,
        metrics=metrics or None,
        tags=["generated_from_trainer", "finetune-operator", *(["lora"] if config.peft else [])],
        model_name=repo_id.rsplit("/", 1)[-1],
        eval_results=[_result(config, report, name) for name in metrics] if report and metrics else None,
    )


def licence_of(base: BaseFacts) -> dict[str, Any]:
    """Return the metadata that a model has from its base model."""
    language = list(base.language)
    return {
        "language": language[0] if len(language) == 1 else language or None,
        "license": base.license,
        "license_name": base.license_name,
        "license_link": base.license_link,
    }


def _result(config: TaskConfig, report: TrainingReport, metric: str) -> Any:
    from huggingface_hub import EvalResult

    kind = config.dataset.name or _format(config)
    return EvalResult(
        task_type=config.task,
        task_name=config.task.replace("-", " ").capitalize(),
        dataset_type=kind,
        dataset_name=kind,
        dataset_config=config.dataset.config,
        dataset_split=config.dataset.splits.get("validation", "validation"),
        dataset_revision=report.resolved.dataset_revision,
        metric_type=metric,
        metric_name=title(metric, config.task),
        metric_value=(report.evaluation or {})[metric],
        metric_args={"average": "macro"} if metric in TASKS[config.task].class_means else None,
    )


def _format(config: TaskConfig) -> str:
    """Return the name of the files' format in the datasets library, which stands in place of a dataset's id."""
    files = config.dataset.files.get("validation") or next(iter(config.dataset.files.values()), ())
    suffixes = PurePosixPath(address_shown(files[0])).suffixes if files else []
    return next((FORMATS[suffix] for suffix in reversed(suffixes) if suffix in FORMATS), "text")


def base_model(name: str, commit: str | None, hub: str) -> str:
    """Return the base model in Markdown: a link and its commit, or the name of its folder."""
    if is_local(name):
        return f"{code(PurePosixPath(name).name)} (a folder on a volume)"
    return _linked(name, commit, hub)


def _linked(name: str, commit: str | None, hub: str, kind: str = "") -> str:
    """Return a model or dataset of the Hub in Markdown: a link and its commit."""
    at = f" at commit {code(commit)}" if commit else ""
    return f"[{cell(name)}]({address(f'{hub}/{kind}{name}')}){at}"


def data_source(source: DatasetSource, commit: str | None, hub: str) -> str:
    """Return the data in Markdown: a link and its commit, or the names of its files."""
    if source.name:
        part = f" ({code(source.config)})" if source.config else ""
        return _linked(source.name, commit, hub, "datasets/") + part
    names = [code(PurePosixPath(address_shown(path)).name) for files in source.files.values() for path in files]
    return _listed(names)


def _listed(names: Sequence[str]) -> str:
    """List names in Markdown, and count those beyond the first `NAMES_SHOWN`."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def _setup(config: TaskConfig, report: TrainingReport | None) -> list[tuple[str, str]]:
    """Return the rows of the table on the training."""
    if report is None:
        return []
    rows = [("Hardware", cell(report.hardware)), ("Precision", cell(report.precision)), *_method(config)]
    kept = f", weights of step {report.kept_step}" if report.kept_step not in (None, report.steps) else ""
    rows += [
        ("Steps", f"{report.steps} ({number(report.epochs)} epochs){kept}"),
        ("Rows a step", f"{report.global_batch_size} on {report.world_size} rank{'s' * (report.world_size != 1)}"),
    ]
    if report.summary is not None:
        rows.append(("Training rows", str(report.summary.train_rows)))
        if report.summary.validation_rows is not None:
            rows.append(("Evaluation rows", str(report.summary.validation_rows)))
    rows += [(f"Column for {code(role)}", code(name)) for role, name in config.dataset.columns.items()]
    if config.preprocessing.max_length is not None:
        rows.append(("Tokens at most", str(config.preprocessing.max_length)))
    if report.summary is not None and report.summary.labels:
        rows.append(("Labels", _listed([code(label) for label in report.summary.labels])))
    rows.append(("Finished", report.finished.strftime("%Y-%m-%d")))
    return rows


def _method(config: TaskConfig) -> list[tuple[str, str]]:
    if config.peft is None:
        return []
    peft = config.peft
    alpha = peft.alpha if peft.alpha is not None else 2 * peft.r
    modules = ", ".join(code(name) for name in peft.target_modules) or "as peft has them for this architecture"
    merged = ", merged into the base model" if peft.save_merged else ""
    rows = [("Method", f"LoRA, r {peft.r}, alpha {number(alpha)}, dropout {number(peft.dropout)}{merged}")]
    rows.append(("Modules with adapters", modules))
    if config.quantization is not None:
        rows.append(("Base model in training", f"{config.quantization.bits} bits (NF4)"))
    return rows


def _history(evaluations: tuple[Evaluation, ...], kept_step: int | None, task: str) -> Mapping[str, Any] | None:
    """Make the table of evaluations, oldest first, with every metric that any of them has."""
    if not evaluations:
        return None
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation.metrics))
    best = kept_step if kept_step != evaluations[-1].step else None
    return {
        "head": [
            "Epoch",
            "Step",
            "Training loss",
            *(f"Evaluation {cell(title(name, task).lower())}" for name in names),
        ],
        "rows": [
            [
                number(evaluation.epoch),
                f"{evaluation.step} (kept)" if evaluation.step == best else str(evaluation.step),
                number(evaluation.loss),
                *(number(evaluation.metrics.get(name)) for name in names),
            ]
            for evaluation in evaluations
        ],
    }


def title(metric: str, task: str) -> str:
    """Return the name of a metric in a table."""
    return f"{plain_title(metric)} (macro)" if metric in TASKS[task].class_means else plain_title(metric)


def plain_title(metric: str) -> str:
    """Return the name of a metric of which nothing else is known."""
    return TITLES.get(metric, metric.replace("_", " "))


def number(value: float | None) -> str:
    """Write a number with four significant digits."""
    return "" if value is None else f"{value:.4g}"
