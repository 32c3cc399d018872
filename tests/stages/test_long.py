"""Emotion over time through the stages: kept over kills, from a stream, drawn."""

from __future__ import annotations

import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import InputError, SertkError, UsageError, Utterance
from sertk.core.files import write_jsonl
from sertk.results import figures
from sertk.scoring.over_time import read
from sertk.scoring.scorer import Scorer
from sertk.stages.score import merge, score
from sertk.stages.stream import stream
from sertk.stages.timeline import timeline

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1"
BUNDLE = BUNDLES / "mini-cnn"
RATE = 16_000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of rising tones."""
    folder = tmp_path_factory.mktemp("tones")
    for number, seconds in enumerate((2.0, 0.7, 1.3)):
        steps = np.arange(round(seconds * RATE)) / RATE
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * (200 + 150 * steps) * steps), RATE)
    write_jsonl(folder / "manifest.jsonl", (Utterance(f"u{n}", f"{n}.wav", "s", None).to_json() for n in range(3)))
    return folder / "manifest.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(*words: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], input=given)


class Killed(BaseException):
    """What no handler catches, as a kill."""


def test_windows_survive_a_kill_and_other_windows_are_made_anew(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 1)
    recording, seen, last = Scorer._recording, list[str](), "u1"

    def watched(self: Scorer, one: Utterance, root: Path, batch: int) -> Any:  # noqa: ANN401
        seen.append(one.id)
        if one.id == last:
            raise Killed
        return recording(self, one, root, batch)

    def run(folder: str, windows: str = "0.5s:0.25s", silence: float | None = None) -> list[str]:
        seen.clear()
        out, over = tmp_path / folder / "scores.jsonl", tmp_path / folder / "over.csv"
        score(BUNDLE, [str(manifest)], out, windows=windows, over_time=over, skip_silence=silence)
        return [*seen]

    monkeypatch.setattr(Scorer, "_recording", watched)
    with pytest.raises(Killed):
        run("killed")
    last = ""
    last = "u2"
    with pytest.raises(Killed):
        run("killed")
    last = ""
    assert run("killed") == ["u2"]
    assert run("whole") == ["u0", "u1", "u2"]
    for name in ("scores.jsonl", "over.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for other in ({"windows": "0.5s:0.5s"}, {"silence": -90.0}):
        last = "u2"
        with pytest.raises(Killed):
            run("other")
        last = ""
        assert run("other", **other) == ["u0", "u1", "u2"]  # type: ignore[arg-type] # of either kind


def test_without_windows_asked_for_lines_are_as_ever_and_each_recording_is_a_window(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(BUNDLE, [str(manifest)], tmp_path / "plain.jsonl")
    score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl", over_time=tmp_path / "over.jsonl")
    assert f"wrote {tmp_path / 'over.jsonl'}: the windows of each recording\n" in capsys.readouterr().err
    assert (tmp_path / "plain.jsonl").read_bytes() == (tmp_path / "scores.jsonl").read_bytes()
    found = lines(tmp_path / "over.jsonl")
    assert [(one["id"], one["start"], one["end"]) for one in found] == [("u0", 0, 2), ("u1", 0, 0.7), ("u2", 0, 1.3)]
    for one, other in zip(found, lines(tmp_path / "plain.jsonl"), strict=True):
        assert [*one["posterior"].values()] == other["posterior"]
        assert one["decision"] == other["decision"]


def test_windows_are_written_beside_printed_lines_too(manifest: Path, tmp_path: Path) -> None:
    done = call("score", BUNDLE, manifest, "--windows", "1s:1s", "--over-time", tmp_path / "grids")
    assert done.exit_code == 0
    assert [json.loads(line)["windows"] for line in done.stdout.splitlines()] == [2, 1, 2]
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [f"u{n}.TextGrid" for n in range(3)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_windows_of_shards_are_joined_to_what_one_run_writes(manifest: Path, tmp_path: Path, suffix: str) -> None:
    whole, joined = tmp_path / f"whole{suffix}", tmp_path / f"joined{suffix}"
    score(BUNDLE, [str(manifest)], tmp_path / "all.jsonl", windows="0.5s:0.25s", over_time=whole)
    out = tmp_path / "out"
    for k in (1, 2):  # of one recording and of two
        windows = out / f"{k}.windows{suffix}"  # among out/*.jsonl, as one who merges gives them
        score(BUNDLE, [str(manifest)], out / f"{k}.jsonl", windows="0.5s:0.25s", over_time=windows, shard=f"{k}/2")
    assert merge(sorted(out.glob("*.jsonl")), tmp_path / "merged.jsonl", over_time=joined) == 0
    assert joined.read_bytes() == whole.read_bytes()
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()


def test_windows_that_cannot_be_joined_are_refused(manifest: Path, tmp_path: Path) -> None:
    ones = [tmp_path / f"{k}.jsonl" for k in (1, 2)]
    for k, one in enumerate(ones, 1):
        score(BUNDLE, [str(manifest)], one, over_time=one.with_suffix(".csv"), shard=f"{k}/2")
    for path, message in {
        "all.jsonl": r"the windows of .*1\.jsonl are in .*1\.csv\. Give --over-time FILE\.csv\.",
        "grids": r"--over-time .*grids does not go with --merge: only FILE\.jsonl and FILE\.csv",
        "1.csv": r"--over-time would overwrite .*1\.csv",
    }.items():
        with pytest.raises(SertkError, match=message):
            merge(ones, tmp_path / "merged.jsonl", over_time=tmp_path / path)
    (tmp_path / "2.csv").write_text("id\n")
    with pytest.raises(SertkError, match=r"2\.csv was changed or cut short"):
        merge(ones, tmp_path / "merged.jsonl", over_time=tmp_path / "all.csv")
    (tmp_path / "2.csv").unlink()
    with pytest.raises(SertkError, match=r"2\.csv is missing"):
        merge(ones, tmp_path / "merged.jsonl", over_time=tmp_path / "all.csv")
    score(BUNDLE, [str(manifest)], ones[1], shard="2/2")
    with pytest.raises(SertkError, match=r"2\.jsonl was scored without --over-time FILE"):
        merge(ones, tmp_path / "merged.jsonl", over_time=tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()
    assert not (tmp_path / "merged.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "--stream", "16000", "--over-time", "a.csv"], "--over-time does not go with --stream"),
        (["-", "--stream", "16000", "--shard", "1/2"], "--shard does not go with --stream"),
        (["a.wav", "--stream", "16000"], "give - as the only input"),
        (["-", "--stream", "7"], "--stream 7 is no rate"),
        (["a.wav", "--windows", "4:2"], "is not LENGTH:HOP in seconds"),
        (["a.wav", "--merge", "--out", "b.jsonl", "--windows", "4s:2s"], "--windows does not go with --merge"),
        (["a.wav", "--over-time", "a.txt"], "is not FILE.jsonl, FILE.csv"),
        (["a.jsonl", "--over-time", "a.jsonl"], "--over-time would overwrite a.jsonl"),
        (
            ["a.wav", "--skip-silence", "nan"],
            "--skip-silence is nan; it is finite, at most 0 dB relative to full scale",
        ),
        (["a.wav", "--skip-silence", "50"], "--skip-silence is 50.0; it is at most 0 dB"),
        (["-", "--stream", "16000", "--skip-silence", "inf"], "--skip-silence is inf; it is finite, at most 0 dB"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    done = call("score", BUNDLE, *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


# --- a stream ---------------------------------------------------------------------------------------------------------


class Microphone(io.BytesIO):
    """Standard input that gives so many bytes at a time; after the last of them Ctrl-C is pressed, or it ends.

    Args:
        samples: (S,) from -1 to 1.
        size: Bytes at a time.
        interrupted: Whether Ctrl-C is pressed.
    """

    def __init__(self, samples: np.ndarray, size: int, *, interrupted: bool = False) -> None:
        super().__init__((samples * 32767).astype("<i2").tobytes())
        self._size, self._interrupted = size, interrupted
        self.buffer = self

    def read1(self, size: int | None = -1, /) -> bytes:
        assert size
        found = super().read1(min(self._size, size))
        if not found and self._interrupted:
            raise KeyboardInterrupt
        return found


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    wave: np.ndarray = np.random.default_rng(3).normal(0, 0.1, round(seconds * rate)).clip(-1, 1)
    return wave


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_a_stream_has_the_windows_that_the_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    wave = noise(2.2, rate)
    microphone = Microphone(wave, 999)
    soundfile.write(tmp_path / "-", np.frombuffer(microphone.getvalue(), "<i2"), rate, format="WAV")
    monkeypatch.setattr(sys, "stdin", microphone)
    assert stream(BUNDLE, rate, tmp_path / "stream.jsonl", windows="1s:0.5s", device="cpu") == 0
    write_jsonl(tmp_path / "m.jsonl", [Utterance("-", "-", "unknown", None).to_json()])
    whole, over = tmp_path / "scores.jsonl", tmp_path / "over.jsonl"
    score(BUNDLE, [str(tmp_path / "m.jsonl")], whole, windows="1s:0.5s", over_time=over, device="cpu")
    found, wanted = lines(tmp_path / "stream.jsonl"), lines(over)
    assert [(one["start"], one["end"]) for one in found] == [(0, 1), (0.5, 1.5), (1, 2), (1.2, 2.2)]
    for one, other in zip(found, wanted, strict=True):
        assert [*one["posterior"].values()] == pytest.approx([*other["posterior"].values()], abs=2e-6)
        assert {**one, "posterior": 0} == {**other, "posterior": 0}


def test_a_line_is_there_before_the_next_audio_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, counts = tmp_path / "out.jsonl", []

    class Watched(Microphone):
        def read1(self, size: int | None = -1, /) -> bytes:
            counts.append(len(out.read_bytes().splitlines()))
            return super().read1(size)

    monkeypatch.setattr(sys, "stdin", Watched(noise(2.0), 2 * RATE // 2))  # half a second at a time
    stream(BUNDLE, RATE, out, windows="1s:0.5s", device="cpu")
    assert counts == [0, 0, 1, 2, 3]


def test_ctrl_c_ends_a_stream_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Microphone(noise(2.2), 999, interrupted=True))
    try:
        failed = stream(BUNDLE, RATE, tmp_path / "out.jsonl", windows="1s:1s", device="cpu")
    except KeyboardInterrupt:  # else pytest would stop
        failed = -1
    assert failed == 0
    assert [one["start"] for one in lines(tmp_path / "out.jsonl")] == [0, 1]
    assert "2 windows scored, 0 silent ones left out" in capsys.readouterr().err


def test_silence_in_a_stream_has_no_line_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = np.concatenate([noise(0.5), np.zeros(RATE), noise(0.5)])
    monkeypatch.setattr(sys, "stdin", Microphone(wave, 4_000))
    stream(BUNDLE, RATE, tmp_path / "out.jsonl", windows="0.5s:0.5s", skip_silence=-50.0, device="cpu")
    assert [one["start"] for one in lines(tmp_path / "out.jsonl")] == [0, 1.5]
    assert "2 windows scored, 2 silent ones left out" in capsys.readouterr().err


def test_a_window_that_fails_does_not_end_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Scorer._seen

    def torn(self: Scorer, ids: Any, copies: Any, inputs: Any) -> Any:  # noqa: ANN401
        if copies == [RATE]:
            raise ValueError("odd")
        return seen(self, ids, copies, inputs)

    monkeypatch.setattr(Scorer, "_seen", torn)
    monkeypatch.setattr(sys, "stdin", Microphone(noise(3.0), 4_000))
    assert stream(BUNDLE, RATE, tmp_path / "out.jsonl", windows="1s:1s", device="cpu") == 1
    assert [one["start"] for one in lines(tmp_path / "out.jsonl")] == [0, 2]
    assert "2 windows scored, 0 silent ones left out, 1 failed" in capsys.readouterr().err


def test_a_stream_without_audio_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Microphone(noise(0.0), 10))
    with pytest.raises(InputError, match="ended before there was audio"):
        stream(BUNDLE, RATE, tmp_path / "out.jsonl", device="cpu")


def test_a_stream_without_standard_input_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as `<&-` leaves it
    with pytest.raises(InputError, match="there is no standard input: it is closed"):
        stream(BUNDLE, RATE, tmp_path / "out.jsonl", device="cpu")
    assert not (tmp_path / "out.jsonl").exists()


def test_windows_as_short_as_the_model_takes_are_scored(manifest: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.jsonl"
    assert score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl", windows="0.1s:0.1s", over_time=over) == 0
    assert [one["windows"] for one in lines(tmp_path / "scores.jsonl")] == [20, 7, 13]
    soundfile.write(tmp_path / "short.wav", noise(0.0999), RATE)
    soundfile.write(tmp_path / "enough.wav", noise(0.1), RATE)
    both = [str(tmp_path / "short.wav"), str(tmp_path / "enough.wav")]
    assert score(BUNDLE, both, tmp_path / "both.jsonl", windows="1s:1s") == 1
    (failed,) = lines(tmp_path / "both.failed.jsonl")
    assert "short.wav: 0.100 s of audio, less than audio.min_seconds (0.1 s)" in failed["reason"]


# --- a drawing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(manifest: Path, tmp_path: Path) -> Path:
    score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl", windows="1s:0.5s", over_time=tmp_path / "over.csv")
    return tmp_path / "over.csv"


def test_a_recording_is_drawn_as_png_and_svg(drawn: Path, manifest: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.svg"):
        done = call("timeline", drawn, manifest.parent / "0.wav", "--id", "u0", "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_what_is_drawn_is_the_envelope_and_the_posterior_of_each_stretch(
    drawn: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[figures.Timeline]()
    monkeypatch.setattr("sertk.stages.timeline.draw_timeline", lambda _, one: found.append(one))
    monkeypatch.setattr("sertk.stages.timeline.COLUMNS", 3)
    timeline(drawn, manifest.parent / "0.wav", tmp_path / "a.png", "u0")
    wave, (one,) = soundfile.read(manifest.parent / "0.wav")[0], found
    thirds = [wave[:10_667], wave[10_667:21_334], wave[21_334:]]
    assert one.step == 10_667 / RATE
    assert one.low == pytest.approx([part.min() for part in thirds])
    assert one.high == pytest.approx([part.max() for part in thirds])
    assert one.borders == [0.0, 0.75, 1.25, 2.0]
    assert one.posterior == [window.posterior for window in read(drawn)[1]["u0"]]


def test_which_recording_is_drawn_must_be_clear(drawn: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Give --id, one of 3: u0, u1, u2"):
        timeline(drawn, manifest.parent / "0.wav", tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"is no FILE\.png or FILE\.svg"):
        timeline(drawn, manifest.parent / "0.wav", tmp_path / "a.gif", "u0")
    with pytest.raises(InputError, match="is missing"):
        timeline(drawn, manifest.parent / "9.wav", tmp_path / "a.png", "u0")


def test_windows_of_another_recording_are_not_drawn(drawn: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the windows of u0 go on to 2 s, and .*1\.wav ends at 0\.7 s\. Give the rec"):
        timeline(drawn, manifest.parent / "1.wav", tmp_path / "a.png", "u0")
    assert not (tmp_path / "a.png").exists()


def test_a_recording_that_ffmpeg_alone_reads_is_drawn_where_ffmpeg_is_allowed(
    drawn: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncat "{manifest.parent / "0.wav"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "a.m4a").write_bytes(b"no wave")
    words = ("timeline", drawn, tmp_path / "a.m4a", "--id", "u0", "--out", tmp_path / "a.png")
    done = call(*words)
    assert done.exit_code == 1
    assert "have ffmpeg run for such files: --ffmpeg" in done.stderr
    done = call(*words, "--ffmpeg")
    assert done.exit_code == 0, done.output
    assert "3 windows of u0, 2.0 s" in done.stderr


def test_stretches_without_a_window_stay_empty(tmp_path: Path) -> None:
    found = figures.Timeline("a", ["x", "y"], 0.5, [-0.1] * 4, [0.1] * 4, [0.0, 0.5, 1.5, 2.0], [[1, 0], None, [0, 1]])
    figures.draw_timeline(tmp_path / "a.svg", found)
    text = (tmp_path / "a.svg").read_text()
    areas = re.findall(r'id="FillBetweenPolyCollection_\d+">(.*?)</g>', text, re.DOTALL)
    # the waveform and two classes, these in two pieces each
    assert [sum(path.count("M") for path in re.findall(r' d="([^"]*)"', area)) for area in areas] == [1, 2, 2]
