"""Plugins in a file beside a recipe or on the command line: trusted first, recorded, found again or asked for."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import sertk
from sertk.cli.app import app
from sertk.core import SertkError, UsageError
from sertk.modeling import bundle
from sertk.plugins import Plugins, file_hash

NET = '''
"""A pooling and a decision of one's own."""
from sertk.core import Pooled, Pooling
from sertk.hookspecs import hookimpl


class Last(Pooling):
    """The last real frame.

    Args:
        frames: Given by the run.
        project: Not used.
        scale: Of the frame.
    """

    def __init__(self, frames, project=None, scale: float = 1.0):
        super().__init__()
        self.out, self.scale = frames.width, scale

    def forward(self, frames, mask):
        return Pooled(self.scale * frames[range(len(frames)), mask.sum(1) - 1], frames)


def sharpened(view, rows, rng, power: float = 2.0):
    """The mean of the windows' posteriors, to a power."""
    total = view.posterior.new_zeros(rows, view.posterior.shape[1]).index_add(0, view.owner, view.posterior)
    sharp = total**power
    return sharp / sharp.sum(1, keepdim=True)


@hookimpl
def sertk_poolings():
    return {"last": Last}


@hookimpl
def sertk_decisions():
    return {"sharpened": sharpened}
'''


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that names a plugin file beside it."""
    folder = tmp_path_factory.mktemp("recipe") / "mine"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: '1'\nplugins: [net.py]\n"
        "pooling: {name: last, scale: 0.5}\ndecision: 'sharpened:power=3'\n"
        "train: {epochs: 1, batch: 8, threads: 1}\n"
    )
    return folder


@pytest.fixture(scope="module")
def run(recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it, trained and scored."""
    work = tmp_path_factory.mktemp("work")
    done = cli("recipe", recipe, "--root", corpus, "--work", work, "--trust")
    assert done.exit_code == 0, done.output
    return work / "exp/emobox/mini-cnn/fold=1/seed=0"


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_recipes_plugin_file_is_not_run_untrusted_in_a_dry_run_neither(
    recipe: Path, corpus: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    mark = tmp_path / "ran"
    mine = Path(shutil.copytree(recipe, tmp_path / "mine"))
    (mine / "net.py").write_text(f"open({str(mark)!r}, 'w')\n" + NET)
    words = ("recipe", mine, "--root", corpus, "--work", tmp_path / "work")
    done = cli(*words, *more)
    assert done.exit_code == 2
    assert "names the plugin file" in done.stderr
    assert "--trust" in done.stderr
    assert not mark.exists()
    assert not (tmp_path / "work").exists()
    assert cli(*words, "--trust", "--dry-run").exit_code == 0
    assert mark.exists()


def test_the_printed_commands_carry_the_users_consent(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    done = cli("recipe", recipe, "--root", corpus, "--work", tmp_path, "--dry-run", "--trust")
    commands = [shlex.split(line)[1:] for line in done.stdout.splitlines()]
    assert [words[0] for words in commands] == ["prepare", "featurize", "train", "score", "report"]
    assert all(words[words.index("--plugin") + 1] == str(recipe / "net.py") for words in commands[:4])
    assert "--trust" in commands[4][-1]  # what RESULTS.md says runs too
    for words in commands[:2]:
        assert cli(*words).exit_code == 0
    without = [word for word in commands[2] if word not in ("--plugin", str(recipe / "net.py"))]
    assert cli(*without).exit_code == 2  # a stage command does not run the recipe's file by itself


def test_run_and_bundle_record_the_files_hash(run: Path, recipe: Path) -> None:
    assert json.loads((run / "run.json").read_text())["plugins"] == [["net.py", file_hash(recipe / "net.py")]]
    about = json.loads((run / "model/bundle.json").read_text())
    assert about["plugins"]["pooling last"] == f"net.py sha256 {file_hash(recipe / 'net.py')}"
    assert about["components"]["pooling"] == {"name": "last", "scale": 0.5}
    assert about["components"]["decision"] == {"name": "sharpened", "power": 3, "at": "whole"}


def test_a_bundle_says_which_file_it_needs(run: Path, recipe: Path, corpus: Path, tmp_path: Path) -> None:
    words = ("score", run / "model", corpus / "Actor_01", "--out", tmp_path / "scores.jsonl")
    done = cli(*words)
    assert done.exit_code == 1
    assert (
        "needs the pooling 'last', which no installed plugin offers. Give the file that offers it, net.py "
        in done.stderr
    )
    assert "--plugin net.py" in done.stderr
    assert cli(*words, "--plugin", recipe / "net.py").exit_code == 0
    wave = next((corpus / "Actor_01").glob("*.wav"))
    found = sertk.load(run / "model", plugins=[recipe / "net.py"])(wave)
    line = next(
        x for x in map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines()) if x["id"] == str(wave)
    )
    assert list(found.values()) == pytest.approx(line["posterior"], abs=1e-5)


def test_a_setting_of_a_guests_decision_reaches_it(run: Path, recipe: Path, corpus: Path) -> None:
    wave = str(next((corpus / "Actor_01").glob("*.wav")))
    sharp = sertk.load(run / "model", plugins=[recipe / "net.py"])
    flat = bundle.read(run / "model", Plugins(files=[recipe / "net.py"]))
    assert flat.decider.decision.keywords == {"power": 3}  # type: ignore[attr-defined]
    assert max(sharp(wave).values()) <= 1


def test_another_file_of_that_name_is_told_when_scoring_and_refused_when_going_on(
    run: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(recipe, tmp_path / "mine"))
    (mine / "net.py").write_text(NET + "\n# changed\n")
    done = cli("score", run / "model", corpus / "Actor_01", "--plugin", mine / "net.py", "--out", tmp_path / "s.jsonl")
    assert done.exit_code == 0
    assert f"the bundle was trained with net.py sha256 {file_hash(recipe / 'net.py')}" in done.stderr
    data = run.parents[4] / "data/ravdess"
    words = ("train", data, "--config", run / "config.yaml", "--plugin", mine / "net.py", "--out", run)
    done = cli(*words)
    assert done.exit_code == 2  # the config names the old file, which the command line does not
    done = cli(*words, "--trust")
    assert done.exit_code == 1
    assert "offered by both" in done.stderr
    (recipe / "net.py").write_text(NET + "\n# changed\n")
    try:
        done = cli("train", data, "--config", run / "config.yaml", "--out", run, "--trust")
    finally:
        (recipe / "net.py").write_text(NET)
    assert done.exit_code == 1
    assert "began with plugins [[" in done.stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import a_module_that_nobody_has\n", "does not load: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "does not load: SystemExit"),
        ("x = 1\n", r"offers nothing\. Mark its hooks with @hookimpl"),
        (
            NET.replace("sertk_poolings", "sertk_poolinks"),
            "did you mean 'sertk_poolings'",
        ),
        (NET.replace('"last"', '"mean"'), "pooling 'mean' is offered by both"),
        (NET.replace('"last": Last', '"last": "Last"'), "'last' is 'Last'. Give a class or a function"),
        (NET.replace('"last"', '"la:st"'), "has the name 'la:st', which users cannot type"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(source)
    with pytest.raises(SertkError, match=says) as caught:
        Plugins(files=[tmp_path / "net.py"])
    assert "net.py" in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no plugin file .*net\.py"):
        Plugins(files=[tmp_path / "net.py"])
    (tmp_path / "net.txt").write_text(NET)
    with pytest.raises(UsageError, match=r"must end in \.py"):
        Plugins(files=[tmp_path / "net.txt"])


def test_what_a_file_offers_is_listed(recipe: Path) -> None:
    done = cli("plugins", "pooling", "last", "--plugin", recipe / "net.py")
    assert "scale" in done.stdout
    assert "sha256" in done.stdout
