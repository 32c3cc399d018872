"""Scored runs on disk: what is found, what is missing, and what may not stand side by side."""

import json
from pathlib import Path

import pytest

from sertk.core import SertkError
from sertk.results.runs import check_one_hash, find, lacking, protocol_of, stated

ABOUT = {"corpus": "c", "name": "p", "hash": "h", "part": "test", "stamp": "speaker-independent"}


def scored(folder: Path, **about: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, "protocol": ABOUT | about}))
    return folder


def test_runs_are_found_once_below_and_in_folders_and_sorted_by_fold_and_seed(tmp_path: Path) -> None:
    system = tmp_path / "p/s"
    for fold, seed in (("b", 0), ("a%2Fb", 1), ("a%2Fb", 0)):
        scored(system / f"fold={fold}/seed={seed}")
    (tmp_path / "p/s/fold=c/seed=0").mkdir(parents=True)  # trained, and not scored
    found = find([system / "fold=b/seed=0", tmp_path])
    assert list(found) == [system]
    assert [(run.fold, run.seed) for run in found[system]] == [("a/b", "0"), ("a/b", "1"), ("b", "0")]
    assert found[system][2].folder == system / "fold=b/seed=0"


def test_folders_without_a_scored_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"no metrics\.json of a scored run .* Run `sertk score` first"):
        find([tmp_path])


def test_every_fold_is_wanted_with_every_seed(tmp_path: Path) -> None:
    for system, fold, seed in (("s", "1", 0), ("s", "2", 1), ("t", "1", 0), ("t", "3", 0)):
        scored(tmp_path / system / f"fold={fold}/seed={seed}")
    found = find([tmp_path])
    own, every = found[tmp_path / "s"], [run for runs in found.values() for run in runs]
    assert lacking(own, own) == [("1", "1"), ("2", "0")]
    assert lacking(own, every) == [("1", "1"), ("2", "0"), ("3", "0"), ("3", "1")]


@pytest.mark.parametrize("what", ["hash", "part", "stamp"])
def test_runs_of_one_system_have_one_protocol(tmp_path: Path, what: str) -> None:
    scored(tmp_path / "s/fold=1/seed=0", **{what: "x"})
    scored(tmp_path / "s/fold=2/seed=0", **{what: "y"})
    ((system, runs),) = find([tmp_path]).items()
    with pytest.raises(SertkError, match=rf"mixes runs of different {what} \(x, y\)"):
        protocol_of(system, runs)
    assert protocol_of(system, runs[:1]) == ABOUT | {what: "x"}


def test_two_hashes_of_one_protocol_are_refused() -> None:
    check_one_hash([("s", ABOUT), ("t", ABOUT), ("u", ABOUT | {"name": "q", "hash": "k"})])
    with pytest.raises(SertkError, match=r"s and t are of different folds of c / p \(hash h and k\)"):
        check_one_hash([("s", ABOUT), ("t", ABOUT | {"hash": "k"})])


def test_a_protocol_is_stated_with_its_stamp_and_what_is_unknown() -> None:
    assert stated(ABOUT) == "c / p, speaker-independent, part test, hash `h`"
    assert stated({"stamp": "unaudited"}) == "? / ?, unaudited, part ?, hash `?`"
