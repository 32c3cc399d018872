"""A recipe whose corpus is a file beside it."""

from __future__ import annotations

import shlex
from pathlib import Path

from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.corpus.prepared import Data
from sertk.testing.trees.anybody import folders

UNION = """
corpus:
  name: union
  parts: {ours: {name: folder, speaker: "([a-z]+)_"}, theirs: {name: folder, speaker: "([a-z]+)_"}}
protocols:
  halves:
    labels: null
    test: {rule: disjoint, k: 2}
    dev: 2
    overlaps: {text: [train+dev, train+test, dev+test], audio: [train+dev, train+test, dev+test]}
"""


def cli(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.stderr
    return done


def test_a_recipe_prepares_a_union_that_a_file_states_and_again_when_the_file_changes(tmp_path: Path) -> None:
    for part in ("ours", "theirs"):
        folders(tmp_path / "in" / part, seconds=0.12)  # 6 speakers each, under the same names
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "recipe.yaml").write_text("corpus: both.yaml\nprotocol: halves\nsystem: mini-cnn\nfolds: all\n")
    (recipe / "both.yaml").write_text(UNION)
    call = ["recipe", recipe, "--root", tmp_path / "in", "--work", tmp_path / "work", "--stop-stage", "prepare"]
    words = shlex.split(cli(*call, "--dry-run").stdout.splitlines()[0])
    assert words[1:3] == ["prepare", str(recipe / "both.yaml")]
    assert "is up to date" not in cli(*call).stderr
    data = Data(tmp_path / "work" / "data" / "both")
    assert data.corpus == "both"
    assert len({one.speaker for one in data.utterances.values()}) == 12
    before = data.protocol("halves").hash
    assert cli(*call, "--dry-run").stdout == ""  # nothing to do
    (recipe / "both.yaml").write_text(UNION.replace("k: 2", "k: 3"))
    cli(*call)
    assert Data(tmp_path / "work" / "data" / "both").protocol("halves").hash != before
