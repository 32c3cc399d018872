"""Recordings of any length: what is scored whole as ever, and what is made of windows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from sertk.core import Batch, Padded, Rng, UsageError, Utterance
from sertk.core.files import Record
from sertk.corpus import audio
from sertk.scoring.over_time import KEY
from sertk.scoring.scorer import Scorer
from sertk.scoring.windows import Cutting, Windows

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1"
RATE = 16_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones that rise and grow louder, of lengths around what models take whole."""
    folder = tmp_path_factory.mktemp("tones")
    for name, seconds, rate in (("two", 2.0, RATE), ("long", 7.3, RATE), ("minute", 60.0, RATE), ("more", 61.0, 8_000)):
        steps = np.arange(round(seconds * rate)) / rate
        wave = 0.3 * steps / seconds * np.sin(2 * np.pi * (200 + 300 * steps / seconds) * steps)
        soundfile.write(folder / f"{name}.wav", wave, rate)
    return folder


def lines(scorer: Scorer, chosen: Sequence[Utterance], root: Path, batch: int = 5) -> list[Record]:
    failed: list[Record] = []
    found = list(scorer.lines(chosen, root, batch, failed))
    assert not failed
    return found


def of(*names: str) -> list[Utterance]:
    return [Utterance(name, f"{name}.wav", "s", None) for name in names]


def changed(folder: Path, components: Mapping[str, object]) -> Path:
    shutil.copytree(BUNDLES / "mini-cnn", folder)
    about = json.loads((folder / "bundle.json").read_text())
    about["components"] |= components
    (folder / "bundle.json").write_text(json.dumps(about))
    return folder


@torch.inference_mode()
def whole(scorer: Scorer, path: Path, name: str) -> list[list[float]]:
    """Posterior and logits of a file in one piece, with nothing that cuts it into windows."""
    made, row = scorer.bundle, torch.zeros(1, dtype=torch.int64)
    wave = Padded.stack([audio.read(path, name, made.settings.audio)])
    batch = made.frontend(Batch((name,), {"wave": wave}, None, row, row))
    rng = Rng.for_rows(made.settings.seed, [name], [0], 0, "decision")
    posterior, logits = made.decider(made.model(batch.inputs, [made.decider.span]), batch, 1, rng)
    return [[round(x, 6) for x in values[0].tolist()] for values in (posterior, logits)]


@pytest.mark.parametrize(("name", "file"), [("mini-cnn", "minute"), ("whisper-frozen", "two")])
def test_up_to_its_limit_a_recording_is_scored_whole_to_the_bit(root: Path, name: str, file: str) -> None:
    scorer = Scorer(BUNDLES / name)
    (line,) = lines(scorer, of(file), root)
    assert [line["posterior"], line["logits"]] == whole(scorer, root / f"{file}.wav", file)
    assert not {"windows", "silent", KEY} & line.keys()


@pytest.mark.parametrize(
    ("name", "file", "windows"),
    [
        ("mini-cnn", "more", 381),  # of 0.32 s every 0.16 s: 1 + ceil((61 - 0.32) / 0.16)
        ("whisper-frozen", "long", 4),  # of 2 s
    ],
)
def test_beyond_it_is_cut_into_the_models_own_windows(root: Path, name: str, file: str, windows: int) -> None:
    scorer = Scorer(BUNDLES / name)
    first, line = lines(scorer, of("two", file), root)
    assert line["windows"] == windows
    assert line["seconds"] == {"more": 61.0, "long": 7.3}[file]
    assert first == lines(scorer, of("two"), root)[0]
    assert list(scorer(root / f"{file}.wav").values()) == pytest.approx(line["posterior"], abs=2e-6)


@pytest.mark.parametrize("name", ["mini-cnn", "whisper-frozen"])
@pytest.mark.parametrize("start", [0.0, 0.25])
@pytest.mark.parametrize("batch", [1, 2, 32])
def test_a_window_has_the_posterior_of_a_file_of_its_own(root: Path, name: str, start: float, batch: int) -> None:
    cutting = Cutting(Windows(1.5, 0.8), keep=True)
    one = Utterance("a", "long.wav", "s", None, start=start, duration=4.0)
    (line,) = lines(Scorer(BUNDLES / name, cutting=cutting), [one], root, batch)
    begin, end, windows = line[KEY]
    assert (begin, end) == (start, start + 4.0)
    assert [row[0] for row in windows] == pytest.approx([start + at for at in (0.0, 0.8, 1.6, 2.4, 2.5)])
    assert [row[1] for row in windows] == pytest.approx([row[0] + 1.5 for row in windows])
    alone = [
        Utterance(str(n), "long.wav", "s", None, start=row[0], duration=1.5 - 1 / RATE) for n, row in enumerate(windows)
    ]
    for row, other in zip(windows, lines(Scorer(BUNDLES / name), alone, root), strict=True):
        assert row[3:] == pytest.approx(other["posterior"], abs=2e-6)
        assert row[2] == int(np.argmax(other["posterior"]))


@pytest.mark.parametrize("decision", ["mean", "max_probability", "random"])
def test_windows_are_joined_as_the_bundle_decides(root: Path, tmp_path: Path, decision: str) -> None:
    components = {"segments": None, "decision": {"name": decision, "at": "whole"}}
    cutting = Cutting(Windows(1.0, 0.5), keep=True)
    (line,) = lines(Scorer(changed(tmp_path / "model", components), cutting=cutting), of("long"), root)
    rows = np.array([row[3:] for row in line[KEY][2]])
    assert len(rows) == line["windows"] == 14  # 1 + ceil((7.3 - 1) / 0.5)
    assert len({tuple(row) for row in rows}) == 14
    wanted = {
        "mean": rows.mean(0),
        "max_probability": rows[rows.max(1).argmax()],
        "random": rows[int(Rng.for_rows(0, ["long"], [0], 0, "decision").integers(torch.tensor([14]))[0])],
    }
    assert line["posterior"] == pytest.approx(wanted[decision], abs=2e-6)


def test_a_temperature_is_in_every_posterior_and_in_no_logit(root: Path, tmp_path: Path) -> None:
    found = []
    for name, temperature in (("plain", 1.0), ("warm", 2.0)):
        decision = {"name": "mean", "at": "whole", "temperature": temperature}
        folder, cutting = changed(tmp_path / name, {"segments": None, "decision": decision}), Cutting(keep=True)
        (file,) = lines(Scorer(folder), of("two"), root)
        (cut,) = lines(Scorer(folder, cutting=cutting._replace(windows=Windows(1.0, 0.5))), of("long"), root)
        assert list(Scorer(folder)(root / "two.wav").values()) == pytest.approx(file["posterior"], abs=2e-6)
        found.append((file, cut))
    (file, cut), (warm_file, warm_cut) = found
    assert warm_file["logits"] == file["logits"]
    assert warm_cut["logits"] == cut["logits"]
    assert warm_file["posterior"] == pytest.approx(rooted([file["posterior"]])[0], abs=1e-4)
    windows = rooted([row[3:] for row in cut[KEY][2]])
    assert [row[3:] for row in warm_cut[KEY][2]] == [pytest.approx(row, abs=1e-4) for row in windows]
    assert warm_cut["posterior"] == pytest.approx(np.mean(windows, 0), abs=1e-4)
    assert warm_file["posterior"] != pytest.approx(file["posterior"], abs=1e-2)


def rooted(posteriors: Sequence[Sequence[float]]) -> list[list[float]]:
    """What twice the temperature makes of the posteriors of a softmax: their roots, over the sum of these."""
    roots = np.sqrt(posteriors)
    made: list[list[float]] = (roots / roots.sum(1, keepdims=True)).tolist()
    return made


def test_every_segment_of_every_window_counts_alike(root: Path, tmp_path: Path) -> None:
    components = {"segments": "8:8:drop", "decision": {"name": "mean", "at": "segments"}}
    folder = changed(tmp_path / "model", components)
    (line,) = lines(Scorer(folder, cutting=Cutting(Windows(0.96, 0.96))), of("two"), root)
    # windows of 24 frames, three segments each; the third begins at 1.04 s
    starts = [0.0, 0.32, 0.64, 0.96, 1.28, 1.6, 1.04, 1.36, 1.68]
    (other,) = lines(Scorer(folder, cutting=Cutting(Windows(0.96, 0.96), keep=True)), of("two"), root)
    posteriors = np.array([row[3:] for row in other[KEY][2]])
    assert len(posteriors) * 3 == len(starts)
    assert line["posterior"] == pytest.approx(posteriors.mean(0), abs=2e-6)


def test_a_crop_is_taken_of_each_window(root: Path, tmp_path: Path) -> None:
    whole = {"segments": None, "decision": {"name": "mean", "at": "whole"}}
    folder = changed(tmp_path / "model", {**whole, "crop": {"length": 0.5, "hop": None, "score": "first"}})
    (line,) = lines(Scorer(folder, cutting=Cutting(Windows(0.5, 0.5), keep=True)), of("two"), root)
    own = [Utterance(str(n), "two.wav", "s", None, n / 2, 0.5 - 1 / RATE) for n in range(4)]
    wanted = np.array([other["posterior"] for other in lines(Scorer(folder), own, root)])
    assert line["posterior"] == pytest.approx(wanted.mean(0), abs=2e-6)


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gaps(tmp_path: Path) -> Path:
    """Half seconds of a tone at -20 dB: there, not, not, there, not."""
    tone = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 400 * np.arange(RATE // 2) / RATE)
    soundfile.write(tmp_path / "gaps.wav", np.concatenate([tone * there for there in (1, 0, 0, 1, 0)]), RATE)
    soundfile.write(tmp_path / "none.wav", np.zeros(RATE * 2), RATE)
    return tmp_path


def test_silent_windows_are_left_out_and_counted(gaps: Path) -> None:
    half = Windows(0.5, 0.5)
    every, none = (
        lines(Scorer(BUNDLES / "mini-cnn", cutting=Cutting(half, silence, keep=True)), of("gaps"), gaps)[0]
        for silence in (None, -21.0)
    )
    assert (every["windows"], "silent" in every) == (5, False)
    assert (none["windows"], none["silent"]) == (2, 3)
    np.testing.assert_allclose(none[KEY][2], [every[KEY][2][0], every[KEY][2][3]], atol=2e-6)


def test_a_silent_recording_has_its_line(gaps: Path) -> None:
    scorer = Scorer(BUNDLES / "mini-cnn", cutting=Cutting(Windows(0.5, 0.5), -60.0, keep=True))
    (line,) = lines(scorer, of("none"), gaps)
    assert (line["windows"], line["silent"], line[KEY][2][0][:2]) == (1, 3, [0.0, 0.5])


# --- failures and bounds ----------------------------------------------------------------------------------------------


def test_a_recording_that_fails_late_is_one_failure(root: Path, tmp_path: Path) -> None:
    wave = np.full(3 * RATE, 0.1, np.float32)
    wave[-9] = np.nan
    soundfile.write(tmp_path / "bad.wav", wave, RATE, subtype="FLOAT")
    shutil.copy(root / "two.wav", tmp_path)
    failed: list[dict[str, Any]] = []
    scorer = Scorer(BUNDLES / "mini-cnn", cutting=Cutting(Windows(1.0, 1.0)))
    found = list(scorer.lines(of("bad", "two"), tmp_path, 1, failed))
    assert ([line["id"] for line in found], [one["id"] for one in failed]) == (["two"], ["bad"])
    assert failed[0]["reason"].startswith("bad: ")
    assert "no numbers" in failed[0]["reason"]


def test_a_window_whose_values_are_not_finite_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(BUNDLES / "mini-cnn", cutting=Cutting(Windows(1.0, 1.0)))
    seen = scorer._seen

    def torn(ids: Sequence[str], copies: Sequence[int], inputs: Sequence[Any]) -> tuple[Tensor, Tensor, Any]:
        posterior, logits, view = seen(ids, copies, inputs)
        odd = torch.tensor([[copy == 3 * RATE] for copy in copies])
        return posterior, torch.where(odd, torch.nan, logits), view

    monkeypatch.setattr(scorer, "_seen", torn)
    failed: list[dict[str, Any]] = []
    assert list(scorer.lines(of("long"), root, 2, failed)) == []
    assert [one["reason"] for one in failed] == [
        "long: the model gives its window at 3 s values that are not finite. Look at its audio."
    ]


def test_at_most_half_a_minute_of_audio_goes_through_the_model_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    scorer = Scorer(BUNDLES / "mini-cnn", cutting=Cutting(Windows(9.0, 1.0)))
    seen = scorer._seen
    monkeypatch.setattr(scorer, "_seen", lambda ids, copies, inputs: rows.append(len(ids)) or seen(ids, copies, inputs))
    monkeypatch.setattr(audio, "decode", lambda *_: pytest.fail("a whole file was read"))
    assert lines(scorer, of("minute"), root, 32)[0]["windows"] == 52
    assert max(rows) == 3


@pytest.mark.parametrize(("name", "length"), [("whisper-frozen", 2.5), ("mini-cnn", 0.05)])
def test_windows_that_a_model_cannot_take_are_refused_at_once(name: str, length: float) -> None:
    with pytest.raises(UsageError, match="--windows has windows of"):
        Scorer(BUNDLES / name, cutting=Cutting(Windows(length, 1.0)))
