"""Bundles on other corpora: what is shared, left out, marked and refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import UsageError
from sertk.core.files import Record
from sertk.corpus.prepared import Data
from sertk.modeling import bundle
from sertk.stages import cross as stage
from sertk.stages.cross import cross
from sertk.stages.prepare import prepare
from sertk.stages.score import score
from sertk.testing.trees import official

CNN = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
NAME = "mini-cnn (ravdess, fold 1, seed 0)"
DULL = """
labels: {anger: anger, happiness: happiness, neutral: neutral, boredom: neutral}
test: {rule: disjoint, k: 5}
dev: 2
overlaps: {text: [train+dev, train+test, dev+test]}
about: boredom is neutral, 5 folds
"""


@pytest.fixture(scope="module")
def emodb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EmoDB, 535 utterances of 10 speakers and 7 classes."""
    folder = tmp_path_factory.mktemp("emodb")
    official("emodb", folder / "tree", seconds=0.15)
    (folder / "dull.yaml").write_text(DULL)
    prepare("emodb", folder / "tree", folder / "data", ["loso4", str(folder / "dull.yaml")], 0.1, 1)
    return folder / "data"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cross.csv").open() as file:
        return {row["corpus"]: row for row in csv.DictReader(file)}


def test_own_fold_and_another_corpus_with_classes_of_the_same_name(
    tones: Path, emodb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cross([CNN], [tones, emodb], tmp_path / "out", device="cpu") == 0
    assert (tmp_path / "out/cross.md").read_text() == capsys.readouterr().out
    score(CNN, [str(tones)], tmp_path / "scores.jsonl", device="cpu", source="audio")
    own = lines(tmp_path / "out" / NAME / "ravdess/fold=1/seed=0/scores.jsonl")
    was = lines(tmp_path / "scores.jsonl")
    assert [(one["id"], one["decision"]) for one in own] == [(one["id"], one["decision"]) for one in was]
    found = table(tmp_path / "out")
    ua = json.loads((tmp_path / "metrics.json").read_text())["metrics"]["ua"]
    assert float(found["ravdess"]["ua"]) == pytest.approx(ua, abs=1e-6)
    assert (found["ravdess"]["own"], found["emodb"]["own"]) == ("1", "0")
    assert found["emodb"]["classes"] == "anger happiness neutral sadness"
    labels = Counter(one["label"] for one in lines(emodb / "manifest.jsonl"))
    others = {one: labels[one] for one in ("boredom", "disgust", "fear")}
    assert int(found["emodb"]["left_out"]) == sum(others.values()) > 0
    assert int(found["emodb"]["utterances"]) == 535 - sum(others.values())
    assert (found["emodb"]["units"], found["ravdess"]["ua_low"]) == ("10", "")  # 4 speakers are too few
    text = (tmp_path / "out/cross.md").read_text()
    assert all(f"{count} {one}" in text for one, count in others.items())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {NAME, "cross.csv", "cross.md", "cross.pdf", "cross.png", "cross.svg"}


def test_a_map_restricts_and_joins_the_classes_of_both(tones: Path, emodb: Path, tmp_path: Path) -> None:
    still = {"neutral": "still", "sadness": "still"}
    content = {"ravdess": {"anger": "hot", **still}, "emodb": {"anger": "hot", "boredom": "still", **still}}
    (tmp_path / "map.json").write_text(json.dumps(content))
    cross([CNN], [emodb], tmp_path / "out", names=tmp_path / "map.json", device="cpu")
    labels = Counter(one["label"] for one in lines(emodb / "manifest.jsonl"))
    found = lines(tmp_path / "out" / NAME / "emodb/fold=1/seed=0/scores.jsonl")
    calm = labels["boredom"] + labels["neutral"] + labels["sadness"]
    assert Counter(one["label"] for one in found) == {"hot": labels["anger"], "still": calm}
    assert {one["decision"] for one in found} <= {"hot", "still"}
    assert all(sum(one["posterior"]) == pytest.approx(1, abs=2e-6) for one in found)
    row = table(tmp_path / "out")["emodb"]
    assert int(row["left_out"]) == labels["happiness"] + labels["disgust"] + labels["fear"]


def test_of_a_protocol_the_test_parts_are_scored_and_its_labels_count(emodb: Path, tmp_path: Path) -> None:
    cross([CNN], [emodb], tmp_path / "out", protocols=["emodb=loso4"], device="cpu")
    row = table(tmp_path / "out")["emodb"]
    assert (row["left_out"], row["classes"]) == ("0", "anger happiness neutral sadness")
    assert {one["protocol"] for one in lines(emodb / "ledger.jsonl")} == {"loso4"}


def test_a_protocol_that_joins_labels_has_them_joined(emodb: Path, tmp_path: Path) -> None:
    cross([CNN], [emodb], tmp_path / "out", protocols=["emodb=dull"], device="cpu")
    labels = Counter(one["label"] for one in lines(emodb / "manifest.jsonl"))
    found = Counter(one["label"] for one in lines(tmp_path / "out" / NAME / "emodb/fold=1/seed=0/scores.jsonl"))
    dull = labels["neutral"] + labels["boredom"]
    assert found == {"anger": labels["anger"], "happiness": labels["happiness"], "neutral": dull}
    assert table(tmp_path / "out")["emodb"]["left_out"] == "0"


def test_what_does_not_go_together_is_refused_before_anything_is_scored(
    tones: Path, emodb: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.yaml").write_text("emodb: {boredom: bored, fear: afraid}\n")
    with pytest.raises(UsageError, match="share 0 classes; at least 2"):
        cross([CNN], [tones, emodb], tmp_path / "out", names=tmp_path / "none.yaml", device="cpu")
    (tmp_path / "typo.yaml").write_text("emodb: {angr: anger}\n")
    with pytest.raises(UsageError, match="the class 'angr' of emodb; did you mean 'anger'"):
        cross([CNN], [tones, emodb], tmp_path / "out", names=tmp_path / "typo.yaml", device="cpu")
    with pytest.raises(UsageError, match="given twice"):
        cross([CNN, CNN], [emodb], tmp_path / "out", device="cpu")
    for protocol, why in (("loso4", "is not CORPUS=NAME"), ("tess=loso", "names the corpus 'tess'")):
        with pytest.raises(UsageError, match=why):
            cross([CNN], [emodb], tmp_path / "out", protocols=[protocol], device="cpu")
    assert not (tmp_path / "out").exists()


def two_bundles(folder: Path) -> Path:
    """A folder of runs with the same model for two folds; the path of what the second says."""
    shutil.copytree(CNN, folder / "fold=1/seed=0/model")
    other = Path(shutil.copytree(CNN, folder / "fold=2/seed=0/model")) / "bundle.json"
    about = json.loads(other.read_text())
    other.write_text(json.dumps({**about, "protocol": {**about["protocol"], "fold": "2"}}))
    return other


def test_what_one_bundle_of_a_folder_of_runs_alone_could_not_score_does_not_end_the_table(
    emodb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = two_bundles(tmp_path / "system")

    def part(opened: bundle.Opened, data: Data, how: stage._How, failed: list[Record]) -> stage._Part:
        found = part_of(opened, data, how, failed)
        if opened.folder != other.parent:
            return found
        lost = next(one for one in found.utterances if one.label == "anger")
        failed.extend([{"schema": 1, "id": lost.id, "reason": "it is too long"}] * 2)
        return found._replace(utterances=[one for one in found.utterances if one is not lost])

    part_of = stage._part
    monkeypatch.setattr(stage, "_part", part)
    learned = {facts.sha256[:16] for facts in Data(emodb).facts.values()}
    monkeypatch.setattr(bundle, "seen", lambda about: learned)
    assert cross([tmp_path / "system"], [emodb], tmp_path / "out", device="cpu") == 2
    row, labels = table(tmp_path / "out")["emodb"], Counter(one["label"] for one in lines(emodb / "manifest.jsonl"))
    kept = sum(labels[one] for one in ("anger", "happiness", "neutral", "sadness")) - 1
    assert (row["uneven"], row["failed"], row["utterances"]) == ("1", "1", str(kept))
    assert row["seen"] == str(kept + 1)
    assert (row["left_out"], row["units"]) == (str(labels.total() - kept - 1), "10")
    # both are the same model, so that both have the UA of one on what is kept
    right = {True: Counter[str](), False: Counter[str]()}
    for one in lines(tmp_path / "out/system (ravdess, 2 bundles)/emodb/fold=2/seed=0/scores.jsonl"):
        right[one["decision"] == one["label"]][one["label"]] += 1
    recall = [right[True][one] / (right[True][one] + right[False][one]) for one in row["classes"].split()]
    assert float(row["ua"]) == pytest.approx(sum(recall) / 4, abs=1e-6)
    said = "1 utterances were scored by some of its bundles and not by all; no figure counts them."
    assert said in (tmp_path / "out/cross.md").read_text()


def test_the_second_system_of_a_training_corpus_is_tested_against_the_first(emodb: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(CNN, tmp_path / "twin/fold=1/seed=0/model")
    cross([CNN, twin], [emodb], tmp_path / "out", device="cpu")
    with (tmp_path / "out/cross.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["against"], first["p"]) == ("", "")
    assert [second[one] for one in ("system", "against")] == ["twin (ravdess, fold 1, seed 0)", NAME]
    # it is the same model: no swap of speakers changes anything
    assert [second[one] for one in ("difference", "p", "p_holm")] == ["0.0", "1.0", "1.0"]
    assert "A system stands against the first one" in (tmp_path / "out/cross.md").read_text()


def test_a_bundle_that_a_system_lacks_on_another_corpus_is_named(emodb: Path, tmp_path: Path) -> None:
    two_bundles(tmp_path / "twin")
    cross([CNN, tmp_path / "twin"], [emodb], tmp_path / "out", device="cpu")
    said = f"{NAME} lacks 1 run, the first the bundle of fold 2, seed 0. Train and score them"
    assert said in (tmp_path / "out/cross.md").read_text()


def test_a_missing_file_is_counted_and_the_exit_code_is_3(emodb: Path, tmp_path: Path) -> None:
    corpus = Path(json.loads((emodb / "corpus.json").read_text())["root"])
    gone = corpus / next(one["path"] for one in lines(emodb / "manifest.jsonl") if one["label"] == "anger")
    kept = gone.read_bytes()
    gone.unlink()
    try:
        words = ["cross", str(CNN), "--data", str(emodb), "--out", str(tmp_path / "out"), "--device", "cpu"]
        done = CliRunner().invoke(app, words)
    finally:
        gone.write_bytes(kept)
    assert done.exit_code == 3, done.output
    (failed,) = lines(tmp_path / "out/failed.jsonl")
    assert (failed["system"], failed["corpus"]) == (NAME, "emodb")
    assert table(tmp_path / "out")["emodb"]["failed"] == "1"
