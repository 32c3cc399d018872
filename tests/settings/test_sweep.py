"""A sweep's file: what does not go together, or could do harm, is refused with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sertk.core import UsageError
from sertk.settings.sweep import Sweep, load, search_of, swept_text, system_name

REST = """
cells: {UA: {metric: ua}}
rows:
  plain: {system: mini-cnn}
"""


def sweep(folder: Path, text: str) -> Sweep:
    path = folder / "one.yaml"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize("group", ["grid", "zip"])
def test_a_setting_without_a_value_is_refused(tmp_path: Path, group: str) -> None:
    with pytest.raises(UsageError, match=r"one\.yaml:1: train\.batch has no value, so nothing would be run"):
        sweep(tmp_path, f"{group}: {{train.batch: []}}{REST}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("grid: {alpha: [0.1, 0.2, 0.10]}", "1: alpha has a value twice"),
        ("grid: {alpha: [0.1]}\nzip: {alpha: [0.1]}", "1: of alpha, alpha two are the same"),
        ("grid: {backbone.layers: [1, 2], backbone: [frames]}", "1: of backbone.layers, backbone two are the same"),
    ],
)
def test_a_point_of_the_grid_is_another_run_than_the_others(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UsageError, match=rf"one\.yaml:{what}"):
        sweep(tmp_path, text + REST)


@pytest.mark.parametrize(
    ("swept", "own"),
    [
        ("train.batch", "{train: {batch: 4}}"),
        ("train.optimizer", "{train: {optimizer: {lr: 0.1}}}"),
        ("backbone.layers", "{backbone: {name: cnn_transformer, layers: 1}}"),
        ("backbone.layers", "{backbone: 'cnn_transformer:layers=1'}"),
    ],
)
def test_what_the_grid_would_replace_is_refused(tmp_path: Path, swept: str, own: str) -> None:
    values = "[sgd]" if swept == "train.optimizer" else "[8, 16]"
    with pytest.raises(UsageError, match=rf"one\.yaml:5: {swept} is swept, and rows\.small\.settings sets it"):
        sweep(tmp_path, f"grid: {{{swept}: {values}}}{REST}  small: {{settings: {own}}}\n")
    with pytest.raises(UsageError, match=rf"one\.yaml:1: {swept} is swept, and settings sets it"):
        sweep(tmp_path, f"settings: {own}\nzip: {{{swept}: {values}}}{REST}")


def test_what_the_grid_sweeps_is_of_the_part_that_a_row_names(tmp_path: Path) -> None:
    for own in ("cnn_transformer", "'cnn_transformer:heads=2'"):
        row = f"  small: {{settings: {{backbone: {own}, train: {{epochs: 3}}}}}}\n"
        assert len(sweep(tmp_path, f"grid: {{backbone.layers: [1, 2], train.batch: [8]}}{REST}{row}").points) == 4


def test_swept_values_are_shown_as_they_are_written() -> None:
    values = {"train.refit": True, "crop": None, "backbone": {"name": "frames"}, "alpha": 0.1, "segments": "80:40"}
    shown = 'train.refit true, crop null, backbone {"name": "frames"}, alpha 0.1, segments 80:40'
    assert swept_text(values) == shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"settings: {{plugins: [mine.py]}}{REST}", 1),
        (f"grid: {{plugins: [[], [mine.py]]}}{REST}", 1),
        (REST.replace("mini-cnn", "mini-cnn, settings: {plugins: [mine.py]}"), 4),
    ],
)
def test_a_sweep_names_no_plugin_files_for_they_would_run_unasked(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"one\.yaml:{line}: plugins is no setting of a sweep.*--plugin"):
        sweep(tmp_path, text)


def test_systems_are_named_by_rows_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one\.yaml:1: system is no setting of a sweep\. A row has it"):
        sweep(tmp_path, f"grid: {{system: [mini-cnn, p1-ce]}}{REST}")


def test_the_parts_that_are_scored_are_those_of_figures_and_of_times_of_scoring(tmp_path: Path) -> None:
    cells = "cells: {dev: {metric: ua, part: dev}, parameters: {cost: parameters}COST}\nrows: {plain: {}}\n"
    assert sweep(tmp_path, cells.replace("COST", "")).parts == ["dev"]
    assert sweep(tmp_path, cells.replace("COST", ", scoring: {cost: scoring}")).parts == ["test", "dev"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{metrics: [label_loss]}", "has settings of 'label_loss', the metric of no cell. Known: ua"),
        ("{metrics: [uaa]}", "has settings of 'uaa', the metric of no cell; did you mean 'ua'"),
        ("{metrics: [ua, ua]}", "has settings of 'ua' twice"),
        ("{metrics: [ua], quoted: {UA: 50}, source: x}", "is quoted, so nothing of it is run"),
    ],
)
def test_settings_of_a_metric_that_a_row_cannot_have_are_refused(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"one\.yaml:5: row 'own' {says}"):
        sweep(tmp_path, f"{REST}  own: {row}\n")


def test_a_row_that_is_both_trained_and_quoted_is_named_though_no_other_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one\.yaml:4: row 'plain' is quoted, so nothing of it is run"):
        sweep(tmp_path, REST.replace("mini-cnn", "mini-cnn, quoted: {UA: 50}"))
    with pytest.raises(UsageError, match=r"one\.yaml:3: no row is trained"):
        sweep(tmp_path, REST.replace("system: mini-cnn", "quoted: {UA: 50}"))


def test_a_seed_and_a_fold_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one\.yaml:1: seeds is 0, 1, 0\. Give each once"):
        sweep(tmp_path, f"seeds: [0, 1, 0]{REST}")
    with pytest.raises(UsageError, match=r"one\.yaml:1: folds is 03, 03\. Give each once"):
        sweep(tmp_path, f"folds: ['03', '03']{REST}")


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("{spaeker: [a]}", "of 'spaeker'; did you mean 'speaker'"),
        ("{gender: [man]}", "of gender 'man'.*female, male"),
        ("{gender: [male], speaker: []}", "of no speaker, so of no utterance"),
    ],
)
def test_a_cell_is_of_utterances_that_a_corpus_may_have(tmp_path: Path, only: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"one\.yaml:2: cell 'UA': only {says}"):
        sweep(tmp_path, REST.replace("metric: ua", f"only: {only}"))
    assert sweep(tmp_path, REST.replace("metric: ua", "only: {gender: [male]}")).cells["UA"].only["gender"] == ("male",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cells: {UA: {}}\nbaseline: one", "baseline 'one' is no row that is trained; did you mean 'own'"),
        ("cells: {UA: {}}\nbaseline: cited", "baseline 'cited' is no row that is trained"),
        ("cells: {UA: {part: dev}}\nbaseline: own", "a baseline needs a cell of the test part, and no swept settings"),
        ("cells: {UA: {}}\ngrid: {alpha: [0.1, 0.2]}\nbaseline: own", "a baseline needs a cell of the test part"),
    ],
)
def test_a_baseline_that_nothing_can_be_tested_against_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        sweep(tmp_path, f"{text}\nrows: {{own: {{}}, cited: {{quoted: {{UA: 1}}}}}}\n")


def test_a_row_has_the_metric_of_a_cell_or_its_own_settings_of_it(tmp_path: Path) -> None:
    cells = "cells: {UA: {metric: ua}, dev: {metric: 'label_loss', part: dev}}\n"
    found = sweep(tmp_path, f"{cells}rows: {{own: {{metrics: ['label_loss:of=bce']}}, plain: {{}}}}\n")
    metrics = {row: [one.metric(cell).settings for cell in found.cells.values()] for row, one in found.rows.items()}
    assert metrics == {"own": [{}, {"of": "bce"}], "plain": [{}, {}]}


SEARCH = "cells: {UA: {metric: ua}}\nrows:\n  own:\n    search: {trials: 5, OTHER ranges: {RANGES}}\nREST"


def searched(folder: Path, ranges: str, other: str = "", rest: str = "") -> Sweep:
    return sweep(folder, SEARCH.replace("RANGES", ranges).replace("OTHER", other).replace("REST", rest))


def test_a_search_has_ranges_of_real_and_whole_numbers_and_of_values(tmp_path: Path) -> None:
    ranges = "train.optimizer.lr: {low: 1.0e-4, high: 1, log: true}, train.batch: {low: 4, high: 16, step: 4}, "
    found = searched(tmp_path, ranges + "losses: {choices: [[ce], [kl]]}").searched["own"].ranges
    assert [(str(one), one.whole) for one in found.values()] == [
        ("0.0001 to 1, log", False),
        ("4 to 16, step 4", True),
        ('one of ["ce"], ["kl"]', False),
    ]
    assert [one.ends for one in found.values()] == [(1e-4, 1.0), (4, 16), (["ce"], ["kl"])]
    rate, batch, losses = found.values()
    assert [rate.holds(value) for value in (1e-4, 1, 2, None, True)] == [True, True, False, False, False]
    assert [batch.holds(value) for value in (4, 5, 12, 20)] == [True, False, True, False]
    assert (losses.holds(["ce"]), losses.holds("ce")) == (True, False)


@pytest.mark.parametrize(
    ("ranges", "other", "rest", "says"),
    [
        ("", "", "", "4: a search needs ranges"),
        ("alpha: {low: 0.1}", "", "", "4: alpha: a range goes from low up to high, or has choices"),
        ("alpha: {low: 0.5, high: 0.1}", "", "", "4: alpha: a range goes from low up to high"),
        ("alpha: {low: 0, high: 1, log: true}", "", "", "4: alpha: low is 0, which has no logarithm"),
        (
            "alpha: {low: 0.1, high: 1, log: true, step: 0.1}",
            "",
            "",
            "4: alpha: log goes with step 1 and whole numbers",
        ),
        ("alpha: {low: 0.1, choices: [0.1]}", "", "", "4: alpha: it has choices. Leave out low"),
        ("alpha: {low: 0, high: 2}", "", "", "4: alpha is 2.0; it is at least 0"),
        ("alhpa: {low: 0, high: 1}", "", "", "4: unknown setting 'alhpa'; did you mean 'alpha'"),
        ("train.batch: {low: 4, high: 16}", "", "", "4: train.batch: it takes whole numbers. Give step: 1."),
        ("train.threads: {low: 1, high: 2, step: 1}", "", "", "4: train.threads: it cannot be searched"),
        ("seed: {low: 1, high: 2, step: 1}", "", "", "4: seed: it cannot be searched"),
        ("inputs.mel.n_mels: {low: 40, high: 80, step: 1}", "", "", "4: inputs.mel.n_mels: it cannot be searched"),
        ("system: {choices: [p1-ce]}", "", "", "4: system: it cannot be searched"),
        (
            "backbone.layers: {low: 1, high: 2, step: 1}, backbone: {choices: [frames]}",
            "",
            "",
            "4: of backbone.layers and backbone one holds the other",
        ),
        ("alpha: {low: 0, high: 1}", "folds: [each, '03'],", "", "4: folds is each, 03. Give each alone"),
        ("alpha: {low: 0, high: 1}", "folds: [],", "", "4: folds is empty"),
        ("alpha: {low: 0, high: 1}", "", "grid: {train.batch: [4, 8]}", "4: a row that is searched has no grid"),
        ("alpha: {low: 0, high: 1}", "", "  q: {quoted: {UA: 1}, search: {}}", "5: row 'q' is quoted"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(tmp_path: Path, ranges: str, other: str, rest: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"one.yaml:{says}")):
        searched(tmp_path, ranges, other, rest)


def test_a_row_without_a_search_has_none_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        SEARCH.replace("RANGES", "alpha: {low: 0, high: 1}").replace("OTHER", "").replace("REST", "  b: {}")
    )
    assert search_of(path, "own").trials == 5
    with pytest.raises(UsageError, match=r"one\.yaml has no row 'b' with a search.*own"):
        search_of(path, "b")
    assert system_name(path, "a/b c") == "one-a%2Fb c"
