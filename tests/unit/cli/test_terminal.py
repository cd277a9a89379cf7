"""What commands print: whatever others have written, nothing of it steers the terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune_operator.cli.display import LiveDisplay, PlainDisplay
from finetune_operator.cli.manifest_files import dump, load
from finetune_operator.cli.progress_log import Line
from finetune_operator.cli.render import render
from finetune_operator.cli.result_summary import metrics
from finetune_operator.cli.terminal import SafeStream, safe_streams
from finetune_operator.cli.try_snippet import stands_in_quotes
from tests.support.spec_cases import manifest

NASTY = (
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\x1b]0;title\x1b\\",
    "\x9b31m",
    "[red]markup[/red]",
    "[link=http://evil.example]click[/link]",
    "a\rb",
    "a\nb",
    "\x07\x08",
    "\u202egnp.exe",
)
words = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=30), st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
)
RICHS_OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[hl]|[0-9]*[AK]|2K)")
"""Colours, and the cursor of the bar."""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@given(words, words)
def test_a_stream_passes_on_text_alone(first: str, second: str) -> None:
    into = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", into)
        with safe_streams():
            print(first, end="")
            print(second)
    assert into.getvalue().replace("\n", "").isprintable()
    assert into.getvalue().endswith("\n")


@given(words, words)
def test_a_line_of_a_log_is_one_line(text: str, head: str) -> None:
    into = io.StringIO()
    PlainDisplay(into).line(Line(text, head))
    assert into.getvalue().count("\n") == 1
    assert into.getvalue()[:-1].isprintable()


@given(words, words, st.booleans())
def test_a_line_above_the_bar_has_no_escapes_but_those_of_the_bar(text: str, head: str, warning: bool) -> None:
    into = Terminal()
    with LiveDisplay(into) as display:
        display.line(Line(text, head, warning=warning))
    shown = RICHS_OWN.sub("", into.getvalue())
    assert shown.replace("\n", "").replace("\r", "").isprintable(), repr(shown)


def test_markup_is_shown_as_it_was_written() -> None:
    into = Terminal()
    with LiveDisplay(SafeStream(into)) as display:  # type: ignore[arg-type]
        display.line(Line("[red]a[/red] [link=http://evil.example]b[/link]", "Note"))
    assert "[red]a[/red] [link=http://evil.example]b[/link]" in into.getvalue()
    assert "\x1b[" in into.getvalue(), "the bar's own"


@given(words)
def test_a_metrics_name_stays_within_its_line(name: str) -> None:
    assert metrics({name: 0.5}).isprintable()


@settings(max_examples=25)
@given(words)
@example("0E0")
@example("y")
def test_objects_that_are_rendered_read_back(value: str) -> None:
    written = manifest({"env": [{"name": "A", "value": value}]})
    into = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdin", io.StringIO(dump([written])))
        patched.setattr(sys, "stdout", into)
        with safe_streams():
            render("-", None)
    (job, *_) = (rendered for rendered in load(into.getvalue()) if rendered["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": value} in container["env"]
    assert into.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("folder", "stands"),
    [("claims/reviews/model", True), ("it's here", True), ("$(reboot)", False), ("`id`", False), ('a"; id; "', False)],
)
def test_a_command_to_copy_is_shown_where_a_shell_reads_it_as_one_word(folder: str, stands: bool) -> None:
    assert stands_in_quotes(f"pipeline('{folder}')") is stands


def test_a_message_of_a_manifest_steers_no_terminal(tmp_path: Path) -> None:
    """The whole of `finetune` prints through the safe streams, so that this test starts the command line itself."""
    path = tmp_path / "job.yaml"
    path.write_text(
        'apiVersion: finetune.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: "\\e]0;pwned\\a"}\nspec: {task: "\\e[31mred"}\n'
    )
    result = subprocess.run(
        [sys.executable, "-c", "from finetune_operator.cli import main; main()", "validate", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "spec.task" in result.stderr
    assert (result.stdout + result.stderr).replace("\n", "").isprintable()
