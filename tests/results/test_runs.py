"""Scored runs on disk: what is found, what they say of themselves, and what may not stand side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from sertk.core import SertkError
from sertk.results.runs import check_one_hash, find, lacking, protocol_of, run_of, stated, trained_as, two_settings

ABOUT = {"corpus": "c", "name": "p", "hash": "h", "part": "test", "stamp": "speaker-independent"}
FIGURES = {"classes": ["a", "b"], "confusion": [[1, 0], [2, 3]], "utterances": 6}
TRAINED = {"corpus": "c", "protocol": "p", "fold": "1", "hash": "h", "system": "s", "settings": "x", "seed": 0}


def scored(folder: Path, trained: dict[str, Any] | None = None, **about: object) -> Path:
    """A run whose metrics.json says what it is; TRAINED but for `trained`."""
    folder.mkdir(parents=True)
    content = {"schema": 1, **FIGURES, "protocol": ABOUT | about, "trained": TRAINED | (trained or {})}
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def older(folder: Path, fold: str, seed: int | None, **training: str) -> Path:
    """A run of an older sertk: metrics.json does not say what it is, and the bundle beside it says less."""
    (folder / "model").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, **FIGURES, "protocol": ABOUT}))
    protocol = {"corpus": "c", "name": "p", "fold": fold, "hash": "h", "stamp": "speaker-independent"}
    bundle = {"schema": 1, "protocol": protocol, "training": {"system": "s", "seed": seed, **training}}
    (folder / "model/bundle.json").write_text(json.dumps(bundle))
    return folder


def test_runs_are_found_once_below_and_in_folders_and_sorted_by_fold_and_seed(tmp_path: Path) -> None:
    system = tmp_path / "p/s"
    for fold, part, seed in (("b", "b", 0), ("a/b", "a%2Fb", 1), ("a/b", "a%2Fb", 0)):
        scored(system / f"fold={part}/seed={seed}", {"fold": fold, "seed": seed})
    (tmp_path / "p/s/fold=c/seed=0").mkdir(parents=True)  # trained, and not scored
    scored(system / "fold=b/.seed=0.deleted", {"fold": "b"})
    found = find([system / "fold=b/seed=0", tmp_path])
    assert list(found) == [system]
    assert [(run.fold, run.seed) for run in found[system]] == [("a/b", "0"), ("a/b", "1"), ("b", "0")]
    assert found[system][2].folder == system / "fold=b/seed=0"


def test_folders_without_a_scored_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SertkError, match=r"no metrics\.json of a scored run in or below .* Run `sertk score` first"):
        find([tmp_path])


# --- fold and seed are what the run's own files say -----------------------------------------------------------------


def test_folders_of_ones_own_choice_are_one_system_in_the_deepest_folder_that_holds_them(tmp_path: Path) -> None:
    scored(tmp_path / "mine/first", {"fold": "1"})
    scored(tmp_path / "mine/more/second", {"fold": "2"})
    for given in ([tmp_path], [tmp_path / "mine/first", tmp_path / "mine/more/second"]):
        ((folder, runs),) = find(given).items()
        assert folder == tmp_path / "mine"
        assert [(run.fold, run.seed) for run in runs] == [("1", "0"), ("2", "0")]


def test_the_folder_of_a_single_run_is_its_own(tmp_path: Path) -> None:
    assert list(find([scored(tmp_path / "a"), scored(tmp_path / "b", {"settings": "y"})])) == [
        tmp_path / "a",
        tmp_path / "b",
    ]


def test_the_names_of_folders_in_the_layout_of_recipes_say_no_fold_and_no_seed(tmp_path: Path) -> None:
    scored(tmp_path / "s/fold=7/seed=7", {"fold": "2", "seed": 3})
    ((folder, runs),) = find([tmp_path]).items()
    assert folder == tmp_path / "s"
    assert [(run.fold, run.seed) for run in runs] == [("2", "3")]


def test_a_run_of_an_older_sertk_is_what_the_bundle_beside_it_says(tmp_path: Path) -> None:
    older(tmp_path / "a", "2", 5)
    scored(tmp_path / "s/fold=1/seed=0")
    older(tmp_path / "s/fold=2/seed=0", "2", 0)  # which says nothing of its settings
    found = find([tmp_path])
    assert [(run.fold, run.seed) for run in found[tmp_path / "a"]] == [("2", "5")]
    assert [(run.fold, run.seed) for run in found[tmp_path / "s"]] == [("1", "0"), ("2", "0")]


def test_a_run_that_says_neither_fold_nor_seed_is_refused(tmp_path: Path) -> None:
    folder = older(tmp_path / "a", "2", None)
    for _ in range(2):
        with pytest.raises(SertkError, match=r"a/metrics.json does not say of which fold and seed.* Run `sertk score"):
            find([tmp_path])
        (folder / "model/bundle.json").unlink(missing_ok=True)


def test_folds_of_another_corpus_are_told_apart(tmp_path: Path) -> None:
    scored(tmp_path / "a", corpus="d", fold="03")
    scored(tmp_path / "b", corpus="d", fold="08")
    ((_, runs),) = find([tmp_path]).items()
    assert [run.fold for run in runs] == ["1 on 03", "1 on 08"]


@pytest.mark.parametrize("places", [("a", "b"), ("s/fold=1/seed=0", "s/fold=2/seed=0")])
def test_the_same_fold_and_seed_twice_is_refused(tmp_path: Path, places: tuple[str, str]) -> None:
    for place in places:
        scored(tmp_path / place)
    with pytest.raises(SertkError, match=f"{places[0]} and .*{places[1]} are both fold 1, seed 0 of one system"):
        find([tmp_path])


@pytest.mark.parametrize("what", ["corpus", "protocol", "hash", "system", "settings"])
def test_runs_of_different_systems_in_one_folder_are_refused(tmp_path: Path, what: str) -> None:
    scored(tmp_path / "s/fold=1/seed=0")
    scored(tmp_path / "s/fold=2/seed=0", {"fold": "2", what: "other"})
    with pytest.raises(
        SertkError, match=rf"s mixes runs of different {what} \(\w+, \w+\), such as .*fold=1/seed=0 and"
    ):
        find([tmp_path])


def test_systems_whose_runs_lie_side_by_side_are_refused(tmp_path: Path) -> None:
    for name, more in (
        ("a1", {}),
        ("a2", {"fold": "2"}),
        ("b1", {"settings": "y"}),
        ("b2", {"settings": "y", "seed": 1}),
    ):
        scored(tmp_path / name, more)
    with pytest.raises(SertkError, match=r"holds the runs of several systems, such as .*a1 and .*b1"):
        find([tmp_path])


def test_what_a_bundle_is_does_not_need_all_that_newer_ones_say() -> None:
    protocol = {"corpus": "c", "name": "p", "fold": "1", "hash": "h", "stamp": "unaudited"}
    assert trained_as({"protocol": protocol}) == TRAINED | {"system": None, "settings": None, "seed": None}
    training = {"system": "s", "settings": "x", "seed": 0, "epoch": 3}
    assert trained_as({"protocol": protocol, "training": training}) == TRAINED


# --- side by side ---------------------------------------------------------------------------------------------------


def test_every_fold_is_wanted_with_every_seed(tmp_path: Path) -> None:
    for system, fold, seed in (("s", "1", 0), ("s", "2", 1), ("t", "1", 0), ("t", "3", 0)):
        scored(tmp_path / system / f"fold={fold}/seed={seed}", {"fold": fold, "seed": seed})
    found = find([tmp_path])
    own, every = found[tmp_path / "s"], [run for runs in found.values() for run in runs]
    assert lacking(own, own) == [("1", "1"), ("2", "0")]
    assert lacking(own, every) == [("1", "1"), ("2", "0"), ("3", "0"), ("3", "1")]


@pytest.mark.parametrize("what", ["hash", "part", "stamp"])
def test_runs_of_one_system_have_one_protocol(tmp_path: Path, what: str) -> None:
    scored(tmp_path / "s/fold=1/seed=0", **{what: "x"})
    scored(tmp_path / "s/fold=2/seed=0", {"fold": "2"}, **{what: "y"})
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


def heard(low: int, high: int, how: str = "transductive", shrink: float = 10.0, without: int = 0) -> dict[str, Any]:
    """What metrics.json says of the statistics of speakers."""
    return {"how": how, "n": [low, high], "shrink": shrink, "without": without}


def test_folds_that_know_the_speakers_are_stated_with_the_range_of_all(tmp_path: Path) -> None:
    scored(tmp_path / "s/fold=1/seed=0", speakers=heard(7, 20, without=3))
    scored(tmp_path / "s/fold=2/seed=0", {"fold": "2"}, speakers=heard(4, 12, without=2))
    ((system, runs),) = find([tmp_path]).items()
    assert protocol_of(system, runs)["speakers"] == heard(4, 20, without=5)
    assert runs[0].metrics["protocol"]["speakers"] == heard(7, 20, without=3)
    assert stated(protocol_of(system, runs)) == (
        "c / p, speaker-independent, speaker-normalised (transductive, n = 4 to 20 utterances a speaker, shrunk with "
        "k = 10, 5 utterances without a known speaker), part test, hash `h`"
    )


def test_where_settings_were_searched_is_stated_and_whether_any_fold_s_test_was_seen(tmp_path: Path) -> None:
    def search(fold: str, *, nested: bool, saw: list[str]) -> str:
        """What is stated of two folds; the second one saw these speakers."""
        folder = tmp_path / f"{fold}{nested}"
        scored(folder / "fold=1/seed=0", searched={"folds": ["1"], "nested": nested, "saw": []})
        scored(folder / "fold=2/seed=0", {"fold": "2"}, searched={"folds": [fold], "nested": nested, "saw": saw})
        ((system, runs),) = find([folder]).items()
        return stated(protocol_of(system, runs))

    assert ", settings searched on each fold's own dev, part" in search("2", nested=True, saw=[])
    assert ", settings searched on dev of fold 1, SETTINGS SAW TEST SPEAKERS of other folds, part" in search(
        "1", nested=False, saw=["08"]
    )
    assert "settings" not in stated(ABOUT)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (heard(5, 5, how="disjoint"), r"\(disjoint, k = 10; transductive, k = 10\)"),
        (heard(5, 5, shrink=2.5), r"\(transductive, k = 10; transductive, k = 2\.5\)"),
        (None, r"\(none; transductive, k = 10\)"),
    ],
)
def test_runs_of_one_system_know_the_speakers_in_one_way(tmp_path: Path, other: Any, says: str) -> None:  # noqa: ANN401
    scored(tmp_path / "s/fold=1/seed=0", speakers=heard(5, 5))
    scored(tmp_path / "s/fold=2/seed=0", {"fold": "2"}, **({"speakers": other} if other else {}))
    ((system, runs),) = find([tmp_path]).items()
    with pytest.raises(SertkError, match=f"mixes runs of different statistics of speakers {says}. Report them apart"):
        protocol_of(system, runs)


def test_a_stamp_of_speakers_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = scored(tmp_path / "s/fold=1/seed=0", speakers={**heard(5, 5), "n": "five"})
    with pytest.raises(SertkError, match="speakers: n is 'five'; it must be a list of whole numbers"):
        run_of(folder / "metrics.json")


def test_it_is_said_where_systems_that_know_the_speakers_stand_beside_others() -> None:
    known = ABOUT | {"speakers": heard(5, 5)}
    (said,) = two_settings({"plain": ABOUT, "mine": known, "other": known})
    assert said.startswith("**two settings stand side by side**: mine, other heard recordings of each speaker")
    assert two_settings({"plain": ABOUT}) == two_settings({"mine": known, "other": known}) == []


def test_a_file_in_the_place_of_a_run_is_refused_with_what_it_is(tmp_path: Path) -> None:
    scored(tmp_path / "fold=1/seed=0")
    (tmp_path / "windows.csv").write_text(f"id,start,end,decision,{'x' * 90}\n")
    (tmp_path / "odd.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(
        SertkError, match=r"windows\.csv is a file \(a table with id,start,end,decision,x+\.\.\.\), and not"
    ):
        find([tmp_path / "fold=1/seed=0", tmp_path / "windows.csv"])
    with pytest.raises(
        SertkError, match=r"odd\.jsonl is a file \(no text\), and not the folder of a scored run\. Give the"
    ):
        find([tmp_path / "odd.jsonl"])
    with pytest.raises(SertkError, match=r"metrics\.json is a file \(JSON lines with schema, classes, confusion"):
        find([tmp_path / "fold=1/seed=0/metrics.json"])
