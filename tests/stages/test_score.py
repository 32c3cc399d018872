"""What the stage `score` leaves behind: lines, metrics, failures, whole and shard by shard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from torch import Tensor

from sertk.core import Utterance
from sertk.core.files import write_jsonl
from sertk.scoring.scorer import Scorer
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


# --- killed and gone on ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no handler catches, as a kill."""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of what was scored, in windows of two."""
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 2)
    seen, forward = list[str](), Scorer._forward

    def watched(self: Scorer, ids: Sequence[str], inputs: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        if len(seen) >= 4:
            raise Killed
        seen.extend(sorted(ids))
        return forward(self, ids, inputs)

    monkeypatch.setattr(Scorer, "_forward", watched)
    return seen


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(manifest: Path, out: Path, scored: list[str], **how: int) -> None:
    """A run that is killed in its third window; what comes after is counted anew and not killed."""
    with pytest.raises(Killed):
        score(BUNDLE, [str(manifest)], out, **how)
    scored[:] = []


def test_a_run_that_was_killed_goes_on_and_writes_what_an_undisturbed_one_does(
    manifest: Path,
    tmp_path: Path,
    scored: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "killed/scores.jsonl"
    killed(manifest, out, scored)
    assert not out.exists()
    assert score(BUNDLE, [str(manifest)], out) == 0
    assert scored == ["u4"]  # the windows u0 u1 and u2 u3 were done
    assert "4 of 5 inputs were done before" in " ".join(capsys.readouterr().err.split())
    assert left(out.parent) == ["metrics.json", "scores.jsonl"]
    monkeypatch.undo()
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 2)
    score(BUNDLE, [str(manifest)], tmp_path / "whole/scores.jsonl")
    assert out.read_bytes() == (tmp_path / "whole/scores.jsonl").read_bytes()


def test_what_was_scored_in_another_way_or_of_a_changed_file_is_not_taken(
    manifest: Path, tmp_path: Path, scored: list[str]
) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    out = tmp_path / "out/scores.jsonl"
    killed(folder / "manifest.jsonl", out, scored, batch=1)
    with pytest.raises(Killed):  # scores again from the start: four, and the fifth is a kill
        score(BUNDLE, [str(folder / "manifest.jsonl")], out, batch=2)
    assert scored == ["u0", "u1", "u2", "u3"]
    scored[:] = []
    shutil.copy(folder / "3.wav", folder / "1.wav")
    assert score(BUNDLE, [str(folder / "manifest.jsonl")], out, batch=2) == 0
    assert scored == ["u0", "u1", "u4"]
    found = lines(out)
    assert found[1]["posterior"] == pytest.approx(found[3]["posterior"], abs=2e-5)


def test_failures_of_finished_windows_are_kept_too(manifest: Path, tmp_path: Path, scored: list[str]) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    (folder / "0.wav").write_text("no audio")
    scored.append("")  # so that the kill comes in the third window
    killed(folder / "manifest.jsonl", tmp_path / "out/scores.jsonl", scored)
    (one,) = [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert len(list(one.iterdir())) == 2
    assert score(BUNDLE, [str(folder / "manifest.jsonl")], tmp_path / "out/scores.jsonl") == 1
    assert scored == ["u4"]
    assert [line["id"] for line in lines(tmp_path / "out/failed.jsonl")] == ["u0"]
    assert [line["id"] for line in lines(tmp_path / "out/scores.jsonl")] == ["u1", "u2", "u3", "u4"]
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["failed"], metrics["inputs"], metrics["utterances"]) == (1, 5, 3)  # u4 is of no class
