"""How speakers are found, heard and stamped when a system that is normalised by speaker scores."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core import SertkError, UsageError, Utterance
from sertk.corpus.audit import stamped
from sertk.corpus.prepared import Data
from sertk.modeling.speakers import moments, shrunk
from sertk.scoring import speakers as speaking
from sertk.scoring.inputs import Inputs, find_inputs
from sertk.scoring.scorer import Scorer
from sertk.scoring.speakers import Named, hear
from sertk.settings import merge
from sertk.stages.score import score, score_runs

K = 4.0


@pytest.fixture(scope="module")
def system(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system of one run that was trained for an epoch."""
    from sertk.stages.train import train  # late: see test_recipe

    folder = tmp_path_factory.mktemp("exp") / "emobox/mini"
    more = {"fold": "1", "train.epochs": 1, "train.threads": 1, "backbone": {"name": "frames"}}
    own = {"protocol": "emobox", "normalize": "speaker", "speakers.shrink": K, **more}
    train(merge.load("mini-cnn", None, own), Data(data), folder / "fold=1/seed=0")
    return folder


@pytest.fixture(scope="module")
def model(system: Path) -> Path:
    return system / "fold=1/seed=0/model"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of ann (three), ben (two) and one of cy."""
    folder = tmp_path_factory.mktemp("tones")
    for number, name in enumerate(("ann_1", "ann_2", "ann_3", "ben_1", "ben_2", "cy_1")):
        steps = np.arange((5 + number % 4) * 1600) / 16_000
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * 150 * (number + 2) * steps), 16_000)
    return folder


def lines(path: Path) -> dict[str, dict[str, Any]]:
    """Score lines by the name of their file."""
    return {Path(line["id"]).stem: line for line in map(json.loads, path.read_text().splitlines())}


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, words)])


def refusal(*words: object, code: int = 2) -> str:
    done = cli(*words)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


def scored(model: Path, inputs: Path | str, out: Path, *options: object) -> dict[str, dict[str, Any]]:
    done = cli(model, inputs, "--out", out, "--device", "cpu", *options)
    assert done.exit_code == 0, done.output
    return lines(out)


WHO = ("--speaker-of", r"/(\w+)_\d\.wav$")


def alone(model: Path, path: Path, of: Sequence[Path]) -> list[float]:
    """The posterior of a recording whose speaker is heard in some others, from the parts one by one."""
    scorer = Scorer(model)
    found = []
    for one in of:
        wave = torch.from_numpy(soundfile.read(one, dtype="float32")[0])
        inputs = scorer.bundle.frontend.features["mel"](speaking_padded(wave))
        found.append(moments(scorer.bundle.model.normalize["mel"](inputs)))
    own = shrunk(torch.stack(found).sum(0) if found else torch.zeros(1, 81), K)
    wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    mel = scorer.bundle.frontend.features["mel"](speaking_padded(wave))
    with torch.inference_mode():
        span = scorer.bundle.decider.span
        return scorer.bundle.model({"mel": mel}, [span], {"mel": own})[span].posterior[0].tolist()


def speaking_padded(wave: torch.Tensor) -> Any:  # noqa: ANN401
    from sertk.core import Padded

    return Padded.stack([wave])


def near(line: dict[str, Any], posterior: list[float]) -> None:
    assert line["posterior"] == pytest.approx(posterior, abs=2e-5)


def test_a_speaker_is_heard_in_all_of_its_recordings_that_are_scored(model: Path, tones: Path, tmp_path: Path) -> None:
    found = scored(model, tones, tmp_path / "scores.jsonl", *WHO, "--batch", 2)
    own = {name: sorted(tones.glob(f"{name}_*")) for name in ("ann", "ben", "cy")}
    for name, line in found.items():
        assert line["speaker"] == name.split("_")[0]
        near(line, alone(model, tones / f"{name}.wav", own[line["speaker"]]))
    assert {line["stamp"] for line in found.values()} == {"unaudited, speaker-normalised"}
    # who speaks changes what comes out
    assert found["ann_1"]["posterior"] != pytest.approx(alone(model, tones / "ann_1.wav", []), abs=1e-3)


def test_recordings_without_a_known_speaker_have_the_statistics_of_training(
    model: Path, tones: Path, tmp_path: Path
) -> None:
    done = cli(model, tones, "--out", tmp_path / "scores.jsonl", "--speaker-of", r"(ann)_")
    assert "3 of 6 utterances have no speaker that is known: they have the statistics of training alone" in " ".join(
        done.stderr.split()
    )
    found = lines(tmp_path / "scores.jsonl")
    for name in ("ben_1", "cy_1"):
        near(found[name], alone(model, tones / f"{name}.wav", []))
        assert found[name]["posterior"] == pytest.approx([*Scorer(model)(tones / f"{name}.wav").values()], abs=2e-6)
    near(found["ann_2"], alone(model, tones / "ann_2.wav", sorted(tones.glob("ann_*"))))


def test_enrolment_is_what_the_speakers_are_known_by_and_nothing_of_it_is_scored(
    model: Path, tones: Path, tmp_path: Path
) -> None:
    enrol, rest = tmp_path / "enrol", tmp_path / "rest"
    for folder, names in ((enrol, ("ann_1", "ann_2", "cy_1")), (rest, ("ann_3", "ben_1"))):
        folder.mkdir()
        for name in names:
            shutil.copy(tones / f"{name}.wav", folder)
    found = scored(model, rest, tmp_path / "scores.jsonl", "--enrol", enrol, *WHO)
    assert [*found] == ["ann_3", "ben_1"]
    near(found["ann_3"], alone(model, tones / "ann_3.wav", [tones / "ann_1.wav", tones / "ann_2.wav"]))
    near(found["ben_1"], alone(model, tones / "ben_1.wav", []))
    own = Named(r"/(\w+)_\d")
    heard, known = (Inputs(own.of(find_inputs([str(one)], {}, []).utterances), Path(), {}) for one in (rest, enrol))
    assert hear(Scorer(model), heard, known, 2).stamp == {"how": "disjoint", "n": [2, 2], "shrink": K, "without": 1}
    # a recording counts once, whoever is enrolled beside it
    only = scored(model, rest / "ann_3.wav", tmp_path / "one.jsonl", "--enrol", enrol, *WHO)
    assert only["ann_3"]["posterior"] == pytest.approx(found["ann_3"]["posterior"], abs=2e-6)


def test_a_recording_that_is_scored_and_enrolled_is_refused(model: Path, tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    assert "6 recordings are scored, and --enrol has them too, such as" in refusal(
        model, tones, "--out", out, "--enrol", tones, *WHO
    )
    assert not out.exists()


def test_cuts_of_one_file_are_disjoint_where_they_do_not_overlap(tones: Path) -> None:
    def of(start: float, duration: float | None) -> Inputs:
        return Inputs([Utterance("u", "ann_1.wav", "ann", None, start, duration)], tones, {})

    speaking._check_disjoint(of(1.0, 1.0), of(2.0, 1.0))
    speaking._check_disjoint(of(0.0, 1.0), of(1.0, 1.0))  # the first cut begins where the file does
    for other in ((1.5, 1.0), (0.0, None), (0.0, 1.5)):
        with pytest.raises(UsageError, match="1 recordings are scored, and --enrol has them too, such as u"):
            speaking._check_disjoint(of(1.0, 1.0), of(*other))


def test_a_prepared_part_hears_its_speakers_and_says_so_in_its_metrics(
    system: Path, data: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(system, tmp_path / "mini"))
    score_runs(runs, [str(data)], device="cpu")
    metrics = json.loads((runs / "fold=1/seed=0/metrics.json").read_text())
    people = Counter(Data(data).utterances[i].speaker for i in Data(data).protocol("emobox").folds["1"].test)
    assert metrics["protocol"]["speakers"] == {
        "how": "transductive",
        "n": [min(people.values()), max(people.values())],
        "shrink": K,
        "without": 0,
    }
    assert metrics["protocol"]["stamp"] == "speaker-independent"
    n = people.most_common(1)[0][1]
    said = f"speaker-independent, speaker-normalised (transductive, n = {n} utterances a speaker, shrunk with k = 4)"
    assert stamped(metrics["protocol"]).startswith(said)
    stored = lines(runs / "fold=1/seed=0/scores.jsonl")
    assert metrics["took"]["from"] == "store"
    # from the audio, and one by one, they are the same
    made = scored(runs / "fold=1/seed=0/model", data, tmp_path / "audio.jsonl", "--from", "audio", "--batch", 1)
    assert {*made} == {*stored}
    for name, line in made.items():
        assert line["posterior"] == pytest.approx(stored[name]["posterior"], abs=2e-5)


def test_what_was_scored_with_other_statistics_is_not_taken_up(
    model: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(tones / "ann_1.wav", few)
    out, asked, window = tmp_path / "scores.jsonl", list[int](), Scorer.window

    def counted(self: Scorer, *given: Any) -> Any:  # noqa: ANN401
        asked.append(len(given[0]))
        return window(self, *given)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scorer, "window", counted)
    import sertk.stages.score as stage

    own = stage._write
    enrol = {"enrol": str(few), "named": Named(r"(\w+)_\d")}
    rest = [str(tones / "ann_2.wav")]
    monkeypatch.setattr(stage, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        score(model, rest, out, device="cpu", **enrol)  # type: ignore[arg-type]
    monkeypatch.setattr(stage, "_write", own)
    score(model, rest, out, device="cpu", **enrol)  # type: ignore[arg-type]
    assert asked == [1]  # finished before
    monkeypatch.setattr(stage, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        score(model, rest, out, device="cpu", **enrol)  # type: ignore[arg-type]
    monkeypatch.setattr(stage, "_write", own)
    (few / "ann_1.wav").unlink()
    shutil.copy(tones / "ann_3.wav", few)  # as many, and another
    score(model, rest, out, device="cpu", **enrol)  # type: ignore[arg-type]
    assert asked == [1, 1, 1]
    near(lines(out)["ann_2"], alone(model, tones / "ann_2.wav", [tones / "ann_3.wav"]))


def test_an_input_that_cannot_be_read_counts_in_no_statistics(model: Path, tones: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tones, tmp_path / "tones"))
    (folder / "ann_4.wav").write_bytes(b"RIFF")
    done = cli(model, folder, "--out", tmp_path / "scores.jsonl", "--device", "cpu", *WHO)
    assert done.exit_code == 3
    assert "1 of 7 inputs count in no speaker's statistics; the first:" in " ".join(done.stderr.split())
    near(lines(tmp_path / "scores.jsonl")["ann_1"], alone(model, tones / "ann_1.wav", sorted(tones.glob("ann_*"))))


@pytest.mark.parametrize(
    "option", [("--shard", "1/2"), ("--windows", "2s:1s"), ("--over-time", "x.csv"), ("--skip-silence", "-50")]
)
def test_options_that_see_a_part_of_the_recordings_are_refused(model: Path, tones: Path, option: Sequence[str]) -> None:
    said = refusal(model, tones, "--out", "never.jsonl", *option)
    assert f"{option[0]} does not go with {model}: its inputs are normalised by speaker" in said


def test_a_stream_and_changed_audio_are_refused(model: Path, data: Path, tmp_path: Path) -> None:
    assert "--stream does not go with" in refusal(model, "-", "--stream", "16000")
    done = CliRunner().invoke(app, ["stress", str(model), str(data), "--out", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert "sertk stress does not go with" in " ".join(done.stderr.split())


def test_the_matrix_of_corpora_hears_the_speakers_and_marks_the_system(model: Path, data: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["cross", str(model), "--data", str(data), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "cross.md").read_text()
    assert "*‡" in text
    assert "Marked ‡: speaker-normalised, not to be compared with unknown speakers (" in text
    assert "(on ravdess: transductive, n = 16 utterances a speaker, shrunk with k = 4)" in text
    score(model, [str(data)], tmp_path / "scores.jsonl", device="cpu", source="audio")
    (path,) = tmp_path.glob("*/*/fold=1/seed=0/scores.jsonl")
    own, theirs = lines(path), lines(tmp_path / "scores.jsonl")
    assert [one["decision"] for one in own.values()] == [theirs[name]["decision"] for name in own]
    assert all(one["posterior"] == pytest.approx(theirs[name]["posterior"], abs=2e-5) for name, one in own.items())


def test_a_recording_that_would_be_cut_into_windows_is_refused(
    model: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.scoring.scorer.WHOLE", 0.55)
    done = cli(model, tones / "ann_1.wav", tones / "ann_2.wav", "--out", tmp_path / "s.jsonl", "--allow-failed", *WHO)
    assert [*lines(tmp_path / "s.jsonl")] == ["ann_1"]
    assert "takes recordings of 0.55 s at most" in " ".join(done.stderr.split())


# --- who speaks ----------------------------------------------------------------------------------------------------


def people(*names: str) -> list[Utterance]:
    return [Utterance(name, f"{name}.wav", "unknown" if "?" in name else "she", None) for name in names]


def test_speakers_are_the_first_group_or_the_lines_of_utt2spk_or_those_of_the_manifest(tmp_path: Path) -> None:
    found = Named(r"(a|b)\d").of(people("a1", "b2", "c3", "?4"))
    assert [one.known_speaker for one in found] == ["a", "b", "she", None]
    (tmp_path / "utt2spk").write_text("a1 zoe\n?4 max\n")
    found = Named(file=tmp_path / "utt2spk").of(people("a1", "b2", "?4"))
    assert [one.known_speaker for one in found] == ["zoe", "she", "max"]
    plain = people("a1")
    assert Named().of(plain) is plain


@pytest.mark.parametrize(
    ("pattern", "lines", "says"),
    [
        ("(", None, "is no regular expression"),
        ("a", None, "has no group"),
        ("(x)", None, "finds the speaker of none of 1 ids, such as 'a1'"),
        ("([x-z]*)1", None, "finds the speaker of none of 1 ids, such as 'a1'"),  # it is there, and empty
        ("(x)?1", None, "finds the speaker of none of 1 ids, such as 'a1'"),
        (None, "b2 zoe\n", "finds the speaker of none of 1 ids, such as 'a1'"),
        (None, "a1 zoe\na1 max\n", "utt2spk:2: 'a1' comes twice"),
        (None, "a1\n", "utt2spk:1: 'a1' has no speaker"),
        ("(a)", "a1 zoe\n", "both say who speaks"),
    ],
)
def test_wrong_words_on_who_speaks_are_refused(
    tmp_path: Path, pattern: str | None, lines: str | None, says: str
) -> None:
    path = tmp_path / "utt2spk" if lines is not None else None
    if path:
        path.write_text(lines or "")
    with pytest.raises(SertkError, match=says):
        Named(pattern, path).of(people("a1"))


def test_enrolment_is_refused_for_other_systems_and_of_a_prepared_corpus(model: Path, data: Path, tones: Path) -> None:
    other = Path(__file__).parents[1] / "modeling/bundles/schema-1/mini-cnn"
    assert "--enrol is for systems with normalize: speaker" in refusal(
        other, tones, "--out", "n.jsonl", "--enrol", tones
    )
    assert "is a prepared corpus. Give a manifest" in refusal(model, tones, "--out", "n.jsonl", "--enrol", data)


def test_more_speakers_than_memory_holds_are_refused(model: Path, tones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "MOST", 2 * 81 * 8)
    found = Inputs([Utterance(n, f"{n}_1.wav", n, None) for n in ("ann", "ben", "cy")], tones, {})
    with pytest.raises(UsageError, match=r"the statistics of 3 speakers take 0\.0 GB"):
        hear(Scorer(model), found, None, 2)
    two = Inputs(found.utterances[:2], tones, {})
    assert hear(Scorer(model), two, None, 2).stamp["n"] == [1, 1]
