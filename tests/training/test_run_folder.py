"""The folder of a run: whose it is, what it began with, and what is deleted."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from sertk.core import SertkError, UsageError
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.settings.schema import Settings
from sertk.training.run_folder import begun, bundles_beside, claim, claim_data, clear, lock


def settings(**more: object) -> Settings:
    return merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", **more})


def begin(out: Path) -> None:
    """A checkpoint inside the first epoch."""
    path = out / "checkpoints/select/00000001.pt"
    path.parent.mkdir(parents=True)
    path.touch()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that `settings()` claimed and began to train in."""
    claim(settings(), tmp_path / "run", force=False)
    begin(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("path", ["checkpoints/refit/00000007.pt", "model/bundle.json"])
def test_a_run_has_begun_where_there_is_a_checkpoint_or_a_bundle(tmp_path: Path, path: str) -> None:
    assert not begun(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True)
    assert not begun(tmp_path)
    (tmp_path / path).touch()
    assert begun(tmp_path)


def test_a_folder_is_claimed_by_the_settings_that_it_holds(out: Path) -> None:
    assert merge.load(config=out / "config.yaml", trust=True) == settings()
    claim(settings(), out, force=False)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"train.epochs": 3}, r"train\.epochs: 12 there, 3 now"),
        ({"seed": 4}, "seed: 0 there, 4 now"),
        ({"fold": "2"}, "fold: '1' there, '2' now"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_the_difference_named(
    out: Path, other: dict[str, object], says: str
) -> None:
    with pytest.raises(SertkError, match=rf"is a run with other settings \({says}\)"):
        claim(settings(**other), out, force=False)


def test_a_systems_file_is_the_same_by_any_path(tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(replace(settings(), system=str(tmp_path / "mine.yaml")), out, force=False)
    begin(out)
    claim(replace(settings(), system="mine.yaml"), out, force=False)
    with pytest.raises(SertkError, match="system: 'mine' there, 'mini-cnn' now"):
        claim(settings(), out, force=False)


def test_how_a_run_is_made_is_not_what_it_is(out: Path) -> None:
    claim(settings(**{"train.workers": 3, "train.device": "cpu", "score.batch": 5}), out, force=False)


def test_a_start_that_failed_on_its_settings_claims_no_folder(tmp_path: Path) -> None:
    claim(settings(), tmp_path / "run", force=False)
    claim(settings(seed=4), tmp_path / "run", force=False)
    assert merge.load(config=tmp_path / "run/config.yaml", trust=True).seed == 4


def test_force_deletes_the_whole_of_an_earlier_run(out: Path) -> None:
    (out / "log.jsonl").touch()
    claim(settings(seed=4), out, force=True)
    assert [path.name for path in out.iterdir()] == ["config.yaml"]
    assert merge.load(config=out / "config.yaml", trust=True).seed == 4
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_only_a_run_folder_is_deleted(out: Path, tmp_path: Path) -> None:
    clear(tmp_path / "nothing")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").touch()
    with pytest.raises(UsageError, match="so --force deletes nothing"):
        clear(tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter.tex").exists()
    clear(out)
    assert not out.exists()


def test_one_process_holds_a_folder_until_it_lets_go(tmp_path: Path) -> None:
    held = lock(tmp_path / "exp/run")
    assert not (tmp_path / "exp/run").exists()  # the lock lies beside it, for --force may delete the folder
    with pytest.raises(SertkError, match="is being trained by another process"):
        lock(tmp_path / "exp/run")
    lock(tmp_path / "exp/other").close()
    held.close()
    lock(tmp_path / "exp/run").close()


def test_what_a_run_began_with_must_stay(out: Path) -> None:
    claim_data(out, {"audio": "a1", "init": None})
    assert json.loads((out / "run.json").read_text()).items() >= {("audio", "a1"), ("init", None)}
    claim_data(out, {"audio": "a1", "init": None})
    with pytest.raises(SertkError, match="began with audio 'a1', and now it is 'b2'"):
        claim_data(out, {"audio": "b2", "init": None})
    with pytest.raises(SertkError, match="began with init None, and now it is 'c3'"):
        claim_data(out, {"audio": "a1", "init": "c3"})


def test_what_an_older_run_did_not_write_down_was_nothing(out: Path) -> None:
    claim_data(out, {"audio": "a1"})
    claim_data(out, {"audio": "a1", "plugins": []})
    with pytest.raises(SertkError, match="began with plugins None"):
        claim_data(out, {"audio": "a1", "plugins": [["net.py", "d4"]]})
    claim_data(out, {"audio": "a1", "speakers": "e5"})  # which it did not write down at all


@pytest.mark.parametrize(
    ("more", "old", "new", "says"),
    [
        ({"losses": ["ce", "aux:task=gender"]}, '"gender": "male"', '"gender": "female"', "aux"),
        ({"normalize": "speaker"}, '"speaker": "01"', '"speaker": "02"', "speakers"),
        ({}, '"speaker": "01"', '"speaker": "02"', None),
    ],
)
def test_a_run_is_not_gone_on_with_where_labels_that_it_learns_from_changed(
    data: Path, tmp_path: Path, more: dict[str, object], old: str, new: str, says: str | None
) -> None:
    from sertk.stages.train import train  # late: see test_recipe

    quick = settings(**{"train.epochs": 1, "train.threads": 1, "backbone": {"name": "frames"}, **more})
    train(quick, Data(data), tmp_path / "run")
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    text = (changed / "manifest.jsonl").read_text()
    assert old in text
    (changed / "manifest.jsonl").write_text(text.replace(old, new))
    with pytest.raises(SertkError, match=f"began with {says} ") if says else nullcontext():
        train(quick, Data(changed), tmp_path / "run")


def test_before_anything_was_trained_a_run_may_begin_with_something_else(tmp_path: Path) -> None:
    claim_data(tmp_path, {"audio": "a1"})
    claim_data(tmp_path, {"audio": "b2"})
    begin(tmp_path)
    claim_data(tmp_path, {"audio": "b2"})
    with pytest.raises(SertkError, match="began with audio 'b2'"):
        claim_data(tmp_path, {"audio": "a1"})


def test_a_run_is_not_gone_on_with_where_its_audio_changed(data: Path, tmp_path: Path) -> None:
    from sertk.stages.train import train  # late: see test_recipe

    one_epoch = settings(**{"train.epochs": 1, "train.threads": 1, "backbone": {"name": "frames"}})
    train(one_epoch, Data(data), tmp_path / "run")
    train(one_epoch, Data(data), tmp_path / "run")  # the same run, which is trained already
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    sha = Data(data).facts[Data(data).protocol("emobox").folds["1"].test[0]].sha256
    text = (changed / "audio.jsonl").read_text()
    (changed / "audio.jsonl").write_text(text.replace(sha, sha[::-1]))
    with pytest.raises(SertkError, match="began with audio"):
        train(one_epoch, Data(changed), tmp_path / "run")


def test_the_bundles_of_a_recipe_are_those_of_one_protocol(tmp_path: Path) -> None:
    runs = ["p/s/fold=1/seed=0", "p/s/fold=2/seed=0", "p/s+tag/fold=1/seed=1", "q/s/fold=1/seed=0", "p/s/mine/seed=0"]
    for run in runs:
        (tmp_path / run / "model").mkdir(parents=True)
    found = bundles_beside(tmp_path / "p/s/fold=3/seed=0")
    assert [str(path.relative_to(tmp_path)) for path in found] == [f"{runs[place]}/model" for place in (0, 1, 2)]
    assert bundles_beside(tmp_path / "run") == bundles_beside(tmp_path / "p/s/mine/seed=0") == []
