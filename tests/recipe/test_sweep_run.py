"""Sweeps as users run them: to the table, with a run that fails, killed and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core.files import read_json

RECIPE = "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1', '4']\njobs: 2\n"
SWEEP = """
title: Two batches
settings: {train: {epochs: 2, threads: 1}}
seeds: [0]
grid: {train.batch: [4, 8]}
paper: {source: Table 9}
cells:
  UA: {metric: ua}
  dev: {metric: ua, part: dev, curve: train.batch}
rows:
  others: {quoted: {UA: 61.5}, source: somebody}
  plain: {system: mini-cnn, paper: {UA: 70.1}}
"""
FAULT = '''
"""A loss that fails in the first run of a process."""

from collections.abc import Mapping

import torch

from sertk.core import Loss
from sertk.hookspecs import hookimpl
from sertk.builtin.losses.ce import CrossEntropy


class Picky(CrossEntropy):
    """Cross-entropy that is no number where it is the first to be asked."""

    first = None

    def forward(self, views, target, groups):
        """NaN, or cross-entropy."""
        Picky.first = Picky.first or self
        return super().forward(views, target, groups) * (torch.nan if self is Picky.first else 1)


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """By name."""
    return {"picky": Picky}
'''


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("egs") / "tones"
    (folder / "sweeps").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    path = folder / "sweeps/two.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def work(file: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole sweep ran, killed with -9 on the way."""
    folder = tmp_path_factory.mktemp("work")
    words = [sys.executable, "-m", "sertk", "sweep", str(file), "--root", str(corpus), "--work", str(folder)]
    first = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("exp/*/*/fold=*/seed=*/model/bundle.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("exp/*/*/fold=*/seed=*/model/bundle.json")}
    assert 1 <= len(done) < 4, "the kill came too late to show anything"
    partly = cli("sweep", file, "--root", corpus, "--work", folder, "--status")
    assert partly.exit_code == 0, partly.output
    assert "4 runs: " in partly.stdout
    time.sleep(2)  # the commands that it had started end with it
    again = cli("sweep", file, "--root", corpus, "--work", folder)
    assert again.exit_code == 0, again.output
    assert all(path.stat().st_mtime_ns == seen for path, seen in done.items())  # what was done was not done again
    return folder


def test_a_sweep_that_was_killed_goes_on_to_its_table(work: Path, file: Path, corpus: Path) -> None:
    text = (work / "exp/sweeps/two/table.md").read_text()
    assert "| others" in text
    assert text.count("| plain, train.batch") == 2
    assert "70.1" in text
    for name in ("table.csv", "table.tex", "figures/dev.png", "figures/dev.csv"):
        assert (work / "exp/sweeps/two" / name).stat().st_size > 0
    status = cli("sweep", file, "--root", corpus, "--work", work, "--status")
    assert status.stdout.splitlines() == ["plain: 4 done", "4 runs: 4 done; time left: none"]


def test_what_is_done_is_not_done_again(work: Path, file: Path, corpus: Path) -> None:
    dry = cli("sweep", file, "--root", corpus, "--work", work, "--dry-run")
    (only,) = dry.stdout.splitlines()
    assert only.endswith("--table")
    for stage in ("train: 4 of 4", "score: 8 of 8"):
        assert f"{stage} up to date, skipped" in dry.stderr


def test_a_recipes_runs_count(work: Path, file: Path, corpus: Path) -> None:
    more = ["--set", "train.epochs=2", "--set", "train.threads=1", "--set", "train.batch=4", "--root", corpus]
    dry = cli("recipe", file.parents[1], *more, "--work", work, "--dry-run", "--stop-stage", 3)
    assert dry.stdout == ""
    assert "train: 2 of 2 up to date, skipped" in dry.stderr


def test_each_printed_command_runs_when_pasted(file: Path, corpus: Path, tmp_path: Path) -> None:
    chosen = ["--root", corpus, "--work", tmp_path, "--seed", "0-1", "--fold", "1", "--set", "train.epochs=1"]
    dry = cli("sweep", file, *chosen, "--dry-run")
    # a shell reads the lines, and each word is printed as it arrives
    script = 'sertk() { printf "%s\\0" "$@"; echo; }\n' + dry.stdout
    read = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True).stdout
    assert len(read.splitlines()) == len(dry.stdout.splitlines())
    for line in read.splitlines():
        done = cli(*line.split("\0")[:-1])
        assert done.exit_code == 0, done.output
    text = (tmp_path / "exp/sweeps/two/table.md").read_text()
    assert "folds 1 of the 6 of emobox" in text
    for batch in (4, 8):
        assert f"| plain, train.batch {batch} | 2 |" in text  # fold 1 with two seeds, both trained and scored


def test_a_run_that_fails_ends_only_itself(file: Path, corpus: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "picky.py"
    plugin.write_text(FAULT)
    words = ["--plugin", plugin, "--loss", "picky", "--set", "train.epochs=1", "--seed", 0]
    done = cli("sweep", file, "--root", corpus, "--work", tmp_path / "work", *words)
    assert done.exit_code == 3, done.output
    folders = sorted((tmp_path / "work").glob("exp/emobox/*/fold=*/seed=0"))
    failed = [one for one in folders if (one / "failed.json").exists()]
    assert len(folders) == 4
    assert [one.parent.name for one in failed] == ["fold=1", "fold=1"]
    assert "the loss became nan" in read_json(failed[0] / "failed.json", "")["error"]
    assert all((one / "scores.jsonl").exists() for one in folders if one not in failed)
    text = (tmp_path / "work/exp/sweeps/two/table.md").read_text()
    assert "the loss became nan" in text
    assert "1 of 2" in text
    status = cli("sweep", file, "--root", corpus, "--work", tmp_path / "work", *words, "--status")
    assert status.stdout.startswith("plain: 2 done, 2 failed")
