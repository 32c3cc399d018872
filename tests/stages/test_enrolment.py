"""`sertk enrolment`: one half of a test with more and more of the other half."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import Utterance
from sertk.corpus.prepared import Data
from sertk.scoring.inputs import of_corpus
from sertk.scoring.scorer import Scorer
from sertk.scoring.speakers import hear
from sertk.settings import merge
from sertk.stages.enrolment import Ask, asks, drawn, halves

FOLDS = ("1", "4")


@pytest.fixture(scope="module")
def system(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sertk.stages.train import train  # late: see test_recipe

    folder = tmp_path_factory.mktemp("exp") / "emobox/mini"
    more = {"train.epochs": 1, "train.threads": 1, "backbone": {"name": "frames"}}
    for fold in FOLDS:
        own = {"protocol": "emobox", "normalize": "speaker", "fold": fold, **more}
        train(merge.load("mini-cnn", None, own), Data(data), folder / f"fold={fold}/seed=0")
    return folder


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["enrolment", *map(str, words)])


def people(**sizes: int) -> list[Utterance]:
    """Utterances by speaker, of the labels a, b and neutral in turn."""
    labels = ("a", "b", "neutral")
    every = [(name, number) for name, size in sizes.items() for number in range(size)]
    return [Utterance(f"{name}{number}", "x.wav", name, labels[number % 3]) for name, number in every]


def test_half_of_each_speaker_is_the_pool_whatever_else_is_there() -> None:
    pool, rest = halves([*people(ann=7, ben=4, unknown=3)])
    assert Counter(one.speaker for one in pool) == {"ann": 3, "ben": 2}
    assert Counter(one.speaker for one in rest) == {"ann": 4, "ben": 2, "unknown": 3}
    again, _ = halves([*reversed(people(ann=7, cy=2))])
    assert {one.id for one in again if one.speaker == "ann"} == {one.id for one in pool if one.speaker == "ann"}
    assert {one.id for one in pool if one.speaker == "ann"} != {"ann0", "ann1", "ann2"}  # by chance, and not in order


def test_so_many_of_each_speaker_are_drawn_and_larger_draws_hold_smaller_ones() -> None:
    pool = people(ann=30, ben=12, cy=2)
    for kind in ("random", "skewed"):
        sets = [drawn(pool, Ask(kind, most, 3), 0) for most in (1, 5, 10)]
        for most, mask in zip((1, 5, 10), sets, strict=True):
            found = Counter(one.speaker for one, is_in in zip(pool, mask.tolist(), strict=True) if is_in)
            assert found == {"ann": most, "ben": most, "cy": min(most, 2)}
        assert (sets[0] <= sets[1]).all()
        assert (sets[1] <= sets[2]).all()
        assert not drawn(pool, Ask(kind, 5, 4), 0).equal(sets[1])
        assert not drawn(pool, Ask(kind, 5, 3), 1).equal(sets[1])
    assert drawn(pool, Ask("random", None), 0).all()
    assert not drawn(pool, Ask("none", 0), 0).any()


def test_neutral_draws_are_of_neutral_utterances_and_skewed_ones_of_unequal_classes() -> None:
    pool = people(ann=300, ben=6)
    mask = drawn(pool, Ask("neutral", 4, 0), 0)
    chosen = [one for one, is_in in zip(pool, mask.tolist(), strict=True) if is_in]
    assert {one.label for one in chosen} == {"neutral"}
    assert Counter(one.speaker for one in chosen) == {"ann": 4, "ben": 2}
    shares = []
    for draw in range(40):
        mask = drawn(pool[:300], Ask("skewed", 20, draw), 0)
        counts = Counter(one.label for one, is_in in zip(pool, mask.tolist(), strict=False) if is_in)
        shares.append([counts[label] for label in ("a", "b", "neutral")])
    ordered = [sum(sorted(own)[k] for own in shares) / 40 for k in range(3)]
    assert ordered[2] > 9.5 > 5 > ordered[0]  # 4 : 2 : 1 of twenty: 11.4, 5.7, 2.9
    assert all(4 < sum(own[k] for own in shares) / 40 < 10 for k in range(3))  # no class is favoured by all


def test_a_corpus_without_neutral_draws_none() -> None:
    assert {ask.kind for ask in asks(("a", "b"), 2)} == {"none", "random", "skewed"}
    names = [ask.name for ask in asks(("a", "neutral"), 1)]
    assert names[:3] == ["none", "random 1", "random 2"]
    assert names[-4:] == ["skewed 20", "neutral 1", "neutral 2", "neutral all"]


def test_one_half_is_scored_in_all_rows_and_the_other_is_what_speakers_are_known_by(
    system: Path, data: Path, tmp_path: Path
) -> None:
    done = cli(system, data, "--out", tmp_path / "out", "--draws", 2, "--device", "cpu")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out/fold=1/seed=0"
    found = {
        path.name.removesuffix(".jsonl"): [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.iterdir()
    }
    test = Data(data).select(Data(data).protocol("emobox").folds["1"].test)
    pool, rest = halves(test)
    assert {tuple(line["id"] for line in lines) for lines in found.values()} == {tuple(one.id for one in rest)}
    assert {line["stamp"] for line in found["random-2.1"]} == {"speaker-independent, speaker-normalised"}
    assert {"none.0", "random-1.0", "random-1.1", "random-all.0", "skewed-20.1", "neutral-all.0"} <= found.keys()
    # all of the pool is what `score --enrol` hears in it; none are the statistics of training
    model = system / "fold=1/seed=0/model"
    scorer = Scorer(model)
    scored = of_corpus(Data(data), scorer.bundle.about, [])
    halved = [scored.__class__(own, scored.root, scored.stamp) for own in (rest, pool)]
    scorer.speakers = None
    plain = [line["posterior"] for line in scorer.lines(rest, scored.root, 4, [])]
    scorer.speakers = hear(scorer, *halved, 4).totals
    heard = [line["posterior"] for line in scorer.lines(rest, scored.root, 4, [])]
    assert heard != plain
    for name, wanted in (("none.0", plain), ("random-all.0", heard)):
        for line, posterior in zip(found[name], wanted, strict=True):
            assert line["posterior"] == pytest.approx(posterior, abs=2e-5)


def test_the_table_says_what_it_is_of(system: Path, data: Path, tmp_path: Path) -> None:
    done = cli(system, data, "--out", tmp_path, "--draws", 2, "--fold", "1,4", "--device", "cpu", "--by", "utterances")
    assert done.exit_code == 0, done.output
    rows = {row["drawn"]: row for row in csv.DictReader((tmp_path / "enrolment.csv").read_text().splitlines())}
    folds = Data(data).protocol("emobox").folds
    size = sum(len(halves(Data(data).select(folds[fold].test))[1]) for fold in FOLDS)
    assert {int(row["utterances"]) for row in rows.values()} == {size}
    assert rows["random 2"]["known by"] == "disjoint, n = 2 utterances a speaker, shrunk with k = 10"
    assert float(rows["random all"]["changed"]) >= 0
    text = (tmp_path / "enrolment.md").read_text()
    assert "All other rows are speaker-normalised: do not compare them" in text
    assert {path.suffix for path in tmp_path.glob("enrolment.*")} == {".md", ".csv", ".png", ".svg", ".pdf"}


def test_who_has_no_known_speaker_counts_with_no_utterance(system: Path, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    first = Data(data).protocol("emobox").folds["1"].test[0]
    lines = [json.loads(line) for line in (copy / "manifest.jsonl").read_text().splitlines()]
    lines = [{**line, "speaker": "unknown"} if line["id"] == first else line for line in lines]
    (copy / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    how = ("--draws", 1, "--device", "cpu", "--by", "utterances")
    done = cli(system / "fold=1/seed=0/model", copy, "--out", tmp_path / "out", *how)
    assert done.exit_code == 0, done.output
    rows = {row["drawn"]: row for row in csv.DictReader((tmp_path / "out/enrolment.csv").read_text().splitlines())}
    assert rows["random 2"]["known by"] == "disjoint, n = 0 to 2 utterances a speaker, shrunk with k = 10"


def test_a_system_that_knows_no_speakers_is_refused(data: Path, tmp_path: Path) -> None:
    other = Path(__file__).parents[1] / "modeling/bundles/schema-1/mini-cnn"
    done = cli(other, data, "--out", tmp_path)
    assert done.exit_code == 2
    assert "is not normalised by speaker: who speaks changes nothing" in " ".join(done.stderr.split())
