"""Rows of conditions and cells of a matrix, counted by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from sertk.core import Scores
from sertk.plugins import Plugins
from sertk.results.measures import Measure, Measures
from sertk.results.robustness import (
    Cell,
    changed_share,
    common,
    cross_csv,
    cross_table,
    enrolment_table,
    estimate,
    pairs,
    rows,
    scored_by_all,
    stress_csv,
    stress_table,
)
from sertk.results.runs import Held
from sertk.results.uncertainty import Difference

ABOUT = {"clean": "as it is", "loud": "very loud"}


@pytest.fixture
def ua() -> Measure:
    return Measures(Plugins())["ua"]


@pytest.fixture
def runs(scores: Callable[..., Scores]) -> dict[str, list[Held]]:
    """Two folds of 4 speakers with an utterance of each class; when loud, s0 and s1 are taken for b."""

    def held(fold: int, speakers: range, decided: str) -> Held:
        clips = [(f"s{n}.{one}", f"s{n}", one, decided if n < 2 else one) for n in speakers for one in "ab"]
        return Held(str(fold), "0", scores(clips, "ab"))

    return {
        "clean": [held(1, range(4), "a"), held(2, range(4, 8), "a")],
        "loud": [held(1, range(4), "b"), held(2, range(4, 8), "b")],
    }


def test_the_share_of_changed_decisions_is_of_all_and_the_labels_do_not_matter(
    runs: dict[str, list[Held]], ua: Measure
) -> None:
    clean, loud = rows(runs, ABOUT, ua, "speakers")
    # of 16 utterances the 4 of s0 and s1 were a and are b; of each class 6 or 8 of 8 are right
    assert (clean.size, clean.ua.value, clean.changed) == (16, (8 + 6) / 16, None)
    assert loud.changed is not None
    assert (loud.size, loud.ua.value, loud.changed.value) == (16, (6 + 8) / 16, 4 / 16)
    assert loud.changed.low <= 0.25 <= loud.changed.high
    assert (loud.changed.size, loud.ua.by) == (8, "speakers")
    counts = torch.tensor([[[0, 0], [0, 0]], [[3, 1], [0, 0]]])
    assert changed_share(counts)[1] == 0.25


def test_seeds_that_decide_differently_when_clean_have_one_share(scores: Callable[..., Scores], ua: Measure) -> None:
    def held(seed: str, decided: str) -> Held:
        return Held("1", seed, scores([(f"u{n}", f"s{n}", "ab"[n % 2], decided[n]) for n in range(6)], "ab"))

    runs = {"clean": [held("0", "aaaaaa"), held("1", "bababa")], "loud": [held("0", "aaabbb"), held("1", "bababb")]}
    _, loud = rows(runs, ABOUT, ua, "speakers")
    assert loud.changed is not None
    assert loud.changed.value == pytest.approx((3 / 6 + 1 / 6) / 2)


def test_what_one_seed_alone_could_not_score_is_in_no_figure_and_counted(
    scores: Callable[..., Scores], ua: Measure
) -> None:
    def held(fold: str, seed: str, names: str) -> Held:
        return Held(fold, seed, scores([(one, f"s{one}", "ab"[one in "bdf"], "a") for one in names], "ab"))

    runs = [held("1", "0", "abcdef"), held("1", "1", "fedca"), held("2", "0", "mno"), held("2", "1", "nm")]
    found, count = scored_by_all(runs)
    assert [list(one.scores.ids) for one in found] == [list("acdef"), list("fedca"), list("mn"), list("nm")]
    assert count == 2  # b and o
    assert [(one.fold, one.seed) for one in found] == [(one.fold, one.seed) for one in runs]
    # of a c e (label a, right) and d f (label b, wrong), and m n (a, right): recalls 5/5 and 0/2
    assert estimate(found, ua.counted, "speakers").value == 0.5
    both = common({"clean": runs, "loud": [held(one.fold, one.seed, "acdefmn") for one in runs]})
    assert {"".join(sorted(one.scores.ids)) for own in both.values() for one in own} == {"acdef", "mn"}


def test_only_what_was_scored_in_every_condition_is_counted(
    scores: Callable[..., Scores], runs: dict[str, list[Held]]
) -> None:
    whole = runs["loud"][0].scores
    runs["loud"][0] = Held("1", "0", whole.take(torch.tensor([0, 1, 2, 4, 5, 6, 7])))  # s1.b is lost
    kept = common(runs)
    for name in runs:
        assert [*kept[name][0].scores.ids] == ["s0.a", "s0.b", "s1.a", "s2.a", "s2.b", "s3.a", "s3.b"]
        assert len(kept[name][1].scores.ids) == 8


def test_the_table_has_percent_and_intervals_and_the_csv_shares(runs: dict[str, list[Held]], ua: Measure) -> None:
    found = rows(runs, ABOUT, ua, "speakers")
    head, _, clean, loud, _, caption = stress_table(found, ua)
    assert head == "| condition | audio | n | UA | 95 % | decisions changed | 95 % |"
    assert clean.startswith("| clean | as it is | 16 | 87.5 | ")
    assert clean.endswith(" | – | – |")
    assert "| loud | very loud | 16 | 87.5 | " in loud
    assert "| 25.0 | " in loud
    assert "2,000 draws of speakers (8)" in caption
    first, second = csv.DictReader(io.StringIO(stress_csv(found)))
    assert (first["ua"], first["changed"], second["changed"], second["units"]) == ("0.875", "", "0.25", "8")
    assert float(second["changed_low"]) < 0.25 < float(second["changed_high"])


def seeded(runs: dict[str, list[Held]], seeds: int) -> dict[str, list[Held]]:
    return {
        name: [Held(run.fold, str(seed), run.scores) for run in own for seed in range(seeds)]
        for name, own in runs.items()
    }


def test_n_is_utterances_and_the_caption_says_whether_seeds_are_drawn(runs: dict[str, list[Held]], ua: Measure) -> None:
    two, three = (rows(seeded(runs, count), ABOUT, ua, "speakers") for count in (2, 3))
    assert [one.size for one in (*two, *three)] == [16] * 4  # as many as one seed scores
    assert "how much another seed would differ is not in them" in stress_table(two, ua)[-1]
    said = stress_table(three, ua)[-1]
    assert "Seeds are drawn too, independently. Beyond that they hold for these trained models." in said
    assert "another seed" not in said
    draws = enrolment_table(three, ua, {"first": "the first"}, 3)[-3]
    assert "Enrolments are drawn too, independently." in draws


def cell(
    ua: Measure, runs: list[Held], system: str = "ours", *, trained: str = "z", corpus: str = "a", **more: object
) -> Cell:
    found = estimate(runs, ua.counted, "speakers")
    return Cell(system, trained, corpus, ("x", "y"), runs, 16, found, **more)


def test_a_matrix_tests_each_system_against_the_first_of_its_training_corpus(
    runs: dict[str, list[Held]], scores: Callable[..., Scores], ua: Measure
) -> None:
    clean, loud = runs["clean"], runs["loud"]
    right = [Held(run.fold, run.seed, replace(run.scores, decision=run.scores.target.hard)) for run in clean]
    cells = [
        cell(ua, clean, "first"),
        cell(ua, clean, "other", trained="y"),  # alone with its training corpus
        cell(ua, right, "best"),
        cell(ua, loud, "same", heard="n = 4"),
        cell(ua, clean[:1], "half"),
    ]
    found = pairs(cells, ua)
    assert [(one.base.system, one.cell.system) for one in found] == [
        ("first", "best"),
        ("first", "same"),
        ("first", "half"),
    ]
    best, same, half = (one.difference for one in found)
    assert isinstance(best, Difference)
    assert isinstance(same, Difference)
    # of 8 of each class 6 and 8 are right, then 8 and 8. s0 and s1 alone differ: of the swaps of 8 speakers those have
    # as large a difference that swap both or neither of them, a half
    assert (best.estimate.value, best.p, best.holm) == (2 / 16, 0.5, 1.0)
    # "same" is wrong in the other class of the same speakers: UA does not differ, nor does any swap change it by less
    assert (same.estimate.value, same.p, same.holm) == (0.0, 1.0, 1.0)
    assert isinstance(half, str)
    assert half.startswith("half lacks 1 run, the first fold 2, seed 0.")
    text = "\n".join(cross_table(cells, found, ua))
    assert "| corpus | system | minus | difference | p | p, Holm |" in text
    assert "| a | best | first | +12.5 UA, 95 % " in text
    assert "| a | same‡ | first | +0.0 UA, 95 % " in text
    assert "Holm's adjustment is over all rows of this table." in text
    assert "A system marked ‡ minus one that is not: it knows the speakers, and the other does not." in text
    assert "half on a is not tested against first: half lacks 1 run" in text
    assert "minus" not in "\n".join(cross_table(cells[:2], pairs(cells[:2], ua), ua))
    first, other, row, *_, last = csv.DictReader(io.StringIO(cross_csv(cells, found)))
    assert (row["against"], row["difference"], row["p"], row["p_holm"]) == ("first", "0.125", "0.5", "1.0")
    assert {one["against"] + one["difference"] for one in (first, other, last)} == {""}


def test_a_matrix_of_few_speakers_has_their_differences_and_no_test(runs: dict[str, list[Held]], ua: Measure) -> None:
    cells = [cell(ua, runs[name][:1], name) for name in ("clean", "loud")]
    text = "\n".join(cross_table(cells, pairs(cells, ua), ua))
    assert "| a | loud | clean | +0.0 UA, no interval: 4 speakers are too few" in text
    assert "- a, loud, clean: s0 +0.0, s1 +0.0, s2 +0.0, s3 +0.0" in text


def test_a_matrix_says_in_which_cells_bundles_are_drawn(runs: dict[str, list[Held]], ua: Measure) -> None:
    cells = [cell(ua, seeded(runs, count)["clean"], corpus=name) for name, count in (("a", 1), ("b", 3))]
    text = "Bundles are drawn too, independently, where 3 or more scored the same utterances;"
    assert text in cross_table(cells, [], ua)[-1]
    assert "Bundles are drawn too, independently. Beyond" in cross_table(cells[1:], [], ua)[-1]
    assert "how much another bundle would differ is not in them" in cross_table(cells[:1], [], ua)[-1]


def test_few_speakers_have_no_interval_and_the_caption_says_what_to_do(
    runs: dict[str, list[Held]], ua: Measure
) -> None:
    few = {name: own[:1] for name, own in runs.items()}
    text = "\n".join(stress_table(rows(few, ABOUT, ua, "speakers"), ua))
    assert "| 25.0 | –" not in text
    assert "| 50.0 | – |" in text
    assert "4 speakers are too few" in text
    assert "`--by utterances`" in text
    assert "too narrow" in "\n".join(stress_table(rows(few, ABOUT, ua, "utterances"), ua))


def test_a_matrix_says_how_the_speakers_of_each_corpus_were_known(runs: dict[str, list[Held]], ua: Measure) -> None:
    places = [("ours", "a", "n = 4"), ("theirs", "a", "n = 4"), ("ours", "b", "n = 8"), ("theirs", "b", "n = 9")]
    cells = [
        *(cell(ua, runs["clean"], system, corpus=corpus, heard=heard) for system, corpus, heard in places),
        *(cell(ua, runs["clean"], "plain", corpus=corpus) for corpus in ("a", "b")),
    ]
    text = "\n".join(cross_table(cells, [], ua))
    assert "not to be compared with unknown speakers (on a: n = 4; ours on b: n = 8; theirs on b: n = 9)." in text
    assert "Marked ‡" not in "\n".join(cross_table(cells[4:], [], ua))


def test_a_matrix_marks_own_cells_and_tells_what_was_left_out(runs: dict[str, list[Held]], ua: Measure) -> None:
    more: dict[str, Any] = {"left_out": {"awe": 3, "None": 2}, "failed": 1, "by_logits": 4, "seen": 5}
    cells = [
        cell(ua, runs["clean"], "ours (a)", trained="a", corpus="a"),
        cell(ua, runs["clean"], "ours (a)", trained="a", corpus="b", **more),
    ]
    text = "\n".join(cross_table(cells, [], ua))
    assert "| UA, percent | a | b |" in text
    assert "| ours (a) | 87.5* (" in text
    assert "| 87.5† (" in text
    assert "| 3 awe, 2 None | 1 |" in text
    assert "5 of b by ours (a)" in text
    assert "ours (a) on b: 4 decisions had posterior 0" in text
    own, other = csv.DictReader(io.StringIO(cross_csv(cells, [])))
    assert (own["own"], own["left_out"], other["own"], other["left_out"]) == ("1", "0", "0", "5")
    assert (other["failed"], other["by_logits"], other["seen"]) == ("1", "4", "5")
