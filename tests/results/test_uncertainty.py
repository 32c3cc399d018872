"""Intervals and differences in words: what reports and comparisons say, and what they say where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sertk.plugins import Plugins
from sertk.results.intervals import Estimate
from sertk.results.measures import Measure, Measures
from sertk.results.systems import System
from sertk.results.uncertainty import Difference, against, compared, group_lines, report_lines

Make = Callable[..., System]
PLUGINS = Plugins()
UA = Measure(PLUGINS, "ua")
RIGHT = [6, 4, 7, 9, 5, 8]  # of 12 clips, of six speakers
BETTER = [right + 3 for right in RIGHT]


def shown(*systems: System) -> Measures:
    """The metrics, that have given their figures."""
    measures = Measures(PLUGINS)
    for system in systems:
        measures.figures(next(iter(system.seeds.values())))
    return measures


def seeded(system: Make, voiced: Make, right: list[int], name: str, seeds: int = 1) -> System:
    return system({("1", str(seed)): voiced(right, 12) for seed in range(seeds)}, name=name)


def test_the_verdict_is_the_difference_its_interval_and_by_whom() -> None:
    near = Estimate(0.0191, -0.0084, 0.0449, "speakers", 24)
    assert Difference("s", near, 0.2, 0.4, (), {}).words(UA) == (
        "+1.9 UA, 95 % -0.8 to 4.5 by 24 speakers: not told apart"
    )
    far = Estimate(-0.0004, -0.0451, -0.0009, "speakers", 24)  # and there is no -0.0
    assert Difference("s", far, 0.01, 0.02, (), {}).words(UA) == "+0.0 UA, 95 % -4.5 to -0.1 by 24 speakers: apart"
    clips = Estimate(0.0191, 0.0084, 0.0449, "utterances", 480)
    assert Difference("s", clips, None, None, (), {}).words(UA) == "+1.9 UA, 95 % 0.8 to 4.5 by 480 utterances"


def test_systems_have_intervals_and_are_tested_against_the_baseline(system: Make, voiced: Make) -> None:
    base, better, same = (
        seeded(system, voiced, right, name)
        for right, name in ((RIGHT, "base"), (BETTER, "better"), ([7, 3, *RIGHT[2:]], "same"))
    )
    lines = compared([better, base, same], base, shown(base), "speakers").lines
    assert lines[0] == "| 95 % by 6 speakers | WA | UA | precision | recall | F1 |"
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| better", "| base", "| same"]
    table = lines[lines.index("| UA minus that of base | difference | p | p, Holm |") :]
    # all six speakers gain: 2 of 64 swaps; Holm doubles the smaller of two. "same" has one gain and one loss
    assert table[2] == "| better | +25.0 UA, 95 % 25.0 to 25.0 by 6 speakers: not told apart | 0.0312 | 0.0625 |"
    assert table[3].startswith("| same | +0.0 UA, 95 % -")
    assert table[3].endswith(": not told apart | 1.0000 | 1.0000 |")
    text = "\n".join(lines)
    assert "Holm's adjustment is over the 2 systems that are compared with base" in text
    assert "(all swaps were tried)" in text
    assert "hold for these trained models: how much another seed would differ is not in them" in text
    assert "McNemar" not in text


def test_one_comparison_is_no_family(system: Make, voiced: Make) -> None:
    base, better = (seeded(system, voiced, right, name) for right, name in ((RIGHT, "base"), (BETTER, "better")))
    text = "\n".join(compared([base, better], base, shown(base), "speakers").lines)
    assert "by 6 speakers: apart | 0.0312 | 0.0312 |" in text
    assert "Holm's adjustment is over one difference" in text
    alone = compared([base], base, shown(base), "speakers").lines
    assert not [line for line in alone if "minus" in line or "Holm" in line]


def test_mcnemar_comes_with_what_it_takes_for_granted_and_only_when_asked_for(system: Make, voiced: Make) -> None:
    base, better = (seeded(system, voiced, right, name, 2) for right, name in ((RIGHT, "b"), (BETTER, "t")))
    lines = compared([base, better], base, shown(base), "speakers", clips=True).lines
    (row,) = [line for line in lines if line.startswith("| t | +")]
    assert row.endswith(" | < 0.0001, < 0.0001 |")  # 18 clips that one alone has right, in each of two seeds
    assert "It takes the clips of a speaker for independent of each other, which they are not" in "\n".join(lines)


def test_intervals_of_utterances_say_so_and_give_no_verdict(system: Make, voiced: Make) -> None:
    base, better = (seeded(system, voiced, right, name, 3) for right, name in ((RIGHT, "b"), (BETTER, "t")))
    text = "\n".join(compared([base, better], base, shown(base), "utterances").lines)
    assert "| 95 % by 72 utterances | WA |" in text
    assert "| UA minus that of b | difference |\n" in text
    assert "by 72 utterances |\n" in text or text.endswith("by 72 utterances |")
    assert "they are not, so they are too narrow" in text
    assert "apart" not in text
    assert "Seeds are drawn too" in text


def test_fewer_than_six_speakers_are_shown_each(system: Make, voiced: Make) -> None:
    base, better = (seeded(system, voiced, right[:2], name) for right, name in ((RIGHT, "b"), (BETTER, "t")))
    lines = compared([base, better], base, shown(base), "speakers").lines
    assert lines[0] == "No intervals: 2 speakers are too few, at least 6 are needed."
    assert lines[2:6] == ["| UA by speaker | s0 | s1 |", "|---|---|---|", "| b | 50.0 | 33.3 |", "| t | 75.0 | 58.3 |"]
    assert "- t: s0 +25.0, s1 +25.0" in lines
    assert "Intervals are" not in "\n".join(lines)
    assert "p, Holm" not in "\n".join(lines)


def test_unknown_speakers_and_missing_runs_have_no_intervals_and_say_why(system: Make, voiced: Make) -> None:
    clips = [(name, None, *rest) for name, _, *rest in voiced(RIGHT, 12)]
    unknown = system({("1", "0"): clips})
    (said,) = compared([unknown], unknown, shown(unknown), "speakers").lines
    assert said.startswith("No intervals: '0.0' (fold 1, seed 0) has no speaker.")
    assert report_lines(unknown, shown(unknown)) == [said]
    assert group_lines(unknown, shown(unknown)) == []
    assert compared([unknown], unknown, shown(unknown), "utterances").lines[0].startswith("| 95 % by 72 utterances |")


def test_a_system_that_lost_a_clip_is_named_and_the_others_are_tested(system: Make, voiced: Make) -> None:
    base, better, other = (
        seeded(system, voiced, right, name) for right, name in ((RIGHT, "base"), (BETTER, "better"), (RIGHT, "other"))
    )
    lost = system({("1", "0"): voiced(RIGHT, 12)[1:]}, name="lost")
    why = "fold 1: its speakers have not the same utterances in every seed and system."
    lines = against(base, [better, lost, other], UA)
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| better", "| other"]
    assert lines[2].endswith(" | 0.0312 | 0.0625 |")  # Holm's family is those two
    assert "over the 2 systems that are compared with base" in "\n".join(lines)
    (said,) = [line for line in lines if line.startswith(f"No test of lost against base: {why}")]
    assert said not in lines[:6]
    assert against(base, [lost], UA)[0] == said
    both = against(lost, [base, better], UA)
    assert both[0].startswith(f"No test of base, better against lost: {why}")
    made = compared([better, base, lost], base, shown(base), "speakers")
    assert [*made.figures] == ["better", "base"]
    assert [one.name for one in made.differences] == ["better"]
    assert f"\nNo interval of lost, and no test against base: {why}" in "\n".join(made.lines)


def test_a_baseline_without_speakers_is_named(system: Make, voiced: Make) -> None:
    base = system({("1", "0"): [(name, None, *rest) for name, _, *rest in voiced(RIGHT, 12)]}, name="base")
    better = seeded(system, voiced, BETTER, "better")
    why = "'0.0' (fold 1, seed 0) has no speaker."
    assert against(base, [better], UA)[0].startswith(f"No tests against base: {why}")
    said = compared([base, better], base, shown(base), "speakers").lines[0]
    assert said.startswith(f"No intervals, as base, the baseline, has none: {why}")


def test_a_report_has_intervals_pooled_and_of_the_mean_of_the_folds(system: Make, voiced: Make) -> None:
    folds = {
        (fold, "0"): [(fold + name, fold + who, *rest) for name, who, *rest in voiced(right, 12)]
        for fold, right in (("1", RIGHT), ("2", BETTER))
    }
    made = system(folds)
    lines = report_lines(made, shown(made))
    # 39 of 72 and 57 of 72 clips are right
    assert lines[0].startswith("- WA: pooled 66.7, 95 % ")
    assert "by 12 speakers; mean of 2 folds 66.7, 95 % " in lines[0]
    assert lines[1].startswith("- UA: pooled ")
    assert "of the mean of the folds within folds." in lines[3]
    alone = system({("1", "0"): folds["1", "0"]})
    assert "folds" not in "\n".join(report_lines(alone, shown(alone)))


def test_a_report_of_leave_one_speaker_out_says_what_it_draws(system: Make, voiced: Make) -> None:
    made = system(
        {
            (str(number), "0"): [(f"{number}{name}", str(number), *rest) for name, _, *rest in voiced([right], 12)]
            for number, right in enumerate(RIGHT)
        }
    )
    assert "whole folds" in report_lines(made, shown(made))[3]


def test_a_report_shows_classes_groups_and_the_spread(scores: Make, system: Make, voiced: Make) -> None:
    clips = voiced([*RIGHT, *BETTER], 12)
    made = scores(
        clips,
        "abc",
        gender=["female" if int(name.split(".")[0]) < 6 else "male" for name, *_ in clips],
        seconds=torch.full((len(clips),), 2.0).double(),
    )
    lines = group_lines(system({("1", "0"): made}), shown(system({("1", "0"): made})))
    assert lines[0] == "| recall of a class, UA of a group | n | percent | 95 % | speakers |"
    assert [line.split(" | ")[0] for line in lines[2:7]] == [
        *(f"| recall of {name}" for name in "abc"),
        "| gender female",
        "| gender male",
    ]
    assert lines[5].startswith("| gender female | 72 | 54.2 | ")
    assert lines[5].endswith(" | 6 |")
    assert len(lines) == 9  # one duration and one session are no groups
    assert lines[-1].startswith("The speakers' UA have a standard deviation of ")


@pytest.mark.parametrize("name", ["wa", "ua", "precision", "recall", "f1"])
def test_a_stack_of_counts_has_the_figure_of_each(name: str) -> None:
    measure = Measure(PLUGINS, name)
    counts = torch.randint(0, 9, (4, 2, 3, 3), generator=torch.Generator().manual_seed(3))
    counts[0, 0, 1] = 0  # no label
    counts[1, 0, :, 2] = counts[1, 0, 2] = 0  # neither label nor decision
    each = [measure.counted(one) for one in counts.flatten(0, 1)]
    assert torch.allclose(measure.counted(counts).flatten(), torch.stack(each), atol=1e-12)
    assert measure.of_counts
