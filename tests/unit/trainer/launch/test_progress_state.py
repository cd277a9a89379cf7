"""What /progress says, from what ranks said."""

from datetime import UTC, datetime, timedelta

import pytest

from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.contract.records import PodPhase
from finetune_trainer.launch.attempt_metrics import AttemptMetrics
from finetune_trainer.launch.progress_state import MESSAGES_MAX, KubeflowStatus, ProgressState

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def status(**metrics: str) -> KubeflowStatus:
    listed = [{"name": name, "value": value} for name, value in metrics.items()]
    return KubeflowStatus.model_validate(
        {"trainerStatus": {"progressPercentage": 3, "estimatedRemainingSeconds": 5, "metrics": listed}}
    )


def test_time_left_counts_only_the_steps_since_the_resume() -> None:
    progress_state = ProgressState("u", 2)
    progress_state.absorb(RankProgress(phase=PodPhase.TRAINING, step=900, total_steps=1000), at(0))
    assert progress_state.document().eta_seconds is None
    progress_state.absorb(RankProgress(step=920), at(40))
    assert progress_state.document().eta_seconds == pytest.approx(160)


def test_last_value_wins_and_absent_ones_stay() -> None:
    progress_state = ProgressState("u", 1)
    progress_state.absorb(RankProgress(step=1, loss=2.0, evaluation={"accuracy": 0.5}), at(0))
    progress_state.absorb(RankProgress(step=2), at(1))
    progress = progress_state.document()
    assert (progress.step, progress.loss, progress.evaluation) == (2, 2.0, {"accuracy": 0.5})
    assert progress.updated == at(1)


def test_messages_are_kept_once_and_not_without_end() -> None:
    progress_state = ProgressState("u", 1)
    progress_state.say(["a", "b", "a"])
    assert list(progress_state.messages) == ["b", "a"]
    progress_state.say(f"note {number}" for number in range(200))
    assert len(progress_state.messages) == MESSAGES_MAX
    assert list(progress_state.messages)[-1] == "note 199"


def test_stock_callback_feeds_progress_until_our_own_detail_comes() -> None:
    progress_state = ProgressState("u", 1)
    report = progress_state.absorb_kubeflow(
        status(current_step="3", total_steps="10", loss="0.5", eval_loss="x"), at(0)
    )
    assert report is not None
    progress = progress_state.document()
    assert (progress.phase, progress.step, progress.total_steps, progress.loss) == (PodPhase.TRAINING, 3, 10, 0.5)
    progress_state.absorb(RankProgress(step=5), at(1))
    assert progress_state.absorb_kubeflow(status(current_step="4"), at(2)) is None
    assert progress_state.document().step == 5


def test_stock_callback_tells_numbers_that_are_not_finite_in_words() -> None:
    progress_state = ProgressState("u", 1)
    progress_state.absorb_kubeflow(status(current_step="nan", loss="nan", eval_loss="inf", eval_f1="0.5"), at(0))
    progress = progress_state.document()
    assert (progress.step, progress.loss, progress.evaluation) == (None, None, {"eval_f1": 0.5})
    assert progress.messages == (
        "What was reported last: current_step (nan), loss (nan), eval_loss (inf) are no finite numbers and are left out.",
    )


def test_precision_of_the_ranks_is_reported() -> None:
    progress_state = ProgressState("u", 1)
    assert progress_state.document().resolved is None
    progress_state.absorb(RankProgress(precision="fp16"), at(0))
    resolved = progress_state.document().resolved
    assert resolved is not None
    assert resolved.precision == "fp16"


def test_metrics_hold_what_was_reported() -> None:
    metrics = AttemptMetrics()
    metrics.set_phase(PodPhase.TRAINING)
    for step in (1, 2):
        report = RankProgress(
            step=step, total_steps=9, loss=0.25, loss_scale=512, tokens_total=step * 10, samples_total=step
        )
        metrics.absorb(report.model_copy(update={"step_seconds": (0.2, 0.3), "evaluation": {"accuracy": 0.5}}), 77.0)
    text = metrics.exposition().decode()
    for line in (
        "finetune_global_step 2.0",
        "finetune_max_steps 9.0",
        "finetune_train_loss 0.25",
        "finetune_loss_scale 512.0",
        "finetune_train_tokens_total 20.0",
        "finetune_train_samples_total 2.0",
        "finetune_step_duration_seconds_count 4.0",
        "finetune_last_step_timestamp_seconds 77.0",
        'finetune_eval_metric{metric="accuracy"} 0.5',
        'finetune_phase{phase="training"} 1.0',
        'finetune_phase{phase="waiting"} 0.0',
    ):
        assert line in text
    assert "uid" not in text
