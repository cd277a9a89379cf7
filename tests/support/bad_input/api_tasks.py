"""Mistakes in the data, and in the fields of a task, that the API server refuses."""

from __future__ import annotations

from tests.support.bad_input.api_arguments import refused

_FILES = {"files": {"train": ["/data/train.csv"], "validation": ["/data/validation.csv"]}}

OF_DATA = (
    refused(
        "file-not-absolute",
        "a file by a path that is not absolute",
        "spec.dataset.files.train[0]",
        '"train.csv" must be an absolute path on a mounted volume, such as /data/train.csv or /data/*.jsonl, or an address '
        "that begins with https://, hf://datasets/ or s3://",
        dataset={"files": {"train": ["train.csv"]}},
    ),
    refused(
        "file-at-unknown-address",
        "a file at an address of a kind that is not known",
        "spec.dataset.files.train[0]",
        '"gs://bucket/train.csv" must be an absolute path on a mounted volume',
        dataset={"files": {"train": ["gs://bucket/train.csv"]}},
    ),
    refused(
        "split-malformed",
        "a malformed slice of a split",
        "spec.dataset.splits.train",
        '"train[10%]" is no split: write train, a slice such as train[:10%] or train[100:200], or several as '
        "train+validation",
        dataset__splits={"train": "train[10%]"},
    ),
    refused(
        "fraction-of-all",
        "everything held out to evaluate on",
        "spec.dataset.validationFraction",
        "spec.dataset.validationFraction in body should be less than 1",
        dataset__validationFraction=1,
    ),
    refused(
        "fraction-and-validation-split",
        "rows to hold out, and a validation split",
        "spec.dataset.validationFraction",
        '"0.1" holds out rows to evaluate on where the data has none, and here a validation split is named',
        dataset={**_FILES, "validationFraction": 0.1},
    ),
    refused(
        "streaming-without-end",
        "streaming without a number of rows",
        "spec.dataset.streaming",
        "reads until it has enough rows: say how many in maxSamples.train",
        dataset__streaming=True,
    ),
    refused(
        "streaming-of-a-volume",
        "streaming of files on a volume",
        "spec.dataset.streaming",
        "is for data on the Hub or at an address, and files on a volume are read where they lie: leave it out",
        dataset={**_FILES, "streaming": True, "maxSamples": {"train": 10}},
    ),
    refused(
        "field-of-hub-data",
        "the key of a json document, for a dataset on the Hub",
        "spec.dataset.field",
        '"data" only means something for json files: leave it out, or give files in place of name',
        dataset__field="data",
    ),
    refused(
        "credentials-malformed",
        "a name that no Secret with credentials can have",
        "spec.dataset.credentialsSecretRef.name",
        '"AWS Keys" can\'t be the name of a Secret',
        dataset__credentialsSecretRef={"name": "AWS Keys"},
    ),
)

OF_TASKS = (
    refused(
        "column-of-other-task",
        "a column that the task does not read",
        "spec.dataset.columns.label",
        '"summarization" reads no column of this role: leave it out, or name one of its roles: text and summary',
        task="summarization",
        dataset__columns={"label": "stars"},
    ),
    refused(
        "column-without-quotes",
        "`label: y` without quotes, which YAML reads as a boolean (`finetune validate` says to quote it)",
        "spec.dataset.columns.label",
        'spec.dataset.columns.label in body must be of type string: "boolean"',
        dataset__columns={"label": True},
    ),
    refused(
        "label-columns-of-one-class",
        "a column for each label, where a text has one class",
        "spec.dataset.labelColumns",
        "are for texts with any number of labels: set problemType to multi_label_classification",
        dataset__labelColumns=["toxic", "threat"],
    ),
    refused(
        "prompt-without-completion",
        "a prompt without a completion",
        "spec.dataset.columns.prompt",
        '"question" needs the other half of each pair: name its column in completion',
        task="text-generation",
        dataset__columns={"prompt": "question"},
    ),
    refused(
        "tools-without-messages",
        "tools without the conversations that may call them",
        "spec.dataset.columns.tools",
        '"functions" goes with conversations: name their column in messages, or leave it out',
        task="text-generation",
        dataset__columns={"text": "body", "tools": "functions"},
    ),
    refused(
        "text-and-messages",
        "text and conversations in one",
        "spec.dataset.columns.text",
        '"body" is one way to give the text, and another is named too: choose text or prompt or messages',
        task="text-generation",
        dataset__columns={"text": "body", "messages": "turns"},
    ),
    refused(
        "problem-type-of-other-task",
        "a kind of label for a task without labels of texts",
        "spec.problemType",
        '"fill-mask" makes no use of it, text-classification does: leave it out',
        task="fill-mask",
        problemType="regression",
    ),
    refused(
        "weights-of-numbers",
        "balanced classes where labels are numbers",
        "spec.lossWeights",
        '"regression" has numbers and no classes to weigh: leave it out',
        problemType="regression",
        lossWeights="balanced",
    ),
    refused(
        "preprocessing-of-other-task",
        "a prefix for a task that writes nothing",
        "spec.preprocessing.sourcePrefix",
        '"text-classification" makes no use of it, summarization and translation do: leave it out, or put the words into '
        "the text",
        preprocessing={"sourcePrefix": "classify: "},
    ),
    refused(
        "max-length-of-two-texts",
        "one maximal length where there are source and target",
        "spec.preprocessing.maxLength",
        "give maxSourceLength and maxTargetLength in its place",
        task="translation",
        preprocessing={"maxLength": 128},
    ),
    refused(
        "stride-as-long-as-the-window",
        "windows that share all their tokens",
        "spec.preprocessing.stride",
        '"128" is not below maxLength, so that no window would ever move on: lower it, or raise maxLength',
        task="question-answering",
        preprocessing={"stride": 128, "maxLength": 128},
    ),
    refused(
        "metric-of-other-task",
        "a metric that the task does not have",
        "spec.trainingArguments.metric_for_best_model",
        '"rougeL" is no metric of this task: choose one of: loss, accuracy or f1',
        trainingArguments={"metric_for_best_model": "rougeL"},
    ),
    refused(
        "metric-misspelt",
        "a misspelt metric (`finetune validate` names the right one)",
        "spec.trainingArguments.metric_for_best_model",
        'Unsupported value: "accurracy": supported values: "accuracy"',
        trainingArguments={"metric_for_best_model": "accurracy"},
    ),
    refused(
        "beams-of-other-task",
        "beams for a task that writes nothing",
        "spec.trainingArguments.generation_num_beams",
        '"text-classification" makes no use of it, summarization and translation do: leave it out',
        trainingArguments={"generation_num_beams": 4},
    ),
    refused(
        "adapter-of-unknown-kind",
        "an adapter of a kind that there is not",
        "spec.peft.method",
        'Unsupported value: "prefix-tuning": supported values: "lora"',
        peft={"method": "prefix-tuning"},
    ),
    refused(
        "four-bits-without-adapter",
        "weights in 4 bits without an adapter",
        "spec.quantization",
        "weights in 4 bits can't be trained, an adapter on them can: give peft too, such as peft: {r: 16}",
        quantization={"bits": 4},
        resources={"limits": {"nvidia.com/gpu": 1}},
    ),
    refused(
        "four-bits-without-device",
        "weights in 4 bits without an accelerator",
        "spec.quantization",
        "needs a CUDA device: ask for one in resources.limits, such as nvidia.com/gpu: 1",
        quantization={"bits": 4},
        peft={},
    ),
    refused(
        "eight-bits",
        "weights in a number of bits that there is not",
        "spec.quantization.bits",
        "Unsupported value: 8: supported values: ",
        quantization={"bits": 8},
        peft={},
        resources={"limits": {"nvidia.com/gpu": 1}},
    ),
    refused(
        "early-stopping-without-evaluation",
        "early stopping without an evaluation",
        "spec.earlyStopping",
        "needs evaluations to look at: set trainingArguments.eval_strategy to epoch or steps",
        earlyStopping={"patience": 3},
    ),
)
