"""Fine-tunes a sequence-to-sequence model to summarize, with transformers' Seq2SeqTrainer.

    torchrun --nproc-per-node 2 summarize_trainer.py --model_name_or_path google-t5/t5-small --do_train --do_eval \
        --train_file train.csv --validation_file validation.csv --text_column text --summary_column summary \
        --source_prefix "summarize: " --predict_with_generate --output_dir output

All of transformers' Seq2SeqTrainingArguments are arguments of this program. It goes on from the checkpoint that
--resume_from_checkpoint names, else from the newest one in the output folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import load_dataset
from rouge_score.rouge_scorer import RougeScorer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    HfArgumentParser,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "name on the Hub, or a folder"})


@dataclass
class DataArguments:
    train_file: str = field(metadata={"help": "csv, json lines or parquet"})
    validation_file: str = field(metadata={"help": "of the same format"})
    text_column: str = field(default="text", metadata={"help": "column to summarize"})
    summary_column: str = field(default="summary", metadata={"help": "column of the summaries to learn"})
    source_prefix: str = field(default="", metadata={"help": "words before each text, which T5 knows a task by"})
    max_source_length: int = field(default=512, metadata={"help": "tokens at most of a text"})
    max_target_length: int = field(default=64, metadata={"help": "tokens at most of a summary"})
    max_train_samples: int | None = field(default=None, metadata={"help": "rows at most to train on"})
    max_eval_samples: int | None = field(default=None, metadata={"help": "rows at most to evaluate on"})


def load_rows(arguments, tokenizer, training):
    """Return the tokens of both files."""
    files = {"train": arguments.train_file, "validation": arguments.validation_file}
    data = load_dataset(FORMATS[Path(arguments.train_file).suffix], data_files=files)
    for split, limit in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if limit is not None:
            data[split] = data[split].select(range(min(limit, len(data[split]))))

    def tokenize(rows):
        texts = [arguments.source_prefix + text for text in rows[arguments.text_column]]
        tokens = tokenizer(texts, max_length=arguments.max_source_length, truncation=True)
        targets = tokenizer(
            text_target=rows[arguments.summary_column], max_length=arguments.max_target_length, truncation=True
        )
        return {**tokens, "labels": targets["input_ids"]}

    with training.main_process_first():  # which writes to the cache what the others read
        return data.map(tokenize, batched=True, remove_columns=data["train"].column_names)


def rouge_of(tokenizer, rows):
    """Return the function by which the Trainer judges the texts that the model has generated for so many rows.

    On several processes Seq2SeqTrainer hands over more: those that fill up the last batch, which are in it a second time.
    """
    scorer = RougeScorer(ROUGE, use_stemmer=True)

    def texts(tokens):
        return tokenizer.batch_decode(np.where(tokens < 0, tokenizer.pad_token_id, tokens), skip_special_tokens=True)

    def rouge(evaluated):
        pairs = zip(texts(evaluated.label_ids[:rows]), texts(evaluated.predictions[:rows]), strict=True)
        scores = [scorer.score(target, prediction) for target, prediction in pairs]
        return {name: 100 * float(np.mean([score[name].fmeasure for score in scores])) for name in ROUGE}

    return rouge


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, Seq2SeqTrainingArguments))
    model_arguments, data_arguments, training = parser.parse_args_into_dataclasses()
    set_seed(training.seed)
    tokenizer = AutoTokenizer.from_pretrained(model_arguments.model_name_or_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(model_arguments.model_name_or_path)
    rows = load_rows(data_arguments, tokenizer, training)
    trainer = Seq2SeqTrainer(
        model=model,
        args=training,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        compute_metrics=rouge_of(tokenizer, len(rows["validation"])) if training.predict_with_generate else None,
    )

    if training.do_train:
        checkpoint = training.resume_from_checkpoint
        if checkpoint is None and Path(training.output_dir).is_dir():
            checkpoint = get_last_checkpoint(training.output_dir)
        result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if training.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if training.do_predict:
        result = trainer.predict(rows["validation"], metric_key_prefix="predict")
        trainer.log_metrics("predict", result.metrics)
        trainer.save_metrics("predict", result.metrics)
        if training.predict_with_generate and trainer.is_world_process_zero():
            tokens = result.predictions[: len(rows["validation"])]
            tokens = np.where(tokens < 0, tokenizer.pad_token_id, tokens)
            lines = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            Path(training.output_dir, "generated_predictions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
