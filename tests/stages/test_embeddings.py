"""Embeddings through the stages: kept over kills, joined from shards, beside the scores of runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file
from torch import Tensor
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import write_jsonl
from sertk.scoring.embeddings import BESIDE, read
from sertk.scoring.scorer import Scorer
from sertk.stages.score import merge, score, score_runs

BUNDLE = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
RATE = 16_000
NAMES = ("scores.jsonl", "embeddings.safetensors")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings, the fourth of which is no audio."""
    folder = tmp_path_factory.mktemp("tones")
    for number in range(5):
        steps = np.arange((5 + number) * 1600) / RATE
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * 200 * (number + 2) * steps), RATE)
    (folder / "3.wav").write_text("no audio")
    write_jsonl(folder / "manifest.jsonl", (Utterance(f"u{n}", f"{n}.wav", "s", None).to_json() for n in range(5)))
    return folder / "manifest.jsonl"


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


class Killed(BaseException):
    """What no handler catches, as a kill."""


def test_rows_are_those_of_the_score_lines_and_the_lines_stay_the_same(manifest: Path, tmp_path: Path) -> None:
    assert score(BUNDLE, [str(manifest)], tmp_path / "plain.jsonl") == 1
    assert score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl", embeddings=tmp_path / "e.safetensors") == 1
    assert (tmp_path / "plain.jsonl").read_bytes() == (tmp_path / "scores.jsonl").read_bytes()
    found = load_file(tmp_path / "e.safetensors")
    assert json.loads(found["ids"].tobytes()) == ["u0", "u1", "u2", "u4"]  # what failed has no row
    scorer = Scorer(BUNDLE, embeddings=True)
    assert found["embeddings"].shape == (4, scorer.bundle.model.pooling.out)
    assert np.linalg.norm(np.diff(found["embeddings"], axis=0), axis=1).min() > 0.01
    # the head's values of a row are the logits of its line: the model has one window
    head = scorer.bundle.model.heads["emotion"]
    weight, bias = (one.detach().numpy() for one in head.parameters())
    logits = [json.loads(line)["logits"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(found["embeddings"] @ weight.T + bias, logits, atol=1e-4)


def test_a_run_that_was_killed_goes_on_and_writes_what_an_undisturbed_one_does(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 2)
    seen, forward, last = list[str](), Scorer._forward, "u4"

    def watched(self: Scorer, ids: Sequence[str], *given: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
        if last in ids:
            raise Killed
        seen.extend(sorted(ids))
        return forward(self, ids, *given)

    def run(folder: str, *, kept: bool = True) -> list[str]:
        seen.clear()
        score(BUNDLE, [str(manifest)], tmp_path / folder / "scores.jsonl", embeddings=BESIDE if kept else None)
        return [*seen]

    monkeypatch.setattr(Scorer, "_forward", watched)
    with pytest.raises(Killed):
        run("killed")
    assert not (tmp_path / "killed/embeddings.safetensors").exists()
    with pytest.raises(Killed):
        run("other", kept=False)
    last = ""
    assert run("killed") == ["u4"]  # u0, u1 and u2 were done, and u3 fails again
    assert run("other") == ["u0", "u1", "u2", "u4"]  # the lines of before carry no embedding
    assert run("whole") == ["u0", "u1", "u2", "u4"]
    for name in NAMES:
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() == whole


def test_shards_are_joined_to_what_one_run_writes_to_the_byte(manifest: Path, tmp_path: Path) -> None:
    score(BUNDLE, [str(manifest)], tmp_path / "whole/scores.jsonl", batch=1, embeddings=BESIDE)
    shards = [tmp_path / f"out/{k}.jsonl" for k in (1, 2, 3)]
    for k, one in enumerate(shards, 1):  # of one, two and two, the second of which fails in part
        score(BUNDLE, [str(manifest)], one, shard=f"{k}/3", batch=1, embeddings=BESIDE)
    assert (tmp_path / "out/2.embeddings.safetensors").exists()
    merged = tmp_path / "merged/scores.jsonl"
    assert merge(shards, merged, embeddings=BESIDE) == 1
    for name in NAMES:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    about = read(tmp_path / "merged/embeddings.safetensors")
    assert about.scores == hashlib.sha256(merged.read_bytes()).hexdigest()


def test_shards_without_embeddings_or_with_other_ones_are_not_joined(manifest: Path, tmp_path: Path) -> None:
    shards = [tmp_path / f"{k}.jsonl" for k in (1, 2)]
    for k, one in enumerate(shards, 1):
        score(BUNDLE, [str(manifest)], one, shard=f"{k}/2", embeddings=BESIDE if k == 1 else None)
    out, file = tmp_path / "merged.jsonl", tmp_path / "e.safetensors"
    with pytest.raises(SertkError, match=r"2\.jsonl was scored without --embeddings"):
        merge(shards, out, embeddings=file)
    score(BUNDLE, [str(manifest)], shards[1], shard="2/2", embeddings=BESIDE)
    with pytest.raises(UsageError, match=r"--embeddings would overwrite .*1\.embeddings\.safetensors"):
        merge(shards, out, embeddings=tmp_path / "1.embeddings.safetensors")
    with (tmp_path / "1.embeddings.safetensors").open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(SertkError, match=r"1\.embeddings\.safetensors was changed or cut short"):
        merge(shards, out, embeddings=file)
    (tmp_path / "1.embeddings.safetensors").unlink()
    with pytest.raises(SertkError, match=r"1\.embeddings\.safetensors is missing"):
        merge(shards, out, embeddings=file)
    assert not out.exists()
    assert not file.exists()


def test_printed_lines_have_their_embeddings_too(manifest: Path, tmp_path: Path) -> None:
    done = call(
        "score", BUNDLE, manifest, "--embeddings", tmp_path / "e.safetensors", "--over-time", tmp_path / "grids"
    )
    assert done.exit_code == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "embedding" not in lines[0]
    assert read(tmp_path / "e.safetensors").ids == [one["id"] for one in lines]


def test_inputs_and_models_are_never_overwritten(manifest: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(BUNDLE, tmp_path / "model"))
    before = (model / "model.safetensors").read_bytes()
    for embeddings, message in {
        model / "model.safetensors": "--embeddings would overwrite",
        tmp_path / "e.npz": r"e\.npz is not FILE\.safetensors",
        tmp_path / "scores.safetensors": "is what --out, or a file beside it, is written to",
    }.items():
        with pytest.raises(UsageError, match=message):
            score(model, [str(manifest)], tmp_path / "scores.safetensors", embeddings=embeddings)
    (tmp_path / "f.safetensors").mkdir()
    with pytest.raises(SertkError, match=r"f\.safetensors is a folder"):
        score(model, [str(manifest)], tmp_path / "scores.jsonl", embeddings=tmp_path / "f.safetensors")
    assert (model / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "scores.jsonl").exists()


def test_each_run_of_a_system_has_its_own_beside_its_scores(tones: Path, tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "system/fold=1/seed=0/model")
    for part in ("test", "train"):
        words = ("score", tmp_path / "system", tones, "--part", part, "--embeddings", "beside", "--device", "cpu")
        assert call(*words).exit_code == 0
    run = tmp_path / "system/fold=1/seed=0"
    for scores, file in (("scores", "embeddings"), ("train", "train.embeddings")):
        found = read(run / f"{file}.safetensors")
        lines = (run / f"{scores}.jsonl").read_text().splitlines()
        assert found.ids == [json.loads(line)["id"] for line in lines]
    assert len(found.ids) > len(read(run / "embeddings.safetensors").ids)
    with pytest.raises(UsageError, match=r"e\.safetensors is one file, and each run has its own\. Give"):
        score_runs(tmp_path / "system", [str(tones)], embeddings=Path("e.safetensors"))


def test_a_stream_and_lines_that_lie_nowhere_have_no_file_beside_them(manifest: Path) -> None:
    done = call("score", BUNDLE, "-", "--stream", 16000, "--embeddings", "e.safetensors")
    assert done.exit_code == 2
    assert "--embeddings does not go with --stream" in " ".join(done.output.split())
    done = call("score", BUNDLE, manifest, "--embeddings", "beside")
    assert done.exit_code == 2
    assert "--embeddings beside needs --out" in " ".join(done.output.split())
