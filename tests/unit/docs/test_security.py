"""The page about security says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from finetune_operator.plan.template_policy import DEFAULT_ALLOWED, MEANINGS, Capability

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/security.md").read_text()


def test_what_a_template_may_ask_for_is_all_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (yes|no) \|$", PAGE, flags=re.MULTILINE)
    wanted = [(str(one), MEANINGS[one], "yes" if one in DEFAULT_ALLOWED else "no") for one in Capability]
    assert rows == wanted
