"""What the stage `score` leaves behind: lines, metrics, failures, whole and shard by shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sertk.core import Utterance
from sertk.core.files import write_jsonl
from sertk.stages.score import score

BUNDLE = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
CLASSES = json.loads((BUNDLE / "bundle.json").read_text())["classes"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled tones, the last one of no class of the bundle."""
    folder = tmp_path_factory.mktemp("tones")
    for number in range(5):
        steps = np.arange((5 + number) * 1600) / 16_000
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * 200 * (number + 2) * steps), 16_000)
    labels = [*CLASSES[:2], *CLASSES[:2], "awe"]
    people = [Utterance(f"u{n}", f"{n}.wav", "s", label) for n, label in enumerate(labels)]
    write_jsonl(folder / "manifest.jsonl", (one.to_json() for one in people))
    return folder / "manifest.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_labelled_scores_have_metrics_of_the_labels_that_are_classes(manifest: Path, tmp_path: Path) -> None:
    assert score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl") == 0
    found = lines(tmp_path / "scores.jsonl")
    assert [line["id"] for line in found] == [f"u{n}" for n in range(5)]
    assert {line["stamp"] for line in found} == {"unaudited"}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["utterances"], metrics["left_out"], metrics["classes"]) == (4, {"awe": 1}, CLASSES)
    right = sum(line["decision"] == line["label"] for line in found)
    assert metrics["metrics"]["wa"] == right / 4
    assert sum(map(sum, metrics["confusion"])) == 4


def test_shards_put_together_are_the_whole_and_none_has_metrics(manifest: Path, tmp_path: Path) -> None:
    score(BUNDLE, [str(manifest)], tmp_path / "whole.jsonl")
    together = []
    for k in (1, 2):
        out = tmp_path / f"shard{k}/scores.jsonl"
        score(BUNDLE, [str(manifest)], out, shard=f"{k}/2")
        together += lines(out)
        assert not (out.parent / "metrics.json").exists()
    assert together == lines(tmp_path / "whole.jsonl")
    assert (tmp_path / "whole.metrics.json").exists()


def test_what_an_earlier_call_left_does_not_stay_beside_new_scores(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    score(BUNDLE, [str(manifest)], out)
    (tmp_path / "failed.jsonl").write_text("{}\n")
    score(BUNDLE, [str(manifest)], out, shard="1/2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.jsonl"]
