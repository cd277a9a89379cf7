"""Text of others, made safe to show."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.contract.text import log_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loss 0.61, näher an Größe – 学习 🤗", "loss 0.61, näher an Größe – 学习 🤗"),
        ("\x1b[31mred\x1b[0m and \x9b1mbold", "red and bold"),
        ("\x1b]0;a title\x07a \x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "a link"),
        ("\x1b(B\x1bcreset", "reset"),
        ("an open \x1b]0;title", "an open 0;title"),
        ("an end \x1b", "an end �"),
        ("bell\x07, back\b, null\0", "bell�, back�, null�"),
        ("right to left: \u202egnp.exe\u202c", "right to left: �gnp.exe�"),
        ("hidden\u200b\u2060\ufeff\U000e0041", "hidden����"),
        ("می‌خواهم 👩‍🔬", "می‌خواهم 👩‍🔬"),
        ("tab\tno-break\u00a0space", "tab no-break space"),
        ("one\ntwo\r\nthree\rfour\u2028five", "one two three four five"),
        ("half a pair \ud800", "half a pair �"),
    ],
)
def test_what_steers_a_terminal_or_hides_is_gone_and_the_rest_stays(text: str, shown: str) -> None:
    assert printable(text, 200) == shown


def test_lines_stay_where_they_are_wanted() -> None:
    assert printable("one\n  two\r\nthree\rfour\x1b[K", 200, lines=True) == "one\n  two\nthree\nfour"


@pytest.mark.parametrize(("limit", "shown"), [(5, "abcde"), (4, "abc…"), (1, "…"), (0, "")])
def test_a_long_text_is_cut_and_shows_it(limit: int, shown: str) -> None:
    assert printable("abcde", limit) == shown


@given(st.text(st.characters()), st.integers(0, 50), st.booleans())
def test_text_is_short_printable_and_stable(text: str, limit: int, lines: bool) -> None:
    """Any text becomes short and printable, and stays as it is the second time."""
    shown = printable(text, limit, lines=lines)
    assert len(shown) <= limit
    categories = {unicodedata.category(character) for character in shown if character not in "\n\u200c\u200d"}
    bad = categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not bad
    assert lines or "\n" not in shown
    assert printable(shown, limit, lines=lines) == shown


def test_what_a_command_says_is_one_line_of_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    log_line("prepare", "label \x1b[2J'a\nprepare: forged\x07'")
    log_line("publish", "Traceback\n  \x9b31mlast", lines=True)
    assert (
        capsys.readouterr().err
        == "prepare: label 'a prepare: forged\N{REPLACEMENT CHARACTER}'\npublish: Traceback\n  last\n"
    )
