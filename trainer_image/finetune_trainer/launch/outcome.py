"""The result record of a node, from how its work ended. Reads the node, changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.launch.cause import classify, own_cause
from finetune_trainer.launch.node import Ending, Node
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.paths import to_local


def record_of(node: Node, started: datetime) -> ResultRecord:
    """Return the record of a node whose work is over."""
    outcome, failure = _outcome(node)
    first = node.settings.node == 0
    model = node.progress_state.model_path if first and outcome is Outcome.SUCCEEDED else None
    # Where this attempt had nothing to train, the model holds what the attempt that sealed it had reached.
    sealed = manifest.read(to_local(model)) if model else None
    return ResultRecord(
        role="train",
        uid=node.settings.config.uid,
        attempt=node.settings.attempt,
        node=node.settings.node,
        outcome=outcome,
        failure=failure,
        started=started,
        finished=datetime.now(UTC),
        step=_step(node, sealed),
        checkpoint=(node.progress_state.checkpoint or node.progress_state.resumed_from) if first else None,
        model_path=model,
        evaluation=_evaluation(node, sealed) if first else None,
        resolved=node.progress_state.resolved if first else None,
        messages=node.progress_state.messages,
    )


def _step(node: Node, sealed: Manifest | None) -> int | None:
    """Return the highest step that a rank has reported."""
    steps = [result.step for result in node.ranks.results.values() if result.step is not None]
    return max(steps, default=node.progress_state.step or (sealed.step if sealed else None))


def _evaluation(node: Node, sealed: Manifest | None) -> dict[str, float] | None:
    """Return the last reported evaluation."""
    reported = [result.evaluation for result in node.ranks.results.values() if result.evaluation]
    if reported or node.progress_state.evaluation:
        return reported[-1] if reported else node.progress_state.evaluation
    return sealed.evaluation if sealed else None


def _outcome(node: Node) -> tuple[Outcome, Failure | None]:
    ending, text = node.ended.result()
    if ending is Ending.NOTHING_TO_DO or _trained(node):
        return Outcome.SUCCEEDED, None
    if ending is Ending.SUPERSEDED:
        return Outcome.SUPERSEDED, _failure(node, Reason.SUPERSEDED, Cause.PREEMPTION, text)
    if node.failure is not None:
        return Outcome.FAILED, node.failure
    if ending is Ending.STOPPED or node.ranks.all_reported(Outcome.STOPPED):
        text = "The pod was asked to end (SIGTERM): an eviction, a drain, a newer attempt, or a deletion."
        return Outcome.STOPPED, _failure(node, Reason.STOPPED, Cause.PREEMPTION, text)
    if node.ranks.all_reported(Outcome.SUCCEEDED):
        text = "All ranks reported success, but no model was handed over."
        return Outcome.FAILED, _failure(node, Reason.INTERNAL, Cause.ERROR, text)
    return Outcome.FAILED, _cause(node)


def _cause(node: Node) -> Failure:
    """Return the cause of the node's end.

    Its own evidence comes first: a node may hear of another's end before that of its own ranks, although it failed itself.
    """
    evidence = replace(node.ranks.evidence(), data=node.data_failure)
    if node.fallen_peer is None:
        return classify(evidence)
    return own_cause(evidence) or _failure(node, Reason.PEER_LOST, Cause.ERROR, node.fallen_peer)


def _trained(node: Node) -> bool:
    """Return whether the ranks report success and, on node 0, a model is on the volume: how torchrun ended does not count."""
    sealed = node.settings.node != 0 or node.progress_state.model_path is not None
    return node.ranks.all_reported(Outcome.SUCCEEDED) and sealed


def _failure(node: Node, reason: Reason, cause: Cause, message: str) -> Failure:
    return Failure(reason=reason, cause=cause, message=message, node=node.settings.node)
