"""Manifests as a person would write them: no character and no type is lost on the way to YAML and back."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune_operator.cli.init.manifest_text import config_map_text
from finetune_operator.cli.manifest_files import dump_inline, load


@given(st.text())
@example("a\n")
@example("a\n\n")
@example("a")
@example("  a\n")
@example("\n\na\n")
@example("a: 'b' # c \n\tx   \n")
@example("a\r\nb\r\n")
@example("#!/usr/bin/env python\n\n\nprint('é')")
@example("\u202ea\n")
def test_a_config_map_keeps_each_character(content: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in content):
        return
    assert load(config_map_text("x", {"train.py": content}))[0]["data"] == {"train.py": content}


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.text() | st.integers(-(2**60), 2**60) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_a_value_on_one_line_keeps_its_meaning(value: Any) -> None:
    text = dump_inline(value)

    assert "\n" not in text
    assert load(f"a: {text}") == ({"a": value},)
