"""Drawings of scored runs: what stands in their cells, and where their dots are."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sertk.results.drawing import STYLE, Paint
from sertk.results.figures import draw_beside, draw_differences, draw_pair, percent_of_labels
from sertk.results.groups import Group
from sertk.results.intervals import Estimate


def test_cells_are_percent_of_their_label() -> None:
    # four utterances of the first class, one of the second, none of the third
    counts = torch.tensor([[3, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert percent_of_labels(counts).tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes of what is drawn, in the place of its files."""
    found: list[Axes] = []

    def draw(stem: Path, size: tuple[float, float], paint: Paint) -> str:
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=size)
            paint(figure)
        found.extend(figure.axes)
        return ""

    monkeypatch.setattr("sertk.results.figures.draw", draw)
    return found


def dots(axes: Axes) -> list[list[list[float]]]:
    """The places of what is drawn as dots, by colour."""
    return [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]


def test_speakers_are_drawn_by_the_baseline_and_by_the_other_and_the_farthest_are_named(painted: list[Axes]) -> None:
    first = {"p": 0.25, "q": 0.5, "r": 0.75, "s": 0.75, "t": 0.5}
    second = {"t": 0.5, "s": 0.5, "r": 0.7, "q": 0.9, "p": 0.3}  # by name, whatever their order
    draw_pair(Path("x"), first, second, ("base", "other"))
    (axes,) = painted
    assert dots(axes) == [[[25, 30], [50, 90], [75, 70], [75, 50], [50, 50]]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("base", "other")
    assert axes.get_xlim() == axes.get_ylim() == (21, 94)
    assert [one.get_text() for one in axes.texts] == ["q", "s", "p"]  # 40, 25 and 5 of p, which comes before r


def test_systems_stand_beside_each_other_and_hollow_dots_have_no_interval(painted: list[Axes]) -> None:
    def group(name: str, value: float, why: str = "") -> Group:
        return Group(name, 12, Estimate(value, value - 0.1, value + 0.1, "speakers", 8, why=why))

    draw_beside(
        Path("x"), {"m": [group("a", 0.5), group("b", 0.4)], "n": [group("a", 0.6), group("b", 0.3, "few")]}, ""
    )
    (axes,) = painted
    places = [[round(y, 3) for _, y in own] for own in dots(axes)]
    assert places == [[-0.175, 0.825], [0.175], [1.175]]  # 0.7 of a row for two systems
    assert [line.get_fillstyle() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())] == [
        "full",
        "full",
        "none",
    ]
    bars = [line.get_xydata().round(3).tolist() for line in axes.lines if line.get_marker() != "o"]
    assert bars == [[[40, -0.175], [60, -0.175]], [[30, 0.825], [50, 0.825]], [[50, 0.175], [70, 0.175]]]
    assert [one.get_text() for one in axes.get_yticklabels()] == ["a (12)", "b (12)"]
    assert list(axes.get_legend_handles_labels()[1]) == ["m", "n"]


def test_differences_are_drawn_in_points_about_a_line_at_zero(painted: list[Axes]) -> None:
    draw_differences(Path("x"), {"m": Estimate(-0.02, -0.05, 0.01, "speakers", 8)}, "points")
    (axes,) = painted
    assert dots(axes) == [[[-2, 0]]]
    assert [line.get_xdata() for line in axes.lines if line.get_linestyle() == "--"] == [[0, 0]]
