"""ffmpeg, run where a setting allows it: a stand-in on PATH, and the real one where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import InputError
from sertk.corpus import audio, ffmpeg
from sertk.corpus.features import stores
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.scoring.scorer import Scorer
from sertk.settings import merge
from sertk.settings.plain import bundled, identity
from sertk.settings.schema import AudioSettings
from sertk.testing.trees.anybody import folders

BUNDLE = Path(__file__).parents[1] / "modeling" / "bundles" / "schema-1" / "mini-cnn"
REAL = shutil.which("ffmpeg")
OUT = 'cat "$0.wav"'  # what the stand-in does where all is well


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = OUT) -> Path:
    """A program ffmpeg that is found first; gives the file of its words."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "$0.words"\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    samples = np.stack([np.linspace(-0.5, 0.5, 4410), np.zeros(4410)], 1)
    soundfile.write(f"{program}.wav", samples, 22050, subtype="FLOAT")
    raw = bytearray(Path(f"{program}.wav").read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = b"\xff" * 4  # a pipe's header
    Path(f"{program}.wav").write_bytes(raw)
    return Path(f"{program}.words")


def m4a(folder: Path, name: str = "a.m4a") -> Path:
    (folder / name).write_bytes(b"\0\0\0 ftypM4A and no more")
    return folder / name


def test_a_file_that_is_scored_goes_through_ffmpeg_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = stand_in(tmp_path, monkeypatch, f'echo run >> "$0.runs"\n{OUT}')
    posterior = Scorer(BUNDLE, ffmpeg=True)(m4a(tmp_path))
    assert sum(posterior.values()) == pytest.approx(1)
    assert words.with_name("ffmpeg.runs").read_text() == "run\n"


def test_ffmpeg_is_run_where_it_is_allowed_and_its_wave_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, path = stand_in(tmp_path, monkeypatch), m4a(tmp_path)
    samples, rate = audio.decode(path, "utt7", ffmpeg=True)
    assert (samples.shape, rate) == ((4410, 2), 22050)
    np.testing.assert_allclose(samples[:, 0], np.linspace(-0.5, 0.5, 4410), atol=1e-6)
    np.testing.assert_array_equal(audio.decode(path, "utt7", 0.1, 0.08, ffmpeg=True)[0], samples[2205:3969])
    assert len(audio.read(path, "utt7", AudioSettings(ffmpeg=True))) == 3200
    said = words.read_text().split("\n")
    assert said[said.index("-i") + 1] == f"file:{path}"
    assert "-nostdin" in said


def test_what_ffmpeg_makes_is_read_whole_in_blocks_and_refused_at_once_where_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, path = stand_in(tmp_path, monkeypatch), m4a(tmp_path)
    monkeypatch.setattr(audio, "MOST", 4410)  # half of it
    assert sum(len(block) for block, _ in audio.blocks(path, "utt7", ffmpeg=True)) == 4410
    said = words.read_text().split("\n")
    assert int(said[said.index("-fs") + 1]) > 24 * 3600 * 48_000 * 2 * 4
    assert said[said.index("-f") + 1] == "w64"
    with pytest.raises(InputError, match="4410 samples are read at once"):
        audio.decode(path, "utt7", ffmpeg=True)


def test_what_ffmpeg_cut_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, 'head -c 20000 "$0.wav"')
    monkeypatch.setattr(audio, "DECODED", 20_000)
    with pytest.raises(InputError, match=r"a\.m4a is longer than what is read: decoded, it has over 20000 bytes"):
        list(audio.blocks(m4a(tmp_path), "utt7", ffmpeg=True))


def test_ffmpeg_is_not_run_for_what_libsndfile_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = stand_in(tmp_path, monkeypatch)
    soundfile.write(tmp_path / "a.wav", np.ones(2000) / 9, 16000)
    assert len(audio.decode(tmp_path / "a.wav", "utt7", ffmpeg=True)[0]) == 2000
    (tmp_path / "a.raw").write_bytes(b"\0\1" * 4000)  # ffmpeg would guess its rate
    with pytest.raises(InputError, match="it has no header that says its rate"):
        audio.decode(tmp_path / "a.raw", "utt7", ffmpeg=True)
    assert not words.exists()


def test_without_the_setting_the_refusal_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = stand_in(tmp_path, monkeypatch)
    with pytest.raises(
        InputError, match=r"utt7: .*a\.m4a is not audio .*Convert it \(ffmpeg -i IN OUT\.wav, or have "
    ) as e:
        audio.decode(m4a(tmp_path), "utt7")
    assert "--ffmpeg, or audio.ffmpeg: true in a recipe" in str(e.value)
    assert not words.exists()


def test_without_ffmpeg_it_is_said_that_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"a\.m4a is read by ffmpeg, which is not installed\. Install it"):
        audio.decode(m4a(tmp_path), "utt7", ffmpeg=True)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (f'{OUT}\necho "[mov @ 0x55ad] stream 0: partial file" >&2', r"read all of it \(stream 0: partial file\)"),
        (f"{OUT}\nexit 3", r"read all of it \(exit code 3\)"),
        ("exec sleep 60", "did not end within 0 s"),
        ("true", "Format not recognised|not audio|empty"),
    ],
)
def test_what_ffmpeg_does_not_read_whole_is_refused_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    monkeypatch.setattr(ffmpeg, "PATIENCE", 0 if "sleep" in script else 20)
    with pytest.raises(InputError, match=f"^utt7: .*({says})"):
        audio.decode(m4a(tmp_path), "utt7", ffmpeg=True)


def test_prepare_and_score_run_it_where_they_are_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch)
    root = folders(tmp_path / "in", seconds=0.11)
    m4a(root / "anger", "ann_9.m4a")
    words = ["prepare", "folder:speaker=([a-z]+)_,title=mine", "--root", str(root), "--out", str(tmp_path / "data")]
    assert CliRunner().invoke(app, words).exit_code == 3
    assert "anger/ann_9.m4a" not in Data(tmp_path / "data").utterances
    assert CliRunner().invoke(app, [*words, "--ffmpeg"]).exit_code == 0
    assert Data(tmp_path / "data").facts["anger/ann_9.m4a"].seconds == 0.2
    assert CliRunner().invoke(app, words).exit_code == 3  # what is known of it does not stand in for the permission
    score = ["score", str(BUNDLE), str(root / "anger" / "ann_9.m4a"), "--device", "cpu"]
    assert CliRunner().invoke(app, score).exit_code == 1
    done = CliRunner().invoke(app, [*score, "--ffmpeg"])
    assert (done.exit_code, json.loads(done.stdout)["seconds"]) == (0, 0.2)


def test_the_setting_changes_no_run_and_no_key_of_features_and_goes_with_the_bundle() -> None:
    without, with_it = (merge.load("mini-cnn", None, {"audio.ffmpeg": word}) for word in (False, True))
    assert with_it.audio.ffmpeg
    assert identity(with_it) == identity(without)
    plugins, data = Plugins(), Path("data")
    assert {name: one.folder for name, one in stores(data, with_it, plugins).items()} == {
        name: one.folder for name, one in stores(data, without, plugins).items()
    }
    assert bundled(with_it)["audio"]["ffmpeg"] is True


@pytest.mark.skipif(REAL is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", ["m4a", "webm", "wma", "mp4", "aac"])
def test_the_real_ffmpeg_reads_what_it_wrote_and_refuses_half_of_it(tmp_path: Path, suffix: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(24_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    path = tmp_path / f"a.{suffix}"
    subprocess.run([str(REAL), "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    samples, rate = audio.decode(path, "utt7", ffmpeg=True)
    assert abs(len(samples) / rate - 1.5) < 0.2
    middle = samples[rate // 2 : rate, 0]
    assert abs(np.abs(np.fft.rfft(middle)).argmax() - 150) <= 1  # 300 Hz in half a second
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 5 // 8])
    with pytest.raises(InputError, match="ffmpeg cannot read all of it"):
        audio.decode(path, "utt7", ffmpeg=True)
