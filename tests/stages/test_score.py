"""What the stage `score` leaves behind: lines, metrics, failures, whole and shard by shard."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from torch import Tensor
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import InputError, SertkError, UsageError, Utterance
from sertk.core.files import write_jsonl
from sertk.corpus import audio
from sertk.scoring.parts import Parts
from sertk.scoring.scorer import Scorer
from sertk.stages.score import merge, score

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
    assert left(tmp_path) == ["scores.jsonl", "shard.json"]
    score(BUNDLE, [str(manifest)], out)
    assert left(tmp_path) == ["metrics.json", "scores.jsonl"]


# --- killed and gone on ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no handler catches, as a kill."""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of what was scored, in windows of two."""
    monkeypatch.setattr("sertk.scoring.scorer.WINDOW", 2)
    seen, forward = list[str](), Scorer._forward

    def watched(
        self: Scorer, ids: Sequence[str], inputs: Sequence[Mapping[str, Tensor]], speakers: Sequence[str | None]
    ) -> tuple[Tensor, Tensor]:
        if len(seen) >= 4:
            raise Killed
        seen.extend(sorted(ids))
        return forward(self, ids, inputs, speakers)

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


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-300], lambda content: b"", lambda content: b"no part\n" + content]
)
def test_a_finished_window_that_is_not_as_it_was_written_is_scored_again(
    manifest: Path,
    tmp_path: Path,
    scored: list[str],
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
) -> None:
    out = tmp_path / "out/scores.jsonl"
    killed(manifest, out, scored)
    (part,) = (one for one in out.parent.glob(".*.parts/*") if b'"u0"' in one.read_bytes())
    part.write_bytes(damage(part.read_bytes()))
    assert score(BUNDLE, [str(manifest)], out) == 0
    assert scored == ["u0", "u1", "u4"]
    assert [line["id"] for line in lines(out)] == [f"u{n}" for n in range(5)]
    assert f"{part} was changed or cut short since it was written, so its inputs are scored again" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_window_that_is_damaged_before_it_is_joined_ends_the_run_and_not_the_next_one(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, joined = tmp_path / "scores.jsonl", Parts.scored

    def damaged(self: Parts) -> Iterator[bytes]:
        (part,) = tmp_path.glob(".*.parts/*")
        part.write_bytes(part.read_bytes()[:-9])
        return joined(self)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "scored", damaged)
        with pytest.raises(SertkError, match=r"was changed or cut short since it was written\. Run the command again"):
            score(BUNDLE, [str(manifest)], out)
    assert score(BUNDLE, [str(manifest)], out) == 0
    assert len(lines(out)) == 5


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


def test_what_an_older_plugin_scored_is_not_joined_with_what_the_new_one_does(
    manifest: Path, tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(manifest, tmp_path / "scores.jsonl", scored)
    monkeypatch.setattr("sertk.plugins._owner", lambda plugin, distribution: ("sertk-lab", "1.3"))  # upgraded
    with pytest.raises(Killed):
        score(BUNDLE, [str(manifest)], tmp_path / "scores.jsonl")
    assert scored == ["u0", "u1", "u2", "u3"]  # from the start


def test_windows_of_killed_runs_that_nobody_goes_on_with_are_swept_after_an_hour(
    manifest: Path, tmp_path: Path, scored: list[str]
) -> None:
    out, other = tmp_path / "scores.jsonl", tmp_path / "scores.jsonl.b.jsonl"
    killed(manifest, out, scored, batch=1)
    killed(manifest, other, scored)
    theirs = next(tmp_path.glob(".scores.jsonl.b.*"))
    (mine,) = (one for one in tmp_path.iterdir() if one != theirs)
    (manifest.parent / "two.jsonl").write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    score(BUNDLE, [str(manifest.parent / "two.jsonl")], out)  # batch 32: another way
    assert mine.exists()  # a run with it may be going on
    for folder in (mine, theirs):
        os.utime(folder, (0, 0))
    score(BUNDLE, [str(manifest.parent / "two.jsonl")], out)
    assert left(tmp_path) == [theirs.name, "metrics.json", "scores.jsonl"]


@pytest.mark.parametrize("passes", [False, True])
def test_of_a_finished_window_what_failed_is_tried_again_and_nothing_else(
    manifest: Path, tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch, *, passes: bool
) -> None:
    decode, away = audio.decode_up_to, {"u0"}

    def decoded(seconds: float, path: Path, who: str, *cut: Any, **how: Any) -> Any:  # noqa: ANN401
        if who in away:
            raise InputError(f"{who}: the disk is away")
        return decode(seconds, path, who, *cut, **how)

    monkeypatch.setattr(audio, "decode_up_to", decoded)
    scored.append("")  # so that the kill comes in the third window
    out = tmp_path / "out/scores.jsonl"
    killed(manifest, out, scored)
    assert len([*out.parent.glob(".*.parts/*")]) == 2
    if passes:
        away.clear()
    assert score(BUNDLE, [str(manifest)], out) == (not passes)
    assert scored == (["u0", "u4"] if passes else ["u4"])
    assert [line["id"] for line in lines(out)] == ["u0", "u1", "u2", "u3", "u4"][not passes :]
    metrics = json.loads((out.parent / "metrics.json").read_text())
    assert (metrics["failed"], metrics["inputs"]) == (not passes, 5)
    if not passes:
        scored[:] = []
        score(BUNDLE, [str(manifest)], tmp_path / "whole/scores.jsonl")
        for name in ("scores.jsonl", "failed.jsonl"):
            assert (out.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_lines_that_cannot_be_written_leave_the_earlier_metrics(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores.jsonl"
    score(BUNDLE, [str(manifest)], out)
    before = left(tmp_path)
    monkeypatch.setattr(Parts, "scored", lambda self: (_ for _ in ()).throw(SertkError("gone")))
    with pytest.raises(SertkError, match="gone"):
        score(BUNDLE, [str(manifest)], out)
    assert [name for name in left(tmp_path) if not name.startswith(".")] == before


# --- shards put together ---------------------------------------------------------------------------------------------


def sharded(inputs: Path, out: Path, number: int) -> list[Path]:
    """Score files of all shards."""
    paths = [out / f"scores.{k}.jsonl" for k in range(1, number + 1)]
    for k, path in enumerate(paths, 1):
        score(BUNDLE, [str(inputs)], path, shard=f"{k}/{number}")
    return paths


def without_time(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    assert content["took"].pop("seconds") >= 0
    return content


def test_merged_shards_are_what_one_run_writes_with_failures_and_metrics(manifest: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    (folder / "3.wav").write_text("no audio")
    inputs, out = folder / "manifest.jsonl", tmp_path / "out"
    assert score(BUNDLE, [str(inputs)], tmp_path / "whole/scores.jsonl", batch=1) == 1
    for k in (1, 2, 3):  # of one, two and two
        score(BUNDLE, [str(inputs)], out / f"scores.{k}.jsonl", shard=f"{k}/3", batch=1)
    assert merge(sorted(out.glob("*.jsonl"), reverse=True), tmp_path / "merged/scores.jsonl") == 1
    for name in ("scores.jsonl", "failed.jsonl"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    found, whole = (without_time(tmp_path / name / "metrics.json") for name in ("merged", "whole"))
    assert found == whole
    assert (found["failed"], found["inputs"]) == (1, 5)
    assert left(tmp_path / "merged") == ["failed.jsonl", "metrics.json", "scores.jsonl"]


def test_shards_that_are_not_all_of_one_scoring_are_refused(manifest: Path, tmp_path: Path) -> None:
    out, (one, two, three) = tmp_path / "all.jsonl", sharded(manifest, tmp_path / "out", 3)
    with pytest.raises(SertkError, match=r"of 3 shards 1 are missing: 2\. Score that shard again"):
        merge([one, three], out)
    copy = tmp_path / "copy.jsonl"
    shutil.copy(two, copy)
    shutil.copy(tmp_path / "out/scores.2.shard.json", tmp_path / "copy.shard.json")
    with pytest.raises(SertkError, match=r"scores\.2\.jsonl and .*copy\.jsonl are both shard 2/3"):
        merge([one, two, three, copy], out)
    with pytest.raises(SertkError, match=r"different numbers of shards \(3 and 2\)"):
        merge([one, two, *sharded(manifest, tmp_path / "other", 2)[1:]], out)
    score(BUNDLE, [str(manifest)], tmp_path / "whole.jsonl")
    with pytest.raises(SertkError, match=r"whole\.jsonl is no shard: it is JSON lines with schema, id, label"):
        merge([one, two, tmp_path / "whole.jsonl"], out)
    with pytest.raises(UsageError, match="score lines of all shards"):
        merge([], out)
    with pytest.raises(UsageError, match=r"--out would overwrite .*scores\.2\.jsonl"):
        merge([one, two, three], two)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "windows.csv",
            "id,start,end\nu0,0,1\n",
            "it is a table with id,start,end, and windows.shard.json does not lie",
        ),
        (
            "manifest.jsonl",
            '{"schema": 1, "id": "u0", "path": "0.wav"}\n',
            "it is JSON lines with schema, id, path, and",
        ),
        ("metrics.json", '{\n "schema": 1\n}\n', "it is JSON, and metrics.shard.json does not lie beside it"),
        ("list.scp", "u0 0.wav\n", "it is text, and"),
        ("lost.jsonl", None, "it is missing, and"),
    ],
)
def test_what_is_no_shard_is_refused_with_what_it_is(
    manifest: Path, tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SertkError, match=rf"{name} is no shard: {says}") as caught:
        merge([*sharded(manifest, tmp_path / "out", 2), tmp_path / name], tmp_path / "all.jsonl")
    assert "Score that shard again: `sertk score BUNDLE INPUT --shard K/N --out FILE`" in str(caught.value)
    assert not (tmp_path / "all.jsonl").exists()


def test_a_shard_that_has_lost_its_lines_or_failures_is_named_and_nothing_is_written(
    manifest: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    (folder / "3.wav").write_text("no audio")
    one, two = sharded(folder / "manifest.jsonl", tmp_path / "out", 2)
    failed = tmp_path / "out/scores.2.failed.jsonl"
    failed.rename(tmp_path / "kept")
    with pytest.raises(SertkError, match=r"^[^ ]*scores\.2\.failed\.jsonl is missing\. Score that shard again"):
        merge([one, two], tmp_path / "all.jsonl")
    (tmp_path / "kept").rename(failed)
    two.unlink()
    with pytest.raises(SertkError, match=r"^[^ ]*scores\.2\.jsonl is missing\. Score that shard again"):
        merge([one, two], tmp_path / "all.jsonl")
    two.mkdir()
    with pytest.raises(SertkError, match=r"^[^ ]*scores\.2\.jsonl is a folder, a pipe or a device"):
        merge([one, two], tmp_path / "all.jsonl")
    assert not list(tmp_path.glob("all*"))


def test_shards_of_another_model_or_of_other_inputs_are_refused(manifest: Path, tmp_path: Path) -> None:
    one, two = sharded(manifest, tmp_path / "out", 2)
    model = Path(shutil.copytree(BUNDLE, tmp_path / "model"))
    content = json.loads((model / "bundle.json").read_text())
    (model / "bundle.json").write_text(json.dumps(content))  # says the same in other bytes: another model, to be safe
    score(model, [str(manifest)], tmp_path / "b.jsonl", shard="2/2")
    with pytest.raises(SertkError, match="of different bundles"):
        merge([one, tmp_path / "b.jsonl"], tmp_path / "all.jsonl")
    text = manifest.read_text().splitlines(keepends=True)
    fewer = manifest.with_name("fewer.jsonl")
    fewer.write_text("".join(text[:4]))
    score(BUNDLE, [str(fewer)], tmp_path / "f.jsonl", shard="2/2")
    with pytest.raises(SertkError, match="of different lists of inputs"):
        merge([one, tmp_path / "f.jsonl"], tmp_path / "all.jsonl")
    two.write_bytes(two.read_bytes()[:-30])
    with pytest.raises(SertkError, match=r"scores\.2\.jsonl was changed or cut short"):
        merge([one, two], tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


def test_shards_that_were_scored_in_another_way_are_refused_and_what_differs_is_named(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, (one, two) = tmp_path / "text", sharded(manifest, tmp_path / "out", 2)
    text.write_text("u4 a sentence\n")
    score(BUNDLE, [str(manifest)], two, shard="2/2", text=text)
    assert merge([one, two], tmp_path / "all.jsonl") == 0  # the model reads no transcripts
    score(BUNDLE, [str(manifest)], two, shard="2/2", batch=4)
    with pytest.raises(SertkError, match=r"of different batch sizes \(32 and 4\)"):
        merge([one, two], tmp_path / "all.jsonl")
    for how, says in (
        ({"windows": "0.2s:0.1s"}, r"\({'windows': None} and {'windows': \[0\.2, 0\.1\]}\)"),
        ({"skip_silence": -50.0}, r"\({'skip_silence': None} and {'skip_silence': -50\.0}\)"),
    ):
        score(BUNDLE, [str(manifest)], two, shard="2/2", **how)
        with pytest.raises(SertkError, match=rf"of different ways to cut recordings {says}"):
            merge([one, two], tmp_path / "all.jsonl")
    monkeypatch.setattr("sertk.scoring.parts.version", lambda name: "9.9" if name == "soxr" else version(name))
    score(BUNDLE, [str(manifest)], two, shard="2/2")
    with pytest.raises(SertkError, match=r"of different versions \({'soxr': '.*'} and {'soxr': '9\.9'}\)"):
        merge([one, two], tmp_path / "all.jsonl")
    monkeypatch.undo()
    score(BUNDLE, [str(manifest)], two, shard="2/2")
    kept = {path: path.read_text() for path in (one.with_name(f"{it.stem}.shard.json") for it in (one, two))}
    for word, what in {"text": "transcripts", "device": "devices", "from": "sources of features"}.items():
        for (sidecar, about), value in zip(kept.items(), "ab", strict=True):
            sidecar.write_text(json.dumps(json.loads(about) | {word: value}))
        with pytest.raises(SertkError, match=rf"of different {what} \(a and b\)"):
            merge([one, two], tmp_path / "all.jsonl")


def test_a_share_of_nothing_is_a_share(manifest: Path, tmp_path: Path) -> None:
    paths = sharded(manifest, tmp_path / "out", 7)  # of five
    assert merge(paths, tmp_path / "all.jsonl") == 0
    assert len(lines(tmp_path / "all.jsonl")) == 5


def test_an_empty_list_leaves_the_scores_of_before(manifest: Path, tmp_path: Path) -> None:
    score(BUNDLE, [str(manifest)], tmp_path / "s.jsonl")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "empty.scp").touch()
    words = ["score", str(BUNDLE), str(tmp_path / "empty.scp"), "--out", str(tmp_path / "s.jsonl")]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert CliRunner().invoke(app, [*words, "--shard", "2/2"]).exit_code == 1
    assert {path: path.read_bytes() for path in before} == before


def test_what_does_not_go_with_a_folder_of_runs_or_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fold=1/seed=0").mkdir(parents=True)
    for words in (["--ffmpeg"], ["--merge", "--ffmpeg"], ["--merge", "--part", "dev"]):
        found = CliRunner().invoke(app, ["score", str(tmp_path), "data", *words])
        assert (found.exit_code, f"{words[-2 if words[-1] == 'dev' else -1]} does not go with" in found.output) == (
            2,
            True,
        )


def test_failures_can_be_allowed_where_only_the_exit_code_tells(manifest: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    (folder / "3.wav").write_text("no audio")
    words = ["score", str(BUNDLE), str(folder), "--out", str(tmp_path / "s.jsonl")]
    assert CliRunner().invoke(app, words).exit_code == 3
    assert CliRunner().invoke(app, [*words, "--allow-failed"]).exit_code == 0
    assert len(lines(tmp_path / "s.failed.jsonl")) == 1
    assert CliRunner().invoke(app, ["score", str(BUNDLE)]).exit_code == 2  # no inputs
    assert CliRunner().invoke(app, ["score", "--merge", str(tmp_path / "s.jsonl")]).exit_code == 2  # no --out


# --- no output in the place of an input ------------------------------------------------------------------------------


def test_an_output_that_would_overwrite_an_input_is_refused_before_anything_is_read(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "tones"))
    model = Path(shutil.copytree(BUNDLE, tmp_path / "model"))
    scp, text = folder / "failed.jsonl", folder / "text"
    scp.write_text("{}")
    text.write_text("u0 hello\n")
    (tmp_path / "link").symlink_to(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    listed, audio_folder = str(folder / "manifest.jsonl"), str(folder)
    monkeypatch.setattr("sertk.stages.score.Scorer", None)  # no weights are read, and nothing is scored
    for inputs, out in (
        ([listed], folder / "manifest.jsonl"),
        ([listed], folder / "2.wav"),
        ([listed], tmp_path / "link/2.wav"),
        ([audio_folder], folder / "2.wav"),
        ([str(folder / "2.wav")], folder / "2.wav"),
        ([str(scp)], folder / "scores.jsonl"),  # whose failed.jsonl it would be
        ([listed], model / "bundle.json"),
        ([listed], text),
    ):
        with pytest.raises(UsageError, match=r"--out would overwrite .*, which is an input"):
            score(model, inputs, out, text=text)
    (folder / "corpus.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--out would overwrite .*failed\.jsonl"):
        score(model, [listed], folder / "scores.jsonl")
    (folder / "corpus.json").unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
