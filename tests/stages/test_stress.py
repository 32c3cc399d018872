"""A test part under changed audio: the clean row is what `score` gives, and what fails is counted and told."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import InputError, SertkError, UsageError, Utterance
from sertk.scoring.scorer import Scorer
from sertk.stages.cross import cross
from sertk.stages.score import score
from sertk.stages.stress import stress

CNN = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
HOW: dict[str, Any] = {"asked": ["noise-5", "clipped"], "device": "cpu", "by": "utterances"}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "stress.csv").open() as file:
        return {row["condition"]: row for row in csv.DictReader(file)}


def test_the_clean_row_is_what_score_gives_to_the_bit_and_the_shares_are_of_the_lines(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(CNN, tones, tmp_path / "out", **HOW) == 0
    shown = capsys.readouterr().out
    score(CNN, [str(tones)], tmp_path / "scores.jsonl", device="cpu", source="audio")
    lie = tmp_path / "out/fold=1/seed=0"
    assert (lie / "clean.jsonl").read_bytes() == (tmp_path / "scores.jsonl").read_bytes()
    found, ua = table(tmp_path / "out"), json.loads((tmp_path / "metrics.json").read_text())["metrics"]["ua"]
    assert [*found] == ["clean", "noise-5", "clipped"]
    assert float(found["clean"]["ua"]) == pytest.approx(ua, abs=1e-6)
    clean, noisy = lines(lie / "clean.jsonl"), lines(lie / "noise-5.jsonl")
    assert [one["id"] for one in noisy] == [one["id"] for one in clean]
    share = sum(one["decision"] != was["decision"] for one, was in zip(noisy, clean, strict=True)) / len(clean)
    assert float(found["noise-5"]["changed"]) == pytest.approx(share, abs=1e-6)
    assert share > 0  # or it would be of the clean audio
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"fold=1", "stress.csv", "stress.md", "stress.pdf", "stress.png", "stress.svg"}
    assert (tmp_path / "out/stress.md").read_text() == shown
    assert [one["fold"] for one in lines(tones / "ledger.jsonl")] == ["1"]


def test_what_prepare_wrote_is_never_overwritten(tones: Path) -> None:
    (tones / "failed.jsonl").write_text('{"id": "x", "reason": "of prepare"}\n')
    with pytest.raises(UsageError, match=r"--out would overwrite .*failed\.jsonl, which is an input"):
        stress(CNN, tones, tones, **HOW)
    with pytest.raises(UsageError, match=r"--out would overwrite .*failed\.jsonl, which is an input"):
        cross([CNN], [tones], tones, device="cpu")
    assert "of prepare" in (tones / "failed.jsonl").read_text()


def test_a_folder_of_runs_pools_its_folds(tones: Path, tmp_path: Path) -> None:
    shutil.copytree(CNN, tmp_path / "system/fold=1/seed=0/model")
    other = Path(shutil.copytree(CNN, tmp_path / "system/fold=2/seed=0/model")) / "bundle.json"
    about = json.loads(other.read_text())
    about["protocol"]["fold"] = "2"
    about["training"]["seen"] = []
    other.write_text(json.dumps(about))
    stress(tmp_path / "system", tones, tmp_path / "out", **{**HOW, "by": "speakers"})
    found = table(tmp_path / "out")["clean"]
    assert (found["units"], found["by"]) == ("8", "speakers")
    assert found["ua_low"] != ""
    parts = [lines(tmp_path / f"out/fold={fold}/seed=0/clean.jsonl") for fold in (1, 2)]
    assert int(found["utterances"]) == sum(map(len, parts))


def test_what_cannot_be_read_fails_once_with_exit_code_3_and_is_in_no_row(tones: Path, tmp_path: Path) -> None:
    corpus = json.loads((tones / "corpus.json").read_text())["root"]
    root = Path(shutil.copytree(corpus, tmp_path / "root"))
    score(CNN, [str(tones)], tmp_path / "whole.jsonl", device="cpu")
    first = lines(tmp_path / "whole.jsonl")
    (gone,) = root.rglob(f"{first[0]['id']}.wav")
    gone.unlink()
    words = ["stress", str(CNN), str(tones), "--root", str(root), "--out", str(tmp_path / "out"), "--condition"]
    done = CliRunner().invoke(app, [*words, "clipped", "--device", "cpu"])
    assert done.exit_code == 3, done.output
    assert [one["id"] for one in lines(tmp_path / "out/failed.jsonl")] == [first[0]["id"]]
    assert {row["utterances"] for row in table(tmp_path / "out").values()} == {str(len(first) - 1)}
    assert "1 utterances could not be scored in every condition" in (tmp_path / "out/stress.md").read_text()
    assert CliRunner().invoke(app, [*words, "clipped", "--device", "cpu", "--allow-failed"]).exit_code == 0


def test_audio_that_cannot_be_decoded_fails_once_and_not_in_each_condition(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, bad = Scorer._sound, list[str]()

    def heard(self: Scorer, root: Path, one: Utterance) -> Any:  # noqa: ANN401
        bad.append(one.id)
        if one.id == bad[0]:
            raise InputError("it is broken")
        return sound(self, root, one)

    monkeypatch.setattr(Scorer, "_sound", heard)
    assert stress(CNN, tones, tmp_path / "out", **HOW) == 1
    (failed,) = lines(tmp_path / "out/failed.jsonl")
    assert (failed["id"], failed["reason"]) == (bad[0], f"{bad[0]}: it is broken")
    assert {row["utterances"] for row in table(tmp_path / "out").values()} == {str(len(set(bad)) - 1)}


def test_what_fails_in_one_condition_is_in_no_row_either(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Scorer._read

    def loud(self: Scorer, one: Any, sounds: Any) -> Any:  # noqa: ANN401
        if sounds[one.id].wave.abs().max() == 1:
            raise SertkError("too loud for it")
        return read(self, one, sounds)

    monkeypatch.setattr(Scorer, "_read", loud)
    with pytest.raises(SertkError, match=r"could be scored in every condition; the first: .*too loud for it"):
        stress(CNN, tones, tmp_path / "out", **HOW)


def test_an_unknown_condition_is_refused_with_the_nearest(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--condition 'noise_5' is no condition; did you mean 'noise-5'"):
        stress(CNN, tones, tmp_path / "out", asked=["noise_5"], device="cpu")
