"""How many events a job may have."""

from finetune_operator.controller.event_throttle import BURST, EACH_SECONDS, LEFT_OUT, Allowance
from finetune_operator.plan.types import EventNote


def notices(count: int) -> list[EventNote]:
    return [EventNote("Warning", "Notice", f"message {number}", minor=True) for number in range(count)]


def test_a_burst_passes_then_it_is_said_once_that_some_are_left_out() -> None:
    allowance = Allowance(at=100)
    assert allowance.spend(notices(BURST), 100) == tuple(notices(BURST))
    assert allowance.spend(notices(3), 101) == (LEFT_OUT,)
    assert allowance.spend(notices(3), 102) == ()


def test_later_one_passes_now_and_then() -> None:
    allowance = Allowance(at=100)
    allowance.spend(notices(BURST + 5), 100)
    assert len(allowance.spend(notices(5), 100 + 2 * EACH_SECONDS)) == 2
    assert len(allowance.spend(notices(BURST + 5), 100 + 100 * EACH_SECONDS)) == BURST


def test_what_becomes_of_the_job_is_always_told() -> None:
    allowance = Allowance(at=100)
    allowance.spend(notices(BURST + 5), 100)
    begun, failed = EventNote("Normal", "Training", "attempt 1 has begun"), EventNote("Warning", "Failed", "it failed")
    assert allowance.spend((begun, *notices(2), failed), 101) == (begun, failed)
    assert allowance.left < 1
