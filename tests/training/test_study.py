"""A study that several processes share: no trial twice, none lost, and the same draws whoever was killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError
from sertk.settings.schema import Component
from sertk.settings.sweep import Range, Search
from sertk.training.run_folder import PrunedError
from sertk.training.study import RETRIES, Study, Trial, check, clear

RANGES = {
    "train.optimizer.lr": Range(low=1e-4, high=1e-2, log=True),
    "train.batch": Range(low=4, high=64, step=4),
    "losses": Range(choices=(["ce"], [{"name": "ce", "smoothing": 0.1}])),
}


def of(**own: object) -> Search:
    return Search(**{"ranges": RANGES, "trials": 6, **own})


def lr(trial: Trial) -> float:
    return float(trial.values["train.optimizer.lr"])


def finish(
    study: Study, score: Callable[[Trial], float] = lr, stands: Mapping[str, object] | None = None
) -> list[Trial]:
    """Makes all trials that are left."""
    made = []
    while (trial := study.begin(stands)) is not None:
        made.append(trial)
        study.end(trial, score(trial))
    return made


def die(trial: Trial) -> None:
    """What is left of a trial when its process is killed: nobody holds its folder."""
    trial._lock.close()


def test_values_are_typed_as_on_the_command_line_and_lie_in_their_ranges(tmp_path: Path) -> None:
    for trial in finish(Study(tmp_path, of(trials=12))):
        assert list(trial.values) == list(RANGES)
        assert 1e-4 <= lr(trial) <= 1e-2
        assert trial.values["train.batch"] in [str(4 * n) for n in range(1, 17)]
        assert trial.values["losses"] in ('["ce"]', '[{"name": "ce", "smoothing": 0.1}]')
        assert trial.words[1] == f"train.batch={trial.values['train.batch']}"


def test_the_settings_before_the_search_are_tried_first_and_win_where_nothing_is_better(tmp_path: Path) -> None:
    stands = {"train.optimizer.lr": 0.00123, "train.batch": 8, "losses": '["ce"]'}
    study = Study(tmp_path, of())
    first, *others = finish(study, lambda _: 0.5, stands)
    assert first.values == {"train.optimizer.lr": "0.00123", "train.batch": "8", "losses": '["ce"]'}
    assert len(others) == 5
    assert study.best() == (first.values, 0.5)
    assert study.score_of(stands) == 0.5


def test_two_processes_make_as_many_trials_as_were_asked_for_and_no_two_alike(tmp_path: Path) -> None:
    one, two = Study(tmp_path, of()), Study(tmp_path, of())
    begun = [trial for _ in range(3) for study in (one, two) if (trial := study.begin(None))]
    assert one.begin(None) is None
    assert two.begin(None) is None
    assert len({trial.folder for trial in begun}) == len({lr(trial) for trial in begun}) == 6
    assert two.counts == {"RUNNING": 6}
    for number, trial in enumerate(begun):
        (one, two)[number % 2].end(trial, lr(trial))
    assert one.counts == two.counts == {"COMPLETE": 6}
    assert one.best() == two.best()


def test_a_trial_whose_process_was_killed_is_taken_up_again_in_its_folder(tmp_path: Path) -> None:
    study = Study(tmp_path, of())
    first = study.begin(None)
    assert first is not None
    study._study.get_trials()
    first.report(1, 0.4)
    die(first)
    again = Study(tmp_path, of())
    second = again.begin(None)
    assert second is not None
    assert (second.folder, second.values) == (first.folder, first.values)
    again.end(second, 0.5)
    assert len(finish(again)) == 5
    assert again.counts == {"COMPLETE": 6}
    assert "error" in again.table()
    assert again.table().count("\n") == 7


def test_a_trial_of_a_process_that_lives_is_left_to_it(tmp_path: Path) -> None:
    here, there = Study(tmp_path, of()), Study(tmp_path, of())
    first, second = here.begin(None), there.begin(None)
    assert first is not None
    assert second is not None
    assert first.folder != second.folder


def test_a_kill_changes_nothing_of_what_is_drawn(tmp_path: Path) -> None:
    whole = [trial.values for trial in finish(Study(tmp_path / "whole", of(trials=14)))]
    study, made = Study(tmp_path / "killed", of(trials=14)), []
    for number in range(14):
        trial = study.begin(None)
        assert trial is not None
        if number in (2, 12):
            die(trial)
            study = Study(tmp_path / "killed", of(trials=14))
            trial = study.begin(None)
            assert trial is not None
        made.append(trial.values)
        study.end(trial, lr(trial))
    assert made == whole


def test_a_trial_that_ends_its_process_every_time_is_given_up_and_says_so(tmp_path: Path) -> None:
    study = Study(tmp_path, of(trials=2))
    for _ in range(RETRIES + 1):
        trial = study.begin(None)
        assert trial is not None
        assert trial.folder.name == "trial=0"
        die(trial)
    other = study.begin(None)
    assert other is not None
    assert other.folder.name != "trial=0"
    study.end(other, 0.5)
    assert study.begin(None) is None
    assert study.counts == {"COMPLETE": 1, "FAIL": 1}
    assert study.errors == [f"its process was killed {RETRIES + 1} times"]


def test_a_failing_trial_keeps_its_reason_and_is_not_made_again(tmp_path: Path) -> None:
    study = Study(tmp_path, of(trials=2))
    trial = study.begin(None)
    assert trial is not None
    study.end(trial, "the loss became nan")
    assert len(finish(study)) == 1
    assert study.errors == ["the loss became nan"]
    assert study.counts == {"COMPLETE": 1, "FAIL": 1}
    assert "the loss became nan" in study.table()


def test_a_trial_that_does_worse_than_the_others_is_pruned(tmp_path: Path) -> None:
    search = of(pruner=Component("median", {"n_startup_trials": 2}))
    study = Study(tmp_path, search)
    for score in (0.6, 0.7):
        trial = study.begin(None)
        assert trial is not None
        trial.report(1, score)
        study.end(trial, score)
    trial = study.begin(None)
    assert trial is not None
    with pytest.raises(PrunedError, match=r"after step 1, at 0\.5") as why:
        trial.report(1, 0.5)
    study.end(trial, why.value)
    assert study.counts == {"COMPLETE": 2, "PRUNED": 1}
    best = study.best()
    assert best is not None
    assert best[1] == 0.7


def test_where_lower_is_better_the_lowest_is_the_best(tmp_path: Path) -> None:
    study = Study(tmp_path, of(), "lower")
    made = finish(study)
    best = study.best()
    assert best is not None
    assert best[1] == min(map(lr, made))


def test_a_folder_of_another_search_is_refused_and_can_be_cleared(tmp_path: Path) -> None:
    Study(tmp_path / "x", of()).claim({"ranges": {"train.batch": 1}, "seed": 0})
    Study(tmp_path / "x", of(trials=9)).claim({"ranges": {"train.batch": 1}, "seed": 0})
    with pytest.raises(SertkError, match=r"is a search with seed 0, and now it is 1\. Begin again with --force"):
        Study(tmp_path / "x", of()).claim({"ranges": {"train.batch": 1}, "seed": 1})
    clear(tmp_path / "x")
    Study(tmp_path / "x", of()).claim({"seed": 1})
    (tmp_path / "mine").mkdir()
    clear(tmp_path / "mine")
    assert (tmp_path / "mine").exists()


def test_more_trials_of_a_search_go_on_where_it_ended(tmp_path: Path) -> None:
    assert len(finish(Study(tmp_path, of(trials=2)))) == 2
    assert len(finish(Study(tmp_path, of(trials=5)))) == 3


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"sampler": Component("tpee")}, "no sampler 'tpee' of a search; did you mean 'tpe'"),
        ({"pruner": Component("medain")}, "no pruner 'medain' of a search; did you mean 'median'"),
        (
            {"sampler": Component("tpe", {"startup": 3})},
            "sampler 'tpe' of a search is Optuna's TPESampler, which refuses",
        ),
        ({"pruner": Component("percentile")}, "pruner 'percentile' of a search is Optuna's PercentilePruner"),
    ],
)
def test_what_optuna_does_not_take_is_refused(own: Mapping[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        check(of(**own))


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband", "none"])
def test_every_sampler_and_pruner_can_be_used(tmp_path: Path, sampler: str, pruner: str) -> None:
    study = Study(tmp_path, of(sampler=Component(sampler), pruner=Component(pruner), trials=12))
    while (trial := study.begin(None)) is not None:
        trial.report(1, 1.0)
        study.end(trial, lr(trial))
    assert study.counts == {"COMPLETE": 12}
