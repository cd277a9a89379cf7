"""Figures are judged by their targets, kept as data, and shown in the pages that have a place for them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.common import Figure, Table, percentile

TABLE = Table(
    "samples/s",
    (Figure("padded", "10 /s", "30 /s", 3.0, 2, at_least=True), Figure("pods", "1 s", "2 s", 2.0)),
    ("script", "operator"),
)


def test_a_target_is_a_bound_from_above_or_from_below() -> None:
    assert Figure("", "", "", 1.8, 1.9).verdict == "met"
    assert Figure("", "", "", 2.0, 1.9).verdict == "missed by 0.1 x"
    assert Figure("", "", "", 0.9, 0.98, at_least=True).verdict == "missed by 0.08 x"
    assert Figure("", "", "", 0.9).verdict == "-"


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([0, 10], 0.95) == pytest.approx(9.5)


def test_what_was_kept_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = (tmp_path / "all.md", tmp_path / "targets.md", tmp_path / "none.md")
    for page, which in zip(pages, ("all", "targets", None), strict=True):
        place = f"<!-- benchmarks: {which} -->\nold\n<!-- benchmarks end -->\n" if which else ""
        page.write_text(f"before\n{place}after\n")
    monkeypatch.setattr(results, "PAGES", pages)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    results.write_pages(("not-run-yet",))
    assert "Not measured yet" in pages[0].read_text()
    results.save("throughput", (TABLE,), datetime.now(UTC), load=0.5)
    for _ in range(2):  # replaces what was written before
        results.write_pages(("throughput", "not-run-yet"))
    everything, targets, untouched = (page.read_text() for page in pages)
    assert everything.startswith("before\n<!-- benchmarks: all -->\n")
    assert "| samples/s | script | operator | measured | target |  |" in everything
    assert "| padded | 10 /s | 30 /s | 3 x | >= 2 x | met |" in everything
    assert everything.count("| pods |") == 1
    assert "`make bench BENCH=throughput`" in everything
    (loads,) = re.findall(r"load average ([\d.]+) to ([\d.]+)\.", everything)
    assert "0.5" in loads, "the other one is this machine's"
    assert "| samples/s: padded | 10 /s | 30 /s | 3 x | >= 2 x | met |" in targets
    assert "pods" not in targets
    assert untouched == "before\nafter\n"
