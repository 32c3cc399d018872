"""Score lines: whose they are, in which order, and what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sertk.core import Utterance
from sertk.core.files import Record
from sertk.scoring.scorer import Scorer, Sound

BUNDLE = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
RATE = 16_000


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(BUNDLE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven tones, each of its own pitch and length, neither in the order of their names."""
    folder = tmp_path_factory.mktemp("tones")
    for number, size in enumerate((9, 4, 7, 3, 8, 5, 6)):
        steps = np.arange(size * RATE // 8) / RATE
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * 300 * (number + 1) * steps), RATE)
    return folder


def utterances(root: Path) -> list[Utterance]:
    return [Utterance(f"u{path.stem}", path.name, "s", "anger") for path in sorted(root.glob("?.wav"))]


def lines(scorer: Scorer, chosen: list[Utterance], root: Path, batch: int = 32) -> list[Record]:
    failed: list[Record] = []
    found = list(scorer.lines(chosen, root, batch, failed))
    assert not failed
    return found


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
@pytest.mark.parametrize("window", [1, 3, 256])
def test_every_line_is_its_own_utterances_and_in_their_order(
    scorer: Scorer, root: Path, monkeypatch: pytest.MonkeyPatch, batch: int, window: int
) -> None:
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", window)
    chosen = utterances(root)[::-1]
    found = lines(scorer, chosen, root, batch)
    assert [line["id"] for line in found] == [one.id for one in chosen]
    for one, line in zip(chosen, found, strict=True):
        alone = scorer(root / one.path)
        assert line["posterior"] == pytest.approx(list(alone.values()), abs=2e-5)
        assert line["decision"] == max(alone, key=alone.__getitem__)


@pytest.mark.parametrize("kept", [0, 2 * RATE, 3 * RATE])
def test_audio_that_is_read_again_with_its_batch_gives_the_same_lines(scorer: Scorer, root: Path, kept: int) -> None:
    chosen = utterances(root)
    (sounds,) = scorer.sounds([chosen], root, kept=kept)
    held = [one.wave for one in sounds.values() if isinstance(one, Sound) and one.wave is not None]
    assert sum(map(len, held)) <= kept
    assert len(held) == {0: 0, 2 * RATE: 2, 3 * RATE: 4}[kept]  # of 9, 4, 7, 3, ... eighths of a second
    assert list(scorer.window(chosen, sounds, root, 3, [])) == lines(scorer, chosen, root, 3)


def test_a_file_that_is_gone_before_it_is_read_again_fails_alone(scorer: Scorer, root: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(root, tmp_path / "tones"))
    chosen = utterances(folder)
    (sounds,) = scorer.sounds([chosen], folder, kept=0)
    (folder / "3.wav").unlink()
    failed: list[Record] = []
    assert len(list(scorer.window(chosen, sounds, folder, 3, failed))) == 6
    assert [line["id"] for line in failed] == ["u3"]
    assert "is missing" in failed[0]["reason"]


def test_a_line_says_label_duration_and_how_sure_it_is(scorer: Scorer, root: Path) -> None:
    for size, line in zip((9, 4, 7, 3, 8, 5, 6), lines(scorer, utterances(root), root), strict=True):
        assert line["label"] == "anger"
        assert line["seconds"] == size / 8
        assert sum(line["posterior"]) == pytest.approx(1, abs=1e-5)
        assert torch.tensor(line["logits"]).argmax() == torch.tensor(line["posterior"]).argmax()
        assert min(line["logits"]) < 0  # they are no probabilities


def test_a_cut_is_scored_as_a_file_of_its_own(scorer: Scorer, root: Path, tmp_path: Path) -> None:
    parts = [soundfile.read(root / f"{number}.wav")[0] for number in (0, 2)]
    soundfile.write(tmp_path / "both.wav", np.concatenate(parts), RATE)
    cuts = [Utterance("a", "both.wav", "s", None, duration=9 / 8), Utterance("b", "both.wav", "s", None, start=9 / 8)]
    found = lines(scorer, cuts, tmp_path)
    alone = lines(scorer, [utterances(root)[number] for number in (0, 2)], root)
    for one, other in zip(found, alone, strict=True):
        assert one["posterior"] == pytest.approx(other["posterior"], abs=2e-5)
        assert one["seconds"] == other["seconds"]


def test_seconds_are_those_before_trimming(root: Path, tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "model")
    about = json.loads((tmp_path / "model/bundle.json").read_text())
    about["components"]["audio"]["trim_db"] = 30.0
    (tmp_path / "model/bundle.json").write_text(json.dumps(about))
    tone, silence = soundfile.read(root / "0.wav")[0], np.zeros(RATE)
    soundfile.write(tmp_path / "a.wav", np.concatenate([silence, tone, silence]), RATE)
    (line,) = lines(Scorer(tmp_path / "model"), [Utterance("a", "a.wav", "s", None)], tmp_path)
    assert line["seconds"] == 9 / 8 + 2
