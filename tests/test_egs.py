"""Every recipe on the corpus that it is for: loaded, prepared on a generated tree in the official layout, dry-run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import UsageError
from sertk.core.paths import egs, read_json
from sertk.protocols import load
from sertk.testing import CORPORA, official

RECIPES = sorted(path.parent.name for path in egs().glob("*/recipe.yaml"))
SHORT = ["--set", "audio.min_seconds=0.001"]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_every_recipe_has_a_tree_and_every_tree_a_recipe() -> None:
    assert {*RECIPES} - {"mini"} == {*CORPORA}  # mini makes its corpus itself
    with pytest.raises(UsageError, match="did you mean 'savee'"):
        official("save", Path())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_prepares_its_official_layout_without_a_failure_and_says_its_commands(
    tmp_path: Path, name: str
) -> None:
    root = [] if name == "mini" else ["--root", official(name, tmp_path / "the corpus")]
    call = ["recipe", egs() / name, "--work", tmp_path / "work", *root, *SHORT]
    early = cli(*call, "--dry-run")
    assert early.exit_code == 0, early.stderr
    assert shlex.split(early.stdout.splitlines()[0])[1] == "prepare"
    done = cli(*call, "--stop-stage", "prepare")
    assert done.exit_code == 0, done.stderr
    about = read_json(tmp_path / "work" / "data" / name / "corpus.json", "")
    assert about["failed"] == 0
    assert all(count["here"] == count["published"] or not count["published"] for count in about["counts"].values())
    (protocol,) = (tmp_path / "work" / "data" / name / "protocols").glob("*.json")
    folds = load(protocol)
    dry = cli(*call, "--dry-run")
    commands = [shlex.split(line) for line in dry.stdout.splitlines()]
    assert [words[1] for words in commands if words[1] != "train"] == [
        "featurize",
        *["score"] * len(folds.folds),
        "report",
    ]
    trained = [words[words.index("--fold") + 1] for words in commands if words[1] == "train"]
    assert trained == list(folds.folds)
    assert all(fold.train and fold.dev and fold.test for fold in folds.folds.values())


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("fesc", "mini", "ravdess")])
def test_every_protocol_of_a_complete_corpus_keeps_what_is_published(tmp_path: Path, name: str) -> None:
    done = cli(
        "prepare", name, "--root", official(name, tmp_path / "c"), "--out", tmp_path / "d", "--min-seconds", "0.001"
    )
    assert done.exit_code == 0, done.stderr
    assert "left out" not in done.stderr
    for path in (tmp_path / "d" / "protocols").glob("*.json"):
        content = read_json(path, "")
        here: dict[str, int] = {}
        for label in content["labels"].values():
            here[label] = here.get(label, 0) + 1
        assert here == content["expected"], path.stem
        assert sum(here.values()) > 0
        assert not content["absent"]
