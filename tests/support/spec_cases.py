"""One table of good and bad FineTuneJobs: every rule, enum and bound, for the API server and for `finetune validate`.

`RULE_CASES` has a case or more for each CEL rule; the cases of data and tasks are in `spec_cases_data` and `spec_cases_tasks`.
Cases of enums, bounds, types and required fields are made from the schema, in `schema_cases`.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.api.deprecated import SUCCESSORS
from finetune_operator.api.rules.names import KEYS, NAMED_OBJECTS
from finetune_operator.api.training_arguments import SCHEDULER_OPTIONS
from tests.support.spec_case import BASE, FILES, GPU, TRAIN_ONLY, Case, Patch, manifest, of_arguments
from tests.support.spec_cases_data import DATASET_CASES
from tests.support.spec_cases_scripts import SCRIPT, SCRIPT_CASES
from tests.support.spec_cases_tasks import TASK_CASES

__all__ = ["BASE", "RULE_CASES", "Case", "Patch", "manifest"]


def _volume(**fields: Any) -> dict[str, Any]:
    return {"name": "data", "mountPath": "/data", "claimName": "reviews"} | fields


_CLAIM = {"storage.size": None, "storage.claimName": "results"}
_GOOD_NAME = "must be at most 46 lower case letters, digits and hyphens"

OBJECT_CASES = (
    Case("name-with-dot", {}, {}, "metadata.name", f'"my.job" {_GOOD_NAME}', {"name": "my.job"}),
    Case("name-begins-with-digit", {}, {}, "metadata.name", f'"7b" {_GOOD_NAME}', {"name": "7b"}),
    Case("name-too-long", {}, {}, "metadata.name", _GOOD_NAME, {"name": "a" * 47}),
)

SOURCE_CASES = (
    Case(
        "model-name",
        {"model.name": "/models/bert"},
        {"model.name": "a/b/c"},
        "spec.model.name",
        "must be a model on the Hub (name or owner/name) or an absolute path",
    ),
    Case(
        "model-revision-of-path",
        {"model.revision": "main"},
        {"model": {"name": "/models/bert", "revision": "main"}},
        "spec.model.revision",
        "only means something for a model on the Hub",
    ),
)

_TOKEN = {"hub.tokenSecretRef": {"name": "hf", "key": "token"}}
PUBLISH_CASES = (
    *(
        Case(
            f"publish-repo-{name}",
            {**_TOKEN, "publish.repoId": good},
            {**_TOKEN, "publish.repoId": bad},
            "spec.publish.repoId",
            f'"{bad}" is no name of a repository on the Hub: give owner/name or name',
        )
        for name, good, bad in (
            ("two-slashes", "me/yelp-bert", "hf.co/me/yelp"),
            ("address", "yelp-bert", "https://huggingface.co/me"),
            ("double-hyphen", "me/yelp-bert_2.0", "me/yelp--bert"),
            ("dots", "me/yelp.bert", "me/yelp..bert"),
            ("begins-with-dot", "my-team/x", "me/.bert"),
            ("ends-with-hyphen", "me/bert", "me/bert-"),
            ("git", "me/git", "me/bert.git"),
            ("space", "me/a", "me/my bert"),
            ("umlaut", "me/Bert", "me/bärt"),
            ("too-long", f"me/{'a' * 96}", f"me/{'a' * 97}"),
        )
    ),
    *(
        Case(
            f"publish-branch-{name}",
            {**_TOKEN, "publish": {"repoId": "me/x", "revision": good}},
            {**_TOKEN, "publish": {"repoId": "me/x", "revision": bad}},
            "spec.publish.revision",
            "is no name of a branch",
        )
        for name, good, bad in (
            ("dots", "refs/pr/1", "a..b"),
            ("slash", "team/v1.0", "team/"),
            ("lock", "lock", "x.lock"),
        )
    ),
    Case(
        "publish-without-token",
        {**_TOKEN, "publish.repoId": "me/x"},
        {"publish.repoId": "me/x"},
        "spec.publish",
        "needs a token that may write: name its Secret in hub.tokenSecretRef",
    ),
)

STORAGE_CASES = (
    Case("storage-neither", _CLAIM, {"storage.size": None}, "spec.storage", "give exactly one of size"),
    Case("storage-both", {}, {"storage.claimName": "x"}, "spec.storage", "give exactly one of size"),
    Case("storage-size-zero", {"storage.size": "1"}, {"storage.size": 0}, "spec.storage.size", "a quantity above 0"),
    Case("storage-size-word", {"storage.size": "500M"}, {"storage.size": "big"}, "spec.storage.size", "above 0"),
    *(
        Case(
            f"storage-{name}-of-claim",
            {f"storage.{name}": value},
            {**_CLAIM, f"storage.{name}": value},
            f"spec.storage.{name}",
            "is about the claim that the job makes",
        )
        for name, value in (("storageClassName", "nfs"), ("accessMode", "ReadWriteMany"), ("retain", False))
    ),
    Case(
        "storage-access-mode-of-many-nodes",
        {"nodes": 2, "storage.accessMode": "ReadWriteMany"},
        {"nodes": 2, "storage.accessMode": "ReadWriteOnce"},
        "spec.storage.accessMode",
        "must be ReadWriteMany where nodes is over 1",
    ),
)

_SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
ENV_CASES = (
    Case(
        "env-neither",
        {"env": [{"name": "A", "value": ""}]},
        {"env": [{"name": "A"}]},
        "spec.env[0]",
        "give exactly one of value and valueFrom",
    ),
    Case(
        "env-both",
        {"env": [{"name": "A", "valueFrom": _SECRET}]},
        {"env": [{"name": "A", "value": "x", "valueFrom": _SECRET}]},
        "spec.env[0]",
        "give exactly one of value and valueFrom",
    ),
    Case(
        "env-source",
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]},
        {"env": [{"name": "A", "valueFrom": {}}]},
        "spec.env[0].valueFrom",
        "give exactly one of secretKeyRef and configMapKeyRef",
    ),
    *(
        Case(
            f"env-{name}",
            {"env": [{"name": f"MY_{name}", "value": "1"}]},
            {"env": [{"name": name, "value": "1"}]},
            "spec.env[0].name",
            f'"{name}" is set by the system: leave it out',
        )
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "FINETUNE_X", "KUBEFLOW_TRAINER_SERVER_URL")
    ),
    Case("env-token", {}, {"env": [{"name": "HF_TOKEN", "value": "x"}]}, "spec.env[0].name", "hub.tokenSecretRef"),
    Case("env-endpoint", {}, {"env": [{"name": "HF_ENDPOINT", "value": "x"}]}, "spec.env[0].name", "give hub.endpoint"),
    Case(
        "env-twice",
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "spec.env[1]",
        "Duplicate value",
    ),
)

VOLUME_CASES = (
    Case(
        "volume-two-sources",
        {"volumes": [{"name": "data", "mountPath": "/data", "secret": "s"}]},
        {"volumes": [_volume(secret="s")]},
        "spec.volumes[0]",
        "give exactly one of claimName, configMap and secret",
    ),
    Case(
        "volume-no-source",
        {"volumes": [{"name": "data", "mountPath": "/data", "configMap": "c"}]},
        {"volumes": [{"name": "data", "mountPath": "/data"}]},
        "spec.volumes[0]",
        "give exactly one of claimName, configMap and secret",
    ),
    Case(
        "volume-name-reserved",
        {"volumes": [_volume(name="my-finetune")]},
        {"volumes": [_volume(name="finetune-output")]},
        "spec.volumes[0].name",
        "begins as the system's own names do",
    ),
    *(
        Case(
            f"volume-path-{number}",
            {"volumes": [_volume(mountPath=good)]},
            {"volumes": [_volume(mountPath=bad)]},
            "spec.volumes[0].mountPath",
            "must be an absolute path",
        )
        for number, (good, bad) in enumerate((("/a/b", "/a/"), ("/a.b", "/a/../b"), ("/...", "/./a"), ("/a_b", "/a:b")))
    ),
    *(
        Case(
            f"volume-at{path.replace('/', '-')}",
            {"volumes": [_volume(mountPath=f"/my{path}")]},
            {"volumes": [_volume(mountPath=path)]},
            "spec.volumes[0].mountPath",
            f'"{path}" is a path that the system mounts, or above or below one',
        )
        for path in ("/output", "/output/more", "/etc", "/etc/finetune", "/tmp", "/dev/shm", "/var/run/finetune")
    ),
    Case(
        "volume-sub-path",
        {"volumes": [_volume(subPath="a/..b")]},
        {"volumes": [_volume(subPath="a/../b")]},
        "spec.volumes[0].subPath",
        "must be a path within the volume",
    ),
    Case(
        "volume-one-path-twice",
        {"volumes": [_volume(), _volume(name="more", mountPath="/more")]},
        {"volumes": [_volume(), _volume(name="more")]},
        "spec.volumes",
        "two volumes are mounted at one path",
    ),
    Case(
        "volume-name-twice",
        {"volumes": [_volume(), _volume(name="more", mountPath="/more")]},
        {"volumes": [_volume(), _volume(mountPath="/more")]},
        "spec.volumes[1]",
        "Duplicate value",
    ),
)

RESOURCE_CASES = (
    *(
        Case(
            f"{which}-unknown",
            {"resources": {"limits": {"cpu": 2, "memory": "1Gi", "hugepages-2Mi": "4Mi", GPU: 1}}},
            {"resources": {which: {"gpu": 1}}},
            f"spec.resources.{which}",
            '"gpu" is an unknown resource: give cpu, memory, ephemeral-storage, or a device with its domain',
        )
        for which in ("limits", "requests")
    ),
    *(
        Case(
            f"{which}-quantity-{number}",
            {f"resources.{which}": {"memory": good}},
            {f"resources.{which}": {"memory": bad}},
            f"spec.resources.{which}[memory]",
            f'"{bad}" must be a quantity, not below 0',
        )
        for which in ("limits", "requests")
        for number, (good, bad) in enumerate((("1Gi", "1GB"), ("1e3", "lots"), ("0.5G", "-1"), (5, "")))
    ),
    *(
        Case(
            f"helper-{which}-of-devices",
            {"helperResources": {which: {"cpu": 2, "memory": "8Gi", "ephemeral-storage": "10Gi"}}},
            {"helperResources": {which: {"cpu": 2, GPU: 1}}},
            f"spec.helperResources.{which}",
            '"nvidia.com/gpu" is nothing that preparing and publishing use: give cpu, memory or ephemeral-storage',
        )
        for which in ("limits", "requests")
    ),
    *(
        Case(
            f"helper-{which}-quantity",
            {f"helperResources.{which}": {"memory": "1Gi"}},
            {f"helperResources.{which}": {"memory": "1GB"}},
            f"spec.helperResources.{which}[memory]",
            '"1GB" must be a quantity, not below 0',
        )
        for which in ("limits", "requests")
    ),
    Case(
        "helper-request-over-limit",
        {"helperResources": {"requests": {"memory": "1000Mi"}, "limits": {"memory": "1Gi"}}},
        {"helperResources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}},
        "spec.helperResources.requests",
        '"memory: 1Gi (limit 1G)" is over its limit: raise the limit or lower the request',
    ),
    Case(
        "half-an-accelerator",
        {"resources.limits": {GPU: "1", "cpu": "500m"}},
        {"resources.limits": {GPU: "500m"}},
        "spec.resources.limits",
        '"nvidia.com/gpu: 500m" is no whole number: devices are given out whole',
    ),
    Case(
        "accelerator-only-requested",
        {"resources": {"requests": {GPU: 1}, "limits": {GPU: "1"}}},
        {"resources": {"requests": {GPU: 1}}},
        "spec.resources.requests",
        "a device has the same number in requests and limits",
    ),
    Case(
        "fewer-accelerators-requested",
        {"resources": {"requests": {"cpu": 1}, "limits": {GPU: 2}}},
        {"resources": {"requests": {GPU: 1}, "limits": {GPU: 2}}},
        "spec.resources.requests",
        "a device has the same number in requests and limits",
    ),
    Case(
        "request-over-limit",
        {"resources": {"requests": {"memory": "1000Mi"}, "limits": {"memory": "1Gi"}}},
        {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}},
        "spec.resources.requests",
        '"memory: 1Gi (limit 1G)" is over its limit: raise the limit or lower the request',
    ),
    Case(
        "more-ranks-than-accelerators",
        {"processesPerNode": 3, "resources.limits": {GPU: 2, "nvidia.com/gpu-a100": "1", "nvidia.com/gpumem": 3000}},
        {"processesPerNode": 3, "resources.limits": {GPU: 2, "cpu": 8}},
        "spec.processesPerNode",
        '"3" is more ranks than accelerators',
    ),
    Case(
        "more-ranks-than-parts",
        {"processesPerNode": 1, "resources.limits": {"nvidia.com/gpu.shared": "1"}},
        {"processesPerNode": 2, "resources.limits": {"nvidia.com/gpu.shared": "1"}},
        "spec.processesPerNode",
        '"2" is more ranks than accelerators',
    ),
    *(
        Case(
            f"several-parts-{number}",
            {"resources.limits": {part: 1}},
            {"resources.limits": {part: "2"}},
            "spec.resources.limits",
            f'"{part}: 2" is parts of devices, of which a pod computes on one: ask for 1',
        )
        for number, part in enumerate(("nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "nvidia.com/gpu-a100.shared"))
    ),
    *(
        Case(
            f"unusable-{number}",
            {"resources.limits": {"cpu": 1, "vpc.amazonaws.com/efa": 1, "rdma/hca": 1}},
            {"resources.limits": {"cpu": 1, unusable: 4}},
            "spec.resources.limits",
            f'"{unusable}" is no device that tasks run on: ask for GPUs of NVIDIA or AMD, such as nvidia.com/gpu: 1',
        )
        for number, unusable in enumerate(
            (
                *("google.com/tpu", "cloud-tpus.google.com/v2", "habana.ai/gaudi", "aws.amazon.com/neuroncore"),
                *("gpu.intel.com/i915", "gpu.intel.com/millicores", "npu.intel.com/accel", "huawei.com/Ascend910"),
            )
        )
    ),
    *(
        Case(
            f"misspelt-{wrong.replace('/', '-').replace('.', '-')}",
            {"resources.limits": {right: 1}},
            {"resources.limits": {wrong: 1}},
            "spec.resources.limits",
            f'"{wrong}" is no resource of any machine: did you mean {right}?',
        )
        for wrong, right in (
            ("nvidia.com/gpus", GPU),
            ("nvidia/gpu", GPU),
            ("nvidia.com/GPU", GPU),
            ("amd.com/gpus", "amd.com/gpu"),
        )
    ),
)

IMAGE_CASES = tuple(
    Case(f"image-{number}", {"image": good}, {"image": bad}, "spec.image", f'"{bad}" is no image name: write it as')
    for number, (good, bad) in enumerate(
        (
            ("trainer", "Trainer"),
            ("localhost:5000/team/trainer:v1", "localhost:5000/team/trainer:"),
            ("registry.example.com/a__b/c---d:V1.2_x", "registry.example.com/Team/trainer"),
            ("[2001:db8::1]:5000/trainer", "https://registry.example.com/trainer"),
            (f"trainer:v1@sha256:{'0' * 64}", "trainer@sha256:123"),
            ("Registry.example.com/trainer", "trainer v1"),
        )
    )
)

PRECISION_AND_LOADER_CASES = (
    Case(
        "fp16-and-bf16",
        of_arguments(fp16=True, bf16=False),
        of_arguments(fp16=True, bf16=True),
        "spec.trainingArguments.bf16",
        "fp16 and bf16 exclude each other",
    ),
    Case(
        "prefetch-without-workers",
        of_arguments(dataloader_prefetch_factor=2, dataloader_num_workers=1),
        of_arguments(dataloader_prefetch_factor=2),
        "spec.trainingArguments.dataloader_prefetch_factor",
        "needs loader processes: set dataloader_num_workers above 0",
    ),
    Case(
        "context-without-workers",
        of_arguments(dataloader_multiprocessing_context="spawn", dataloader_num_workers=1),
        of_arguments(dataloader_multiprocessing_context="spawn"),
        "spec.trainingArguments.dataloader_multiprocessing_context",
        "needs loader processes",
    ),
    Case(
        "no-steps",
        of_arguments(max_steps=-1),
        of_arguments(max_steps=0),
        "spec.trainingArguments.max_steps",
        "0 trains nothing: leave it out for no limit",
    ),
    Case(
        "persistent-without-workers",
        of_arguments(dataloader_persistent_workers=True, dataloader_num_workers=1),
        of_arguments(dataloader_persistent_workers=True, dataloader_num_workers=0),
        "spec.trainingArguments.dataloader_persistent_workers",
        "needs loader processes",
    ),
    *(
        Case(
            f"{name}-fraction",
            of_arguments(**{name: good}),
            of_arguments(**{name: 10.5}),
            f"spec.trainingArguments.{name}",
            "must be a whole number of steps, or a share of all steps below 1",
        )
        for name, good in (("logging_steps", 10), ("eval_steps", 0.1), ("save_steps", 1), ("warmup_steps", 0))
    ),
)

_WRONG_MINIMA: tuple[dict[str, Any], ...] = (
    {},
    {"lr_scheduler_kwargs": {}},
    {"lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}},
)
_BEST_FIELD = "spec.trainingArguments.load_best_model_at_end"
EVALUATION_CASES = (
    Case(
        "best-without-evaluation",
        of_arguments(load_best_model_at_end=True, eval_strategy="epoch"),
        of_arguments(load_best_model_at_end=True),
        _BEST_FIELD,
        "needs evaluations to know the best",
    ),
    Case(
        "best-with-old-name",
        of_arguments(load_best_model_at_end=True, evaluation_strategy="epoch"),
        of_arguments(load_best_model_at_end=True, evaluation_strategy="no"),
        _BEST_FIELD,
        "needs evaluations",
    ),
    Case(
        "best-with-other-strategy",
        of_arguments(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"),
        of_arguments(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="steps"),
        _BEST_FIELD,
        "needs a checkpoint at each evaluation",
    ),
    Case(
        "best-with-save-steps",
        of_arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=10, save_steps=20),
        of_arguments(load_best_model_at_end=True, eval_strategy="epoch", save_steps=20),
        _BEST_FIELD,
        "needs a checkpoint at each evaluation",
    ),
    Case(
        "best-with-other-steps",
        of_arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=0.1, save_steps=0.3),
        of_arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=10, save_steps=15),
        "spec.trainingArguments.save_steps",
        "make save_steps a multiple of eval_steps",
    ),
    Case(
        "best-with-share-and-steps",
        of_arguments(load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps"),
        of_arguments(load_best_model_at_end=True, eval_strategy="steps", eval_steps=10, save_steps=0.2),
        "spec.trainingArguments.save_steps",
        "make save_steps a multiple of eval_steps",
    ),
    Case(
        "save-best-without-metric",
        of_arguments(save_strategy="best", eval_strategy="epoch", metric_for_best_model="accuracy"),
        of_arguments(save_strategy="best", eval_strategy="epoch"),
        "spec.trainingArguments.save_strategy",
        "best needs metric_for_best_model",
    ),
    Case(
        "save-best-without-evaluation",
        of_arguments(save_strategy="best", eval_strategy="steps", load_best_model_at_end=True),
        of_arguments(save_strategy="best", metric_for_best_model="f1"),
        "spec.trainingArguments.save_strategy",
        "best needs evaluations",
    ),
    Case(
        "evaluation-at-start-without-data",
        {**FILES, **of_arguments(eval_on_start=True)},
        {**TRAIN_ONLY, **of_arguments(eval_on_start=True)},
        "spec.trainingArguments.eval_on_start",
        "needs data to evaluate on: give dataset.files.validation",
    ),
    *(
        Case(
            f"evaluation-of-{name}",
            {**TRAIN_ONLY, **patch, **of_arguments(eval_strategy="epoch")},
            {**TRAIN_ONLY, **of_arguments(evaluation_strategy="steps")},
            "spec.trainingArguments.eval_strategy",
            "or hold some out with dataset.validationFraction",
        )
        for name, patch in (
            ("fraction", {"dataset.validationFraction": 0.2}),
            ("slice", {"dataset.splits": {"train": "train[:90%]", "validation": "train[90%:]"}}),
        )
    ),
    Case(
        "evaluation-without-data",
        {**FILES, **of_arguments(eval_strategy="epoch")},
        {**TRAIN_ONLY, **of_arguments(eval_strategy="epoch")},
        "spec.trainingArguments.eval_strategy",
        "needs data to evaluate on: give dataset.files.validation",
    ),
)

SCHEDULER_CASES = (
    *(
        Case(
            f"{scheduler}-without-evaluation",
            of_arguments(lr_scheduler_type=scheduler, eval_strategy="epoch"),
            of_arguments(lr_scheduler_type=scheduler),
            "spec.trainingArguments.lr_scheduler_type",
            f'"{scheduler}" follows a metric',
        )
        for scheduler in ("reduce_lr_on_plateau", "greedy")
    ),
    *(
        Case(
            f"{scheduler}-{number}",
            of_arguments(lr_scheduler_type=scheduler, lr_scheduler_kwargs={"min_lr": 1e-6}),
            of_arguments(lr_scheduler_type=scheduler, **bad),
            "spec.trainingArguments.lr_scheduler_type",
            "a cosine with a minimum needs exactly one of",
        )
        for scheduler in ("cosine_with_min_lr", "cosine_warmup_with_min_lr")
        for number, bad in enumerate(_WRONG_MINIMA)
    ),
    Case(
        "polynomial-that-rises",
        of_arguments(lr_scheduler_type="polynomial", learning_rate=1e-3, lr_scheduler_kwargs={"lr_end": 1e-4}),
        of_arguments(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"lr_end": 1e-4}),
        "spec.trainingArguments.lr_scheduler_type",
        "polynomial needs lr_scheduler_kwargs.lr_end (default: 1e-07) below learning_rate",
    ),
    Case(
        "polynomial-that-rises-from-the-rate-of-lora",
        {**of_arguments(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"lr_end": 1e-4}), "peft": {}},
        {**of_arguments(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"lr_end": 2e-4}), "peft": {}},
        "spec.trainingArguments.lr_scheduler_type",
        "below learning_rate (default: 5e-05, with peft 0.0002)",
    ),
    Case(
        "decay-without-steps",
        of_arguments(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 10}),
        of_arguments(lr_scheduler_type="warmup_stable_decay"),
        "spec.trainingArguments.lr_scheduler_type",
        "needs lr_scheduler_kwargs.num_decay_steps",
    ),
)

_OPTION_VALUES: dict[str, Any] = {
    "lr_end": 1e-6,
    "warmup_type": "linear",
    "decay_type": "linear",
    "mode": "max",
    "threshold_mode": "abs",
}
_NEEDED_OPTIONS: dict[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"min_lr": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 1},
}


def _option_case(option: str) -> Case:
    """Return a case of an option with a scheduler that takes it, and without."""
    taker = next(scheduler for scheduler, options in reversed(SCHEDULER_OPTIONS.items()) if option in options)
    value = _OPTION_VALUES.get(option, option == "smooth" or (0.5 if option in ("factor", "min_lr_rate") else 1))
    needed = {} if option == "min_lr_rate" else _NEEDED_OPTIONS.get(taker, {})
    good = of_arguments(lr_scheduler_type=taker, lr_scheduler_kwargs={**needed, option: value}, eval_strategy="epoch")
    bad = of_arguments(lr_scheduler_kwargs={option: value})
    field_path = f"spec.trainingArguments.lr_scheduler_kwargs.{option}"
    return Case(f"option-{option}", good, bad, field_path, "only goes with lr_scheduler_type")


_VALUES_OF_RENAMED: dict[str, tuple[Any, Any]] = {
    # Older name -> its value, and one of its successor.
    "evaluation_strategy": ("epoch", "epoch"),
    "warmup_ratio": (0.1, 0.1),
    "group_by_length": (True, "random"),
    "per_gpu_train_batch_size": (8, 8),
    "per_gpu_eval_batch_size": (8, 8),
    "adafactor": (True, "sgd"),
    "gradient_checkpointing": (True, True),
    "gradient_checkpointing_kwargs": ({"use_reentrant": False}, {"use_reentrant": False}),
}
RENAMED_CASES = tuple(
    Case(
        f"renamed-{old}",
        of_arguments(**{old: _VALUES_OF_RENAMED[old][0]}),
        of_arguments(**{old: _VALUES_OF_RENAMED[old][0], new: _VALUES_OF_RENAMED[old][1]}),
        f"spec.trainingArguments.{old}",
        f"is the older name of {new}, which is given too",
    )
    for old, new in SUCCESSORS.items()
)


def _reference(path: str, value: str) -> Patch:
    """Return a case of a field that names an object, with the fields around it that it needs."""
    match path.split("."):
        case ["storage", "claimName"]:
            return {"storage": {"claimName": value}}
        case ["volumes[]", source]:
            return {"volumes": [{"name": "data", "mountPath": "/data", source: value}]}
        case ["env[]", "valueFrom", source, part]:
            return {"env": [{"name": "A", "valueFrom": {source: {"name": "a", "key": "a", part: value}}}]}
        case ["dataset", "credentialsSecretRef", "name"]:
            return {"dataset.credentialsSecretRef": {"name": value}}
        case ["script", "configMap", part]:
            return {**SCRIPT, "script": {"configMap": {"name": "a", "key": "a", part: value}}}
        case ["hub", "tokenSecretRef", part]:
            return {"hub.tokenSecretRef": {"name": "a", "key": "a", part: value}}
        case _:
            return {path: value}


REFERENCE_CASES = (
    *(
        Case(
            f"name-of-{path.removeprefix('spec.')}",
            _reference(path.removeprefix("spec."), "my.object-1"),
            _reference(path.removeprefix("spec."), "My Object"),
            path.replace("[]", "[0]"),
            f'"My Object" can\'t be the name of a {kind}: lower case letters',
        )
        for path, kind in NAMED_OBJECTS.items()
    ),
    *(
        Case(
            f"key-of-{path.removeprefix('spec.')}",
            _reference(path.removeprefix("spec."), "My_key.1"),
            _reference(path.removeprefix("spec."), "my key"),
            path.replace("[]", "[0]"),
            '"my key" can\'t be a key',
        )
        for path in KEYS
    ),
)

RULE_CASES: tuple[Case, ...] = (
    *OBJECT_CASES,
    *SOURCE_CASES,
    *DATASET_CASES,
    *TASK_CASES,
    *SCRIPT_CASES,
    *STORAGE_CASES,
    *PUBLISH_CASES,
    *ENV_CASES,
    *VOLUME_CASES,
    *RESOURCE_CASES,
    *IMAGE_CASES,
    *REFERENCE_CASES,
    *PRECISION_AND_LOADER_CASES,
    *EVALUATION_CASES,
    *SCHEDULER_CASES,
    *(_option_case(option) for option in sorted({name for names in SCHEDULER_OPTIONS.values() for name in names})),
    *RENAMED_CASES,
)
