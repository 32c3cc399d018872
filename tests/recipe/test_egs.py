"""Every recipe on the corpus that it is for: loaded, prepared on a generated tree in the official layout, dry-run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import UsageError
from sertk.core.files import read_json
from sertk.corpus.protocols import load
from sertk.corpus.readers import named as corpora_of_files
from sertk.plugins import Plugins
from sertk.settings.packaged import egs
from sertk.settings.several import folds_of
from sertk.testing import CORPORA, official

RECIPES = sorted(path.parent.name for path in egs().glob("*/recipe.yaml"))
# the folds of every protocol on the generated tree: who is dev and every draw at random are in them
HASHES: Mapping[str, Mapping[str, str]] = {
    "emodb": {
        "emobox": "e92c3c3090da8a59",
        "loso": "8df66fd4a4f845e8",
        "loso4": "95a7bc88a1af1f2b",
        "random10": "3e9f53a1fc42eeae",
        "sentences": "650fe9fb012904de",
        "sentences4": "bf80cba53a75be63",
    },
    "fesc": {"loso": "e1432922c9915cf6"},
    "iemocap": {
        "improvised": "65d14af5e247d48e",
        "improvised-excited": "b5a35e0bfbc80e5c",
        "p4": "e8fa2b41108d5f23",
        "p5": "39f09b583aa28cb8",
        "sessions": "0721bebb7f4df0e8",
        "speakers": "edf9bf858f00c817",
    },
    "mini": {"speakers": "8fdb98365276dae0"},
    "msp_improv": {"sessions": "69da5af9ecce3c3a"},
    "ravdess": {
        "both": "a2f4f0b4bf5f856e",
        "emobox": "e393550edff3214e",
        "p3": "669f4db84a763a6c",
        "song": "dd827f379d927213",
        "speech": "0abc73dd62fa160f",
        "sentences": "47181963aa40104a",
    },
    "ravdess_savee_tess": {"random": "c0f208098283ebd7", "speakers": "491df7329c9c35fd"},
    "savee": {"emobox": "3b63c6242114cf50", "random5": "a249b094844612a7", "speakers": "2bd99ff0b8c17387"},
    "tess": {"emobox": "76a753cd1452be6c", "sentences": "2eeb26c8abbe319a", "speakers": "cbb771e4460f3901"},
}
ANYBODYS = {"folder", "kaldi", "prepared", "table", "union"}  # readers of any files: they have no recipe
SHORT = ["--set", "audio.min_seconds=0.001"]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_every_recipe_has_a_tree_and_every_tree_a_recipe() -> None:
    plugins = Plugins()
    ours = {name for name in plugins.names("corpus") if plugins.entry("corpus", name).distribution == "sertk"}
    named = (ours | {*corpora_of_files()}) - ANYBODYS
    wanted = "a corpus needs egs/NAME/recipe.yaml, sertk/testing/trees/NAME.py in its CORPORA, and its HASHES here"
    assert named - {*RECIPES} == set(), wanted
    assert {*RECIPES} - {"mini"} == {*CORPORA}, wanted  # mini makes its corpus itself
    assert {*RECIPES} == {*HASHES}, wanted
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
    if name == "fesc":  # the corpus decides on the folds
        assert "prepare it first" in early.stderr
        assert cli(*call, "--stage", "train", "--dry-run").exit_code == 0
    done = cli(*call, "--stop-stage", "prepare")
    assert done.exit_code == 0, done.stderr
    about = read_json(tmp_path / "work" / "data" / name / "corpus.json", "")
    assert about["failed"] == 0
    assert all(count["here"] == count["published"] or not count["published"] for count in about["counts"].values())
    (protocol,) = (tmp_path / "work" / "data" / name / "protocols").glob("*.json")
    folds = load(protocol)
    assert folds.hash == HASHES[name][protocol.stem]
    dry = cli(*call, "--dry-run")
    commands = [shlex.split(line) for line in dry.stdout.splitlines()]
    assert list(dict.fromkeys(words[1] for words in commands)) == ["featurize", "train", "score", "report"]
    for stage in ("train", "score"):
        named = [words[words.index("--fold") + 1] for words in commands if words[1] == stage]
        assert [fold for text in named for fold in folds_of(text, list(folds.folds))] == list(folds.folds)
    assert all(fold.train and fold.dev and fold.test for fold in folds.folds.values())


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("fesc", "mini")])
def test_every_protocol_of_a_complete_corpus_has_the_published_counts_and_the_folds_it_had(
    tmp_path: Path, name: str
) -> None:
    done = cli(
        "prepare", name, "--root", official(name, tmp_path / "c"), "--out", tmp_path / "d", "--min-seconds", "0.001"
    )
    assert done.exit_code == 0, done.stderr
    assert "left out" not in done.stderr
    contents = {path.stem: read_json(path, "") for path in (tmp_path / "d" / "protocols").glob("*.json")}
    assert {protocol: content["hash"] for protocol, content in contents.items()} == HASHES[name]
    for protocol, content in contents.items():
        here: dict[str, int] = {}
        for label in content["labels"].values():
            here[label] = here.get(label, 0) + 1
        assert here == content["expected"], protocol
        assert sum(here.values()) > 0
        assert not content["absent"]
