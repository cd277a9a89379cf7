"""Translation: families of models and where they put the language, BLEU and chrF, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.training_report import REPORT_FILE, TrainingReport
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.translation import counters, word_rules
from tests.support.ranks import Finished, run_ranks
from tests.support.seq2seq import InProcess, pair_config
from tests.support.tiny import write_rows
from tests.support.tiny_t5 import tiny_t5
from tests.support.tiny_translators import sentences, tiny_bart, tiny_marian, tiny_multilingual, tiny_of_kind

TASK: Any = tasks.find("translation")
ROW = {"en": "the cat sees a tree", "de": "die katze sieht einen baum"}
LANGUAGES = {
    "m2m100": ("en", "de"),
    "nllb": ("eng_Latn", "deu_Latn"),
    "mbart": ("en_XX", "de_DE"),
    "mbart50": ("en_XX", "de_DE"),
}


def spoken(family: str) -> dict[str, str]:
    source, target = LANGUAGES[family]
    return {"source_language": source, "target_language": target}


# --- learning ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Train a multilingual model on two ranks, killed after the checkpoint of the second epoch and resumed."""
    folder = tmp_path_factory.mktemp("ranks")
    config = pair_config(
        folder,
        "translation",
        tiny_multilingual(folder / "model", "m2m100"),
        train=sentences(400),
        validation=sentences(41, seed=1),
        preprocessing={**spoken("m2m100"), "max_target_length": 40},
        arguments={
            "num_train_epochs": 5,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 16,
            "eval_strategy": "epoch",
            "metric_for_best_model": "chrf",
            "load_best_model_at_end": True,
        },
        processes=2,
    )
    killed = run_ranks(folder / "killed", config, world=2, kill_after_checkpoint=50)
    assert killed.returncode != 0
    return run_ranks(folder / "resumed", config, world=2, resume=killed.checkpoint(50))


def test_two_ranks_learn_to_translate_and_the_model_writes_the_language(trained: Finished) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    assert trained.returncode == 0, trained.output
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text())
    evaluation, rows = report.evaluation or {}, sentences(41, seed=1)
    references = [row["de"] for row in rows]
    same = TASK.scores([references[0]] * 41, references)
    assert evaluation["bleu"] > same["bleu"] + 20
    assert evaluation["chrf"] > same["chrf"] + 20
    assert "tok:13a" in report.details["bleuSignature"]
    model, tokenizer = (kind.from_pretrained(trained.model) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    german = tokenizer.get_lang_id("de")
    written = model.generate(**tokenizer([row["en"] for row in rows], return_tensors="pt", padding=True))
    assert set(written[:, 1].tolist()) == {german}
    texts = [text.replace("__de__", "").strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    assert TASK.scores(texts, references)["chrf"] == pytest.approx(evaluation["chrf"], abs=0.5)


@pytest.mark.parametrize("family", ["bart", "marian", "mbart"])
def test_a_family_learns_to_translate_and_says_how_well(tmp_path: Path, family: str) -> None:
    """The model's scores beat those of always the same sentence, and the saved model writes the same with `generate` alone."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    makers: dict[str, Any] = {"bart": tiny_bart, "marian": tiny_marian}
    model = makers[family](tmp_path / "model") if family in makers else tiny_multilingual(tmp_path / "model", family)
    judged = sentences(40, seed=1)
    config = pair_config(
        tmp_path,
        "translation",
        model,
        train=sentences(400),
        validation=judged,
        preprocessing=spoken(family) if family in LANGUAGES else {"max_target_length": 24},
    )
    made = InProcess.of(config)
    made.train(epochs=6, learning_rate=1e-2)
    evaluated = made.judge()
    metrics = made.task.metrics(made.run, evaluated)
    assert set(metrics) == {"loss", "bleu", "chrf", "gen_len"}
    references = [row["de"] for row in judged]
    same = TASK.scores([references[0]] * 40, references)
    assert metrics["bleu"] > same["bleu"] + 20
    assert metrics["chrf"] > same["chrf"] + 20
    made.run.model.save_pretrained(tmp_path / "saved")
    made.run.tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    read = tokenizer([row["en"] for row in judged], return_tensors="pt", padding=True)
    read.pop("token_type_ids", None)
    written = [
        text.replace("__de__", "").strip()
        for text in tokenizer.batch_decode(again.generate(**read), skip_special_tokens=True)
    ]
    predictions = list(made.task.predictions(made.run, evaluated))
    assert written == [line["prediction"] for line in predictions]
    assert [line["source"] for line in predictions] == [row["en"] for row in judged]


@pytest.mark.parametrize(
    "kind", ["pegasus", "blenderbot", "led", "longt5", "encoder-decoder", "switch_transformers", "nllb-moe"]
)
def test_other_architectures_score_as_by_themselves_and_write(tmp_path: Path, kind: str) -> None:
    model = tiny_of_kind(tmp_path / "model", kind)
    made = InProcess.of(
        pair_config(tmp_path, "translation", model, train=sentences(8), validation=sentences(5, seed=1))
    )
    batch = made.batch(made.rows()[index] for index in range(4))
    made.run.model.eval()
    stock = made.run.model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    labels = batch.pop("labels")
    assert made.task.loss(made.run)(made.run.model(**batch), labels).item() == pytest.approx(
        stock.loss.item(), abs=1e-5
    )
    metrics = made.task.metrics(made.run, made.judge())
    assert metrics["loss"] > 0
    assert 0 <= metrics["gen_len"] <= 128
    made.run.model.save_pretrained(tmp_path / "saved")
    warned = any("mixture of experts" in message for message in made.prepared.messages)
    assert warned == (kind in ("switch_transformers", "nllb-moe"))


@pytest.mark.parametrize(
    ("family", "read", "learnt", "decoded"),
    [
        ("m2m100", "__en__ the cat sees a tree</s>", "__de__ die katze sieht einen baum</s>", "</s> __de__ die katze"),
        ("nllb", "eng_Latn the cat", "deu_Latn die katze", "</s> deu_Latn die"),
        ("mbart", "the cat sees a tree</s>en_XX", "die katze sieht einen baum</s>de_DE", "de_DE die katze"),
        ("mbart50", "en_XX the cat sees a tree</s>", "de_DE die katze sieht einen baum</s>", "</s> de_DE die katze"),
    ],
)
def test_languages_stand_where_the_family_puts_them(
    tmp_path: Path, family: str, read: str, learnt: str, decoded: str
) -> None:
    model = tiny_multilingual(tmp_path / "model", family)
    made = InProcess.of(
        pair_config(tmp_path, "translation", model, train=[ROW], validation=[ROW, ROW], preprocessing=spoken(family))
    )
    tokenizer, row = made.run.tokenizer, made.rows()[0]
    batch = made.batch([row])
    language = tokenizer.convert_tokens_to_ids(LANGUAGES[family][1] if family != "m2m100" else "__de__")

    def text(ids: Any) -> str:
        return "".join(str(tokenizer.decode(ids)).split())

    assert text(row["input_ids"]).startswith("".join(read.split()))
    assert text(row["labels"]).startswith("".join(learnt.split()))
    assert text(batch["decoder_input_ids"][0].tolist()).startswith("".join(decoded.split()))
    settings = made.run.model.generation_config
    if family == "mbart":
        assert (settings.decoder_start_token_id, settings.forced_bos_token_id) == (language, None)
    else:
        assert settings.forced_bos_token_id == language
    tokens = made.judge().predictions[0]
    assert (tokens[:, 0 if family == "mbart" else 1] == language).all()
    assert all(LANGUAGES[family][1] not in line["prediction"] for line in made.task.predictions(made.run, made.judge()))
    made.run.model.save_pretrained(tmp_path / "saved")
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert kept.get("forced_bos_token_id" if family != "mbart" else "decoder_start_token_id") == language


@pytest.mark.parametrize("family", list(LANGUAGES))
def test_a_row_that_only_fills_up_a_batch_counts_for_nothing(tmp_path: Path, family: str) -> None:
    """Such a row has no last label for mBART's decoder to start with, and M2M100 makes no input for its decoder by itself."""
    from finetune_trainer.data.sampler import Pick

    model = tiny_multilingual(tmp_path / "model", family)
    made = InProcess.of(pair_config(tmp_path, "translation", model, train=[ROW], preprocessing=spoken(family)))
    rows, loss = made.rows(), made.task.loss(made.run)
    batches = [made.batch([rows[0]]), made.batch([rows[0], rows[Pick(0, counts=False)]])]
    labels = [batch.pop("labels") for batch in batches]
    assert (labels[1][1] == -100).all()
    alone, filled = (
        loss(made.run.model(**batch), wanted).item() for batch, wanted in zip(batches, labels, strict=True)
    )
    assert alone == pytest.approx(filled, abs=1e-6)


def test_a_marian_of_many_targets_is_told_which(tmp_path: Path) -> None:
    model = tiny_marian(tmp_path / "model", targets=("deu", "nld"))
    made = InProcess.of(
        pair_config(tmp_path / "told", "translation", model, train=[ROW], preprocessing={"target_language": "deu"})
    )
    assert made.run.tokenizer.convert_ids_to_tokens(made.rows()[0]["input_ids"])[0] == ">>deu<<"
    assert not any("targetLanguage" in message for message in made.prepared.messages)
    untold = prepare(pair_config(tmp_path / "untold", "translation", model, train=[ROW])).messages
    assert any("2 languages (deu, nld" in message and "targetLanguage" in message for message in untold)
    with pytest.raises(ExpectedError, match=r"has no language 'dut'.*deu, nld"):
        prepare(
            pair_config(tmp_path / "no", "translation", model, train=[ROW], preprocessing={"target_language": "dut"})
        )


def test_what_a_tokenizer_in_python_cuts_is_counted(tmp_path: Path) -> None:
    model = tiny_marian(tmp_path / "model")
    lengths = {"max_source_length": 6, "max_target_length": 6}
    rows = [ROW, {"en": "a dog sees", "de": "ein hund sieht"}]
    cut = prepare(pair_config(tmp_path, "translation", model, train=rows, preprocessing=lengths)).splits["train"]
    whole = prepare(pair_config(tmp_path / "whole", "translation", model, train=rows)).splits["train"]
    assert cut.truncated >= 1
    assert cut.truncated_targets >= 1
    assert (whole.truncated, whole.truncated_targets) == (0, 0)


def test_both_languages_may_stand_in_one_column(tmp_path: Path) -> None:
    """A column holds both languages as in the data sets of the Hub: `{"translation": {"en": ..., "de": ...}}`."""
    rows = [{"id": 1, "translation": ROW}, {"id": 2, "translation": {"en": "a dog sees", "de": "ein hund sieht"}}]
    columns = {"source": "translation.en", "target": "translation.de"}
    made = InProcess.of(
        pair_config(tmp_path, "translation", tiny_bart(tmp_path / "model"), train=rows, columns=columns)
    )
    words = made.run.tokenizer.convert_ids_to_tokens(made.rows()[1]["labels"])
    assert words == ["<s>", "ein", "hund", "sieht", "</s>"]
    wrong = {**columns, "target": "translation.nl"}
    with pytest.raises(ExpectedError, match=r"translation.*nl"):
        prepare(pair_config(tmp_path, "translation", tmp_path / "model", train=rows, columns=wrong))


# --- scores ---


# Cases of sacreBLEU's own tests.
@pytest.mark.parametrize(
    ("written", "references", "expected"),
    [
        (["this is a test"], ["this is a test"], {"bleu": 100.0, "chrf": 100.0}),
        (["a b c"], ["abc"], {"chrf": 100.0}),
        (["a", "b"], ["a", "c"], {"chrf": 50.0}),
        (["aa"], ["ab"], {"chrf": 25.0}),
        (["", "", ""], ["The dog bit the man.", "It was not unexpected.", "The man bit him first."], {"bleu": 0.0}),
    ],
)
def test_bleu_and_chrf_are_those_of_the_library(
    written: list[str], references: list[str], expected: dict[str, float]
) -> None:
    scores = TASK.scores(written, references)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-4)


def test_bleu_of_the_readme_of_the_library() -> None:
    """The README has two references a row, of which data has one."""
    references = [
        ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
        ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
    ]
    written = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
    bleu = counters(references[0])["bleu"].corpus_score(written, references)
    assert bleu.score == pytest.approx(48.530827, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "rules"),
    [
        ("The dog bit the man.", "13a"),
        ("Der Hund biß den Mann.", "13a"),
        ("Собака укусила человека.", "13a"),
        ("狗咬了那个人。", "zh"),
        ("犬がその男を噛んだ。", "char"),
        ("สุนัขกัดชายคนนั้น", "char"),
        ("개가 그 남자를 물었다.", "13a"),
    ],
)
def test_words_are_told_apart_by_the_rules_of_the_script(reference: str, rules: str) -> None:
    assert word_rules([reference]) == rules
    assert TASK.scores([reference], [reference])["chrf"] == pytest.approx(100)


def test_signatures_say_how_it_was_counted(tmp_path: Path) -> None:
    made = InProcess.of(
        pair_config(tmp_path, "translation", tiny_bart(tmp_path / "model"), train=[ROW], validation=[ROW])
    )
    details = made.task.details(made.run, made.judge())
    assert "tok:13a|smooth:exp" in details["bleuSignature"]
    assert "nc:6|nw:0" in details["chrfSignature"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("family", "preprocessing", "words"),
    [
        ("m2m100", {}, ["sourceLanguage and preprocessing.targetLanguage", "af, am, ar"]),
        ("nllb", {"source_language": "eng_Latn"}, ["must be told which: set preprocessing.targetLanguage"]),
        (
            "nllb",
            {"source_language": "eng_Latn", "target_language": "de"},
            ["targetLanguage", "no language 'de'", "Did you mean 'deu_Latn'"],
        ),
        ("mbart", {"source_language": "en", "target_language": "de_DE"}, ["sourceLanguage", "Did you mean 'en_XX'"]),
        ("mbart50", {"source_language": "en_XX", "target_language": "xx_YY"}, ["no language 'xx_YY'", "af_ZA"]),
    ],
)
def test_a_language_is_asked_for_and_an_unknown_one_refused(
    tmp_path: Path, family: str, preprocessing: dict[str, str], words: list[str]
) -> None:
    model = tiny_multilingual(tmp_path / "model", family)
    with pytest.raises(ExpectedError) as refused:
        prepare(pair_config(tmp_path, "translation", model, train=[ROW], preprocessing=preprocessing))
    assert refused.value.reason is Reason.ARGUMENTS_INVALID
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_a_t5_is_told_the_languages_in_words(tmp_path: Path) -> None:
    model = tiny_t5(tmp_path / "model")
    languages = {"source_language": "en", "target_language": "de"}
    with pytest.raises(ExpectedError, match="translate English to German"):
        prepare(pair_config(tmp_path, "translation", model, train=[ROW], preprocessing=languages))
    messages = prepare(pair_config(tmp_path, "translation", model, train=[ROW])).messages
    assert any("translate English to German: " in message for message in messages)


def test_a_model_keeps_its_languages_for_the_next_run(tmp_path: Path) -> None:
    model = tiny_multilingual(tmp_path / "model", "mbart50")
    made = InProcess.of(pair_config(tmp_path, "translation", model, train=[ROW], preprocessing=spoken("mbart50")))
    made.run.model.save_pretrained(tmp_path / "saved")
    made.run.tokenizer.save_pretrained(tmp_path / "saved")
    again = InProcess.of(pair_config(tmp_path / "again", "translation", tmp_path / "saved", train=[ROW]))
    assert again.rows()[0] == made.rows()[0]


def test_an_empty_translation_is_named(tmp_path: Path) -> None:
    rows = [ROW, {"en": "a dog", "de": ""}]
    assert write_rows(tmp_path / "rows.jsonl", rows).is_file()
    with pytest.raises(ExpectedError, match=r"line 2: column 'de'"):
        prepare(pair_config(tmp_path, "translation", tiny_bart(tmp_path / "model"), train=rows))
