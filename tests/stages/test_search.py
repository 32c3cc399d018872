"""The search of a row: its trials are runs as `train` makes them, and what it writes is a system as any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sertk.core import SertkError, UsageError
from sertk.core.files import read_json
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.settings.overrides import Choices
from sertk.settings.plain import identity
from sertk.settings.schema import Component
from sertk.settings.sweep import Range, Search
from sertk.training.record import _identity

PLUGIN = '''
"""A loss that is no number."""

from collections.abc import Mapping

import torch

from sertk.builtin.losses.ce import CrossEntropy
from sertk.core import Loss
from sertk.hookspecs import hookimpl


class Nan(CrossEntropy):
    """No number."""

    def forward(self, views, target, groups):
        """NaN."""
        return super().forward(views, target, groups) * torch.nan


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """By name."""
    return {"nan": Nan}
'''
RATE = {"train.optimizer.lr": Range(low=1e-5, high=1e-2, log=True)}


if TYPE_CHECKING:
    from sertk.stages.search import Asked


def search(one: Asked, out: Path, *, force: bool = False) -> Path:
    from sertk.stages.search import search as stage  # late: see test_recipe

    return stage(one, out, force=force)


def train(*given: object, **more: object) -> None:
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(*given, **more)  # type: ignore[arg-type]


def asked(data: Path, own: Mapping[str, Any] | None = None, **other: object) -> Asked:
    """A search of mini-cnn on fold 1, of a few short trials."""
    searched = Search(**{"ranges": RATE, "trials": 3, **(own or {})})
    choices = Choices(system="mini-cnn", set=["train.epochs=2", "train.threads=1"])
    given = {
        "choices": choices,
        "config": None,
        "protocol": "emobox",
        "name": "found",
        "folds": "1",
        "seed": 0,
        **other,
    }
    from sertk.stages.search import Asked

    return Asked(data=Data(data), search=searched, **given)


def test_the_system_file_trains_to_the_dev_score_of_its_trial(data: Path, tmp_path: Path) -> None:
    one = asked(data)
    one = replace(one, choices=replace(one.choices, set=[*one.choices.set, "train.optimizer.lr=1e-5"]))  # far too low
    path = search(one, tmp_path / "search")
    found = merge.load(str(path), None, {"protocol": "emobox", "train.threads": 1})
    assert found.searched is not None
    said = found.searched
    assert (said.corpus, said.protocol, said.folds, said.trials, said.metric) == ("ravdess", "emobox", ("1",), 3, "ua")
    assert said.nested
    assert said.ranges == {"train.optimizer.lr": "1e-05 to 0.01, log"}
    fold = one.folds_table.fold("1")
    assert set(said.speakers) == {one.data.utterances[i].speaker for i in (*fold.train, *fold.dev)}
    train(found, one.data, tmp_path / "run", folds="1", seeds="0")
    training = read_json(tmp_path / "run/model/bundle.json", "", newer=True)["training"]
    assert training["dev"] == {"ua": said.dev}  # to the digit
    assert training["searched"]["folds"] == ["1"]
    rate = found.train.optimizer.lr
    trials = [
        merge.load(config=one, trust=True) for one in (tmp_path / "search").glob("trial=*/fold=1/seed=0/config.yaml")
    ]
    assert len(trials) == 3
    assert sum(one.train.optimizer.lr == rate and identity(one) == identity(found) for one in trials) == 1
    assert trials[0].train.optimizer.lr != trials[1].train.optimizer.lr
    assert said.stands is not None
    assert said.dev > said.stands
    assert rate is not None
    assert rate > 1e-5
    assert not list((tmp_path / "search").glob("trial=*/fold=1/seed=0/model"))
    assert not list((tmp_path / "search").glob("trial=*/fold=1/seed=0/checkpoints"))
    assert (tmp_path / "search/trials.csv").read_text().count(",complete,") == 3


def test_a_search_of_several_folds_compares_their_mean(data: Path, tmp_path: Path) -> None:
    one = asked(data, {"trials": 1, "folds": ("1", "4")}, folds="1,4")
    path = search(one, tmp_path / "search")
    found = merge.load(str(path), None, {"protocol": "emobox", "train.threads": 1})
    assert found.searched is not None
    assert not found.searched.nested
    train(found, one.data, tmp_path / "run", folds="1,4", seeds="0")
    scores = [
        read_json(one, "", newer=True)["training"]["dev"]["ua"]
        for one in (tmp_path / "run").glob("*/*/model/bundle.json")
    ]
    assert len(scores) == 2
    assert found.searched.dev == pytest.approx(sum(scores) / 2, abs=1e-12)


def test_a_failing_trial_ends_only_itself_and_says_why(data: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "nan.py"
    plugin.write_text(PLUGIN)
    choices = Choices(system="mini-cnn", set=["train.epochs=1", "train.threads=1"], plugin=[plugin])
    own = {"ranges": {"losses": Range(choices=(["ce"], ["nan"]))}, "trials": 6, "sampler": Component("random")}
    path = search(asked(data, own, choices=choices), tmp_path / "search")
    found = merge.load(str(path), None, {"protocol": "emobox"}, plugins=[plugin])
    assert [one.name for one in found.losses] == ["ce"]
    assert found.searched is not None
    assert 1 <= found.searched.failed <= 5
    failed = list((tmp_path / "search").glob("trial=*/fold=1/seed=0/failed.json"))
    assert len(failed) == found.searched.failed
    assert "the loss became nan" in read_json(failed[0], "")["error"]
    assert "the loss became nan" in (tmp_path / "search/trials.csv").read_text()


def test_a_search_of_which_every_trial_fails_says_why(data: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "nan.py"
    plugin.write_text(PLUGIN)
    choices = Choices(system="mini-cnn", set=["train.epochs=1", "losses=nan"], plugin=[plugin])
    with pytest.raises(SertkError, match=r"none of the 2 trials in .* was completed: the loss became nan"):
        search(asked(data, {"trials": 2}, choices=choices), tmp_path / "search")


def test_the_folder_of_a_pruned_run_says_so(data: Path, tmp_path: Path) -> None:
    pruner = Component("percentile", {"percentile": 1.0, "n_startup_trials": 1})
    own = {"pruner": pruner, "trials": 5, "ranges": {"train.optimizer.lr": Range(low=1e-9, high=1e-2, log=True)}}
    path = search(asked(data, own), tmp_path / "search")
    found = merge.load(str(path), None, {"protocol": "emobox"}).searched
    assert found is not None
    assert found.pruned >= 1
    pruned = list((tmp_path / "search").glob("trial=*/fold=1/seed=0/pruned.json"))
    assert len(pruned) == found.pruned
    assert "other trials were better" in read_json(pruned[0], "")["why"]
    assert (pruned[0].parent / "log.jsonl").exists()
    assert not (pruned[0].parent / "failed.json").exists()


def test_a_search_that_was_killed_goes_on_and_loses_no_trial(data: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        "cells: {UA: {metric: ua}}\nrows:\n  a: {search: {trials: 4, pruner: none, ranges: "
        "{train.optimizer.lr: {low: 1.0e-5, high: 1.0e-2, log: true}}}}\n"
    )
    words = ["search", str(data), "--system", "mini-cnn", "--protocol", "emobox", "--fold", "1", "--sweep", str(sweep)]
    words += ["--row", "a", "--set", "train.epochs=8", "--set", "train.threads=1", "--out", str(tmp_path / "killed")]
    first = subprocess.Popen([sys.executable, "-m", "sertk", *words], stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "killed/trial=1/fold=1/seed=0/log.jsonl", time.monotonic() + 240
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "killed/s-a.yaml").exists()
    one = asked(data, {"trials": 4, "pruner": Component("none")}, name="s-a")
    one = replace(one, choices=replace(one.choices, set=["train.epochs=8", "train.threads=1"]))
    again = search(one, tmp_path / "killed").read_text()
    assert (tmp_path / "killed/trials.csv").read_text().count(",complete,") == 4
    assert sorted(path.name for path in (tmp_path / "killed").glob("trial=*")) == [
        f"trial={number}"
        for number in (0, 1, 3, 4)  # 2 was 1, taken up again
    ]
    assert again == search(one, tmp_path / "whole").read_text()  # as if nobody had been killed


def test_a_recipe_that_would_override_what_is_found_is_refused_before_the_search(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\ntrain: {optimizer: {lr: 0.3}}\n")
    one = asked(data, config=recipe)
    with pytest.raises(UsageError, match=r"recipe\.yaml:4: train\.optimizer\.lr is set there for all systems"):
        search(one, tmp_path / "search")
    recipe.write_text("corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nsystems: {found: {train: {batch: 5}}}\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:4: train\.batch is set there for all systems"):
        search(one, tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_another_search_in_the_folder_is_refused_unless_forced(data: Path, tmp_path: Path) -> None:
    search(asked(data, {"trials": 1}), tmp_path / "search")
    with pytest.raises(SertkError, match="is a search with seed of the runs 0, and now it is 1"):
        search(asked(data, {"trials": 1}, seed=1), tmp_path / "search")
    search(asked(data, {"trials": 1}, seed=1), tmp_path / "search", force=True)


def test_settings_before_the_search_that_lie_outside_of_the_ranges_are_not_tried(data: Path) -> None:
    ranges = {"train.optimizer.lr": Range(low=1e-9, high=1e-8), "losses": Range(choices=(["ce"], ["kl"]))}
    assert asked(data, {"ranges": ranges}).stands is None
    inside = asked(data, {"ranges": {**RATE, "losses": Range(choices=("kl", "ce"))}}).stands
    assert inside == {"train.optimizer.lr": 5e-3, "losses": "ce"}


SYSTEM = """
inputs: {{mel: {{name: mel, n_mels: 40}}}}
backbone: {{name: cnn_transformer, channels: [16, 32], pools: [[2, 2], [2, 2]], token_pool: [5, 1], layers: 1, ffn: 64}}
train: {{epochs: 1, threads: 1, batch: {batch}, optimizer: {{name: adam, lr: {rate}}}}}
searched: {{nested: {nested}, ranges: {{train.optimizer.lr: 0 to 1}}, study: {study}}}
"""


def test_the_runs_of_one_search_of_each_fold_are_one_system_whatever_it_found(data: Path, tmp_path: Path) -> None:
    def system(name: str, **own: object) -> str:
        """What makes the system of a run, as its bundle says it."""
        given = {"batch": 8, "rate": 0.001, "nested": "true", "study": "a", **own}
        (tmp_path / f"{name}.yaml").write_text(SYSTEM.format(**given))
        settings = merge.load(str(tmp_path / f"{name}.yaml"), None, {"protocol": "emobox"})
        return _identity(settings)

    first = system("one")
    assert system("two", rate=0.002) == first
    assert system("three", rate=0.002, study="b") != first
    assert system("four", batch=4) != first
    assert system("five", nested="false") != system("six", nested="false", rate=0.002)
