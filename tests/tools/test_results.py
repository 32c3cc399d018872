"""The figures of the first page and of docs/results.md stand where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/results.md").read_text().splitlines()
    if re.match(r"\|.*\.md` \|$", line)
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[2]} {row[3]}")
def test_a_figure_stands_in_the_file_that_its_row_names(row: list[str]) -> None:
    figure, file = row[3], row[5].strip("`")
    assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", (ROOT / file).read_text())


def test_the_figures_of_the_first_page_are_those_of_the_results() -> None:
    shown = re.findall(r"^\|.*\| (\d+\.\d) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(shown) == 7
    assert {*shown} <= {f"{float(row[3]):.1f}" for row in ROWS}


@pytest.mark.parametrize("row", [one for one in ROWS if "RESULTS.md" in one[5]], ids=lambda row: f"{row[2]} {row[3]}")
def test_a_row_names_the_encoder_of_its_run(row: list[str]) -> None:
    sections = (ROOT / row[5].strip("`")).read_text().split("\n## ")
    mean = rf"^\| mean of (?:[^|]*\|){{4}} {re.escape(row[3])}(?: ± [\d.]+)? \|"  # folds, seeds, n, WA, and UA
    runs = row[4].rpartition(" ")[2]  # two systems may have the same figure, of other seeds
    own = [one for one in sections if re.search(mean, one, re.MULTILINE) and re.search(rf"folds \| {runs} seed", one)]
    assert [("openai/whisper-base" in one) for one in own] == ["Whisper-base" in row[2]]
