"""Bundles in one folder that is scored as one: means of posteriors, weights of dev, and what it has heard."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import sertk
from sertk.cli.app import app
from sertk.core import SertkError, UsageError
from sertk.core.files import Record, digest, read_json, write_json
from sertk.corpus.prepared import Data
from sertk.modeling import bundle, ensemble
from sertk.plugins import Plugins
from sertk.results.runs import find
from sertk.scoring.ensemble import Together, scorer_of
from sertk.scoring.over_time import Window
from sertk.scoring.scorer import Scored
from sertk.stages.cross import cross
from sertk.stages.ensemble import likeliest, make, make_runs
from sertk.stages.score import score, score_runs
from sertk.stages.stream import stream
from sertk.stages.stress import stress

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles"
CNN, PROBE = BUNDLES / "schema-1" / "mini-cnn", BUNDLES / "schema-1" / "whisper-frozen"
LONG = BUNDLES / "long.flac"


def changed(to: Path, which: Path = CNN, **keys: Any) -> Path:  # noqa: ANN401
    """A copy of a bundle of schema 1, which has no checksums, that says something else."""
    shutil.copytree(which, to)
    about = read_json(to / "bundle.json", "")
    for word, value in keys.items():
        about[word] = {**about[word], **value} if isinstance(value, dict) else value
    write_json(to / "bundle.json", about)
    return to


def lines_of(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored(model: Path, inputs: Path, out: Path, **how: Any) -> list[Record]:  # noqa: ANN401
    assert score(model, [str(inputs)], out, device="cpu", **how) == 0
    return lines_of(out)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of other features and encoders, of one fold."""
    folder = tmp_path_factory.mktemp("ensemble")
    named = [
        changed(folder / name, which, training={"system": name}) for name, which in (("cnn", CNN), ("probe", PROBE))
    ]
    make(named, folder / "both")
    return folder / "both"


# --- scores ----------------------------------------------------------------------------------------------------------


def test_a_posterior_is_the_mean_of_the_bundles_and_its_logits_are_the_logarithm(
    both: Path, tones: Path, tmp_path: Path
) -> None:
    one, other = scored(CNN, tones, tmp_path / "1.jsonl"), scored(PROBE, tones, tmp_path / "2.jsonl")
    found = scored(both, tones, tmp_path / "both.jsonl")
    assert [line["id"] for line in found] == [line["id"] for line in one] != []
    for line, a, b in zip(found, one, other, strict=True):
        mean = [(p + q) / 2 for p, q in zip(a["posterior"], b["posterior"], strict=True)]
        assert line["posterior"] == pytest.approx(mean, abs=2e-6)
        assert line["logits"] == pytest.approx([math.log(p) for p in mean], abs=2e-3)
        assert (line["stamp"], line["seconds"], line["label"]) == (a["stamp"], a["seconds"], a["label"])
    metrics = read_json(tmp_path / "both.metrics.json", "")
    assert metrics["trained"]["system"] == "ensemble of cnn and probe"
    assert metrics["protocol"]["stamp"] == "speaker-independent"


def test_load_gives_the_mean_too(both: Path) -> None:
    found, each = sertk.load(both)(LONG), [sertk.load(one)(LONG) for one in (CNN, PROBE)]
    assert found == pytest.approx({name: (each[0][name] + each[1][name]) / 2 for name in each[0]}, abs=1e-6)


def test_a_recording_is_cut_alike_for_all_and_its_windows_are_means(both: Path, tmp_path: Path) -> None:
    cut = {"windows": "0.5s:0.3s"}
    each = {}
    for name, model in (("a", CNN), ("b", PROBE), ("both", both)):
        over = tmp_path / f"{name}.windows.jsonl"
        scored(model, LONG, tmp_path / f"{name}.jsonl", over_time=over, **cut)
        each[name] = lines_of(over)
    assert len(each["both"]) == len(each["a"]) > 2
    for line, a, b in zip(each["both"], each["a"], each["b"], strict=True):
        mean = {name: (p + b["posterior"][name]) / 2 for name, p in a["posterior"].items()}
        assert line["posterior"] == pytest.approx(mean, abs=2e-6)
        assert line["decision"] == max(mean, key=mean.__getitem__)
        assert (line["start"], line["end"]) == (a["start"], a["end"])


@pytest.mark.parametrize("first", [True, False])
def test_a_member_that_takes_a_recording_whole_stands_beside_one_that_cuts_it(both: Path, first: bool) -> None:
    # as a model of transcripts alone does, which has nothing to cut
    scorer = scorer_of(ensemble.opened(both, Plugins()), "cpu", Plugins())
    assert isinstance(scorer, Together)
    rows = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.2, 0.2]]
    windows = [Window(0.0, 1.0, 0, rows[1])] * 3
    cut = Scored(torch.tensor(rows[0]), torch.zeros(4), torch.zeros(2), windows, 1)
    whole = Scored(torch.tensor(rows[1]), torch.zeros(4), torch.zeros(3))
    made = scorer._together([whole, cut] if first else [cut, whole])
    assert made.posterior.tolist() == pytest.approx([0.3, 0.15, 0.25, 0.3])
    assert (made.windows, made.silent) == (None, 0)


def test_embeddings_stand_one_behind_the_other(both: Path, tmp_path: Path) -> None:
    rows = {}
    for name, model in (("a", CNN), ("b", PROBE), ("both", both)):
        scored(model, LONG, tmp_path / f"{name}.jsonl", embeddings=tmp_path / f"{name}.safetensors")
        rows[name] = load_file(tmp_path / f"{name}.safetensors")["embeddings"]
    assert torch.equal(rows["both"], torch.cat([rows["a"], rows["b"]], dim=1))


def test_what_one_bundle_fails_on_has_failed_once(
    both: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sertk.scoring.scorer import Scorer

    whole = Scorer._forward

    def broken(self: Scorer, ids: Any, *given: Any) -> Any:  # noqa: ANN401
        if self.bundle.about["training"]["system"] == "probe" and lost in ids:
            raise ValueError("a fault of the probe")
        return whole(self, ids, *given)

    lost = lines_of_test(tones)[2]
    monkeypatch.setattr(Scorer, "_forward", broken)
    assert score(both, [str(tones)], tmp_path / "s.jsonl", device="cpu") == 1
    assert lost not in [line["id"] for line in lines_of(tmp_path / "s.jsonl")]
    (failed,) = lines_of(tmp_path / "s.failed.jsonl")
    assert (failed["id"], "a fault of the probe" in failed["reason"]) == (lost, True)


def lines_of_test(tones: Path) -> list[str]:
    return list(Data(tones).protocol("four").folds["1"].test)


def test_cross_and_stress_take_an_ensemble(both: Path, tones: Path, tmp_path: Path) -> None:
    assert cross([both], [tones], tmp_path / "cross", device="cpu") == 0
    assert "| both (ravdess, fold 1, seed" in (tmp_path / "cross" / "cross.md").read_text()
    assert stress(both, tones, tmp_path / "stress", asked=["clipped"], device="cpu") == 0
    assert "clean" in (tmp_path / "stress" / "stress.md").read_text()


def test_a_stream_and_a_run_are_of_one_bundle(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(64_000))))
    with pytest.raises(UsageError, match="is an ensemble, and a stream is scored by one bundle"):
        stream(both, 16_000, None, device="cpu")
    with pytest.raises(SertkError, match="is an ensemble, and one bundle is needed here"):
        bundle.read(both, Plugins())


# --- what it has heard -----------------------------------------------------------------------------------------------


def test_an_ensemble_of_folds_is_stamped_as_seen_on_its_corpus(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = changed(tmp_path / "two", protocol={"fold": "2"}, training={"seen": ["b" * 16]})
    one = changed(tmp_path / "one", training={"seen": ["a" * 16, "b" * 16]})
    make([one, two], tmp_path / "folds")
    assert "together they may have heard all" in capsys.readouterr().err
    about = read_json(tmp_path / "folds" / "ensemble.json", "")
    assert about["training"]["seen"] == ["a" * 16, "b" * 16]
    assert (about["protocol"]["fold"], about["protocol"]["folds"]) == ("1, 2", ["1", "2"])
    with pytest.raises(UsageError, match="trained on folds 1, 2 of ravdess, so together"):
        score(tmp_path / "folds", [str(tones)], tmp_path / "s.jsonl", device="cpu")
    found = scored(tmp_path / "folds", tones, tmp_path / "s.jsonl", fold="1")
    assert {line["stamp"] for line in found} == {"seen in training"}


def test_an_ensemble_of_corpora_is_not_stamped_cross_corpus_on_one_of_them(tones: Path, tmp_path: Path) -> None:
    other = changed(tmp_path / "other", protocol={"corpus": "emodb", "hash": "0" * 16}, training={"seen": []})
    make([CNN, other], tmp_path / "corpora")
    assert read_json(tmp_path / "corpora" / "ensemble.json", "")["protocol"]["corpora"] == ["ravdess", "emodb"]
    found = scored(tmp_path / "corpora", tones, tmp_path / "s.jsonl", protocol="four", fold="2")
    assert {line["stamp"] for line in found} == {"seen in training"}
    third = changed(tmp_path / "third", protocol={"corpus": "tess"}, training={"seen": []})
    make([other, third], tmp_path / "others")
    found = scored(tmp_path / "others", tones, tmp_path / "s.jsonl", protocol="four", fold="2")
    assert {line["stamp"] for line in found} == {"cross-corpus"}


def test_an_ensemble_of_seeds_is_scored_on_its_own_fold_alone(tones: Path, tmp_path: Path) -> None:
    other = changed(tmp_path / "other", training={"seed": 7})
    make([CNN, other], tmp_path / "seeds")
    assert read_json(tmp_path / "seeds" / "ensemble.json", "")["training"]["seed"] is None
    with pytest.raises(SertkError, match="trained on fold 1 of four"):
        score(tmp_path / "seeds", [str(tones)], tmp_path / "s.jsonl", fold="2", device="cpu")


def test_one_recording_that_a_member_has_seen_makes_scores_dependent(tones: Path, tmp_path: Path) -> None:
    heard = Data(tones).facts[lines_of_test(tones)[0]].sha256[:16]
    other = changed(tmp_path / "other", training={"seen": [heard]})
    make([CNN, other], tmp_path / "out")
    found = scored(tmp_path / "out", tones, tmp_path / "s.jsonl")
    assert {line["stamp"] for line in found} == {"SPEAKER-DEPENDENT"}


# --- weights ---------------------------------------------------------------------------------------------------------


def test_the_likeliest_weights_are_those_of_the_equation() -> None:
    # 3 log(0.1 + 0.8 w) + log(0.9 - 0.8 w): 3 (0.9 - 0.8 w) = 0.1 + 0.8 w, so w = 2.6 / 3.2
    right = torch.tensor([[0.9, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9]], dtype=torch.float64)
    assert likeliest(right).tolist() == pytest.approx([0.8125, 0.1875], abs=1e-6)
    lost = torch.cat([right, torch.zeros(2, 3, dtype=torch.float64)], dim=1)  # no weights help these
    assert likeliest(lost).tolist() == pytest.approx([0.8125, 0.1875], abs=1e-6)


def test_a_bundle_that_is_surer_everywhere_gets_all_and_one_that_says_nothing_gets_none() -> None:
    right = torch.tensor([[0.8, 0.7, 0.9], [0.5, 0.6, 0.2], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert likeliest(right).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def run_of(folder: Path, which: Path, tones: Path, fold: str = "1") -> Path:
    """A run whose dev was scored."""
    model = changed(folder / "model", which, protocol={"fold": fold})
    scored(model, tones, folder / "dev.jsonl", part="dev")
    return model


def test_weights_of_dev_are_written_and_used(tones: Path, tmp_path: Path) -> None:
    one, other = run_of(tmp_path / "1", CNN, tones), run_of(tmp_path / "2", PROBE, tones)
    make([one, other], tmp_path / "out", weights="dev")
    first, second = (member["weight"] for member in read_json(tmp_path / "out" / "ensemble.json", "")["members"])
    assert first + second == pytest.approx(1)
    assert abs(first - second) > 1e-3

    def likelihood(weight: float) -> float:
        each = zip(*(lines_of(one.parent / "dev.jsonl") for one in (one, other)), strict=True)
        place = {name: number for number, name in enumerate(read_json(CNN / "bundle.json", "")["classes"])}
        pairs = [(a["posterior"][place[a["label"]]], b["posterior"][place[a["label"]]]) for a, b in each]
        return sum(math.log(weight * p + (1 - weight) * q) for p, q in pairs)

    grid = [number / 1000 for number in range(1001)]
    assert first == pytest.approx(max(grid, key=likelihood), abs=2e-3)
    found, each = sertk.load(tmp_path / "out")(LONG), [sertk.load(model)(LONG) for model in (one, other)]
    mean = {name: first * each[0][name] + second * each[1][name] for name in found}
    assert found == pytest.approx(mean, abs=1e-6)


def test_dev_of_other_utterances_or_none_is_refused(tones: Path, tmp_path: Path) -> None:
    one, other = run_of(tmp_path / "1", CNN, tones), run_of(tmp_path / "2", PROBE, tones, "2")
    with pytest.raises(UsageError, match="are of other utterances, so they cannot weigh the bundles"):
        make([one, other], tmp_path / "out", weights="dev")
    (tmp_path / "2" / "dev.jsonl").unlink()
    with pytest.raises(SertkError, match=r"--weights dev needs .*dev\.jsonl"):
        make([one, other], tmp_path / "out", weights="dev")
    assert not (tmp_path / "out").exists()


def test_dev_that_another_bundle_scored_weighs_none(tones: Path, tmp_path: Path) -> None:
    one, other = run_of(tmp_path / "1", CNN, tones), run_of(tmp_path / "2", PROBE, tones)
    for name in ("dev.jsonl", "dev.metrics.json"):
        shutil.copy(tmp_path / "1" / name, tmp_path / "2" / name)
    with pytest.raises(UsageError, match=r"2/dev.jsonl is of another bundle than .*2/model: score dev again"):
        make([one, other], tmp_path / "out", weights="dev")
    assert not (tmp_path / "out").exists()


def test_dev_that_a_refit_has_learned_weighs_no_bundle(tones: Path, tmp_path: Path) -> None:
    one, other = run_of(tmp_path / "1", CNN, tones), run_of(tmp_path / "2", PROBE, tones)
    changed(tmp_path / "3/model", other, training={"refit": True})
    shutil.copy(tmp_path / "2/dev.jsonl", tmp_path / "3")
    with pytest.raises(UsageError, match=r"3/model was trained again on train and dev \(train\.refit\)"):
        make([one, tmp_path / "3/model"], tmp_path / "out", weights="dev")
    assert not (tmp_path / "out").exists()


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_of_runs_gives_all_of_its_bundles(tmp_path: Path) -> None:
    for number in (0, 1):
        changed(tmp_path / "sys" / "fold=1" / f"seed={number}" / "model", training={"seed": number})
    make([tmp_path / "sys"], tmp_path / "out")
    assert len(ensemble.members_of(ensemble.opened(tmp_path / "out", Plugins()))) == 2


@pytest.mark.parametrize("weights", ["equal", "dev"])
def test_systems_become_a_system_with_an_ensemble_of_each_run(weights: str, tones: Path, tmp_path: Path) -> None:
    systems = [tmp_path / "cnn", tmp_path / "probe"]
    for system, which in zip(systems, (CNN, PROBE), strict=True):
        for fold in ("1", "2"):
            run = system / f"fold={fold}" / "seed=0"
            changed(run / "model", which, protocol={"fold": fold}, training={"system": system.name, "seed": 0})
            scored(run / "model", tones, run / "dev.jsonl", part="dev")
    make_runs(systems, tmp_path / "both", weights=weights)
    assert score_runs(tmp_path / "both", [str(tones)], device="cpu") == 0
    ((folder, runs),) = find([tmp_path / "both"]).items()
    assert (folder, [(run.fold, run.seed) for run in runs]) == (tmp_path / "both", [("1", "0"), ("2", "0")])
    assert {run.trained["system"] for run in runs} == {"ensemble of cnn and probe"}
    for fold in ("1", "2"):
        model = tmp_path / "both" / f"fold={fold}" / "seed=0" / "model"
        made = ensemble.opened(model, Plugins())
        assert isinstance(made, ensemble.Ensemble)
        assert (made.weights == [0.5, 0.5]) == (weights == "equal")
        of = [read_json(one.folder / "bundle.json", "") for one in ensemble.members_of(made)]
        assert [(one["training"]["system"], one["protocol"]["fold"]) for one in of] == [("cnn", fold), ("probe", fold)]
        found = lines_of(model.parent / "scores.jsonl")
        assert found == scored(model, tones, tmp_path / f"{fold}.jsonl")


def system(folder: Path, which: Path = CNN, folds: str = "12", **protocol: str) -> Path:
    for fold in folds:
        changed(folder / f"fold={fold}/seed=0/model", which, protocol={"fold": fold, **protocol})
    return folder


def test_systems_that_have_other_runs_do_not_become_one(tmp_path: Path) -> None:
    a, b = system(tmp_path / "a"), system(tmp_path / "b", PROBE, "1")
    for order in ([a, b], [b, a]):
        with pytest.raises(UsageError, match=r"b has no fold=2/seed=0/model, and another one has"):
            make_runs(order, tmp_path / "out")
    with pytest.raises(UsageError, match=r"--runs is for folders of runs .*cnn is none"):
        make_runs([a, CNN], tmp_path / "out")
    with pytest.raises(UsageError, match="joins two systems or more"):
        make_runs([a], tmp_path / "out")
    with pytest.raises(UsageError, match="are the same bundle"):
        make_runs([a, a], tmp_path / "out")
    (tmp_path / "c/fold=1/seed=0").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"no run in .*/c, .*/c has a bundle"):
        make_runs([tmp_path / "c", tmp_path / "c"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("word", "said"), [("corpus", "corpus"), ("name", "protocol"), ("hash", "protocol's hash")])
def test_systems_of_other_data_do_not_become_one(tmp_path: Path, word: str, said: str) -> None:
    a, b = system(tmp_path / "a"), system(tmp_path / "b", PROBE, **{word: "other"})
    with pytest.raises(UsageError, match=f"was trained on {said} .*, and .* on other"):
        make_runs([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fault_in_a_late_run_of_systems_leaves_nothing_and_what_is_there_stays(tmp_path: Path) -> None:
    a, b = system(tmp_path / "a"), system(tmp_path / "b", PROBE)
    path = b / "fold=2/seed=0/model/bundle.json"
    whole = path.read_text()
    path.write_text("{")
    with pytest.raises(SertkError):
        make_runs([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    path.write_text(whole)
    (tmp_path / "out/fold=1/seed=0").mkdir(parents=True)
    (tmp_path / "out/fold=1/seed=0/scores.jsonl").touch()
    with pytest.raises(UsageError, match="out is there, and its scores would be taken for new ones"):
        make_runs([a, b], tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").rglob("*")] == ["fold=1", "seed=0", "scores.jsonl"]


def test_runs_is_an_option_of_the_command(tmp_path: Path) -> None:
    a, b = system(tmp_path / "a"), system(tmp_path / "b", PROBE)
    done = CliRunner().invoke(app, ["ensemble", str(a), str(b), "--runs", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    made = sorted(str(one.relative_to(tmp_path / "out")) for one in (tmp_path / "out").rglob("ensemble.json"))
    assert made == ["fold=1/seed=0/model/ensemble.json", "fold=2/seed=0/model/ensemble.json"]


def test_a_system_of_ensembles_says_of_a_run_why_it_is_not_scored(tones: Path, tmp_path: Path) -> None:
    for system, which in (("cnn", CNN), ("probe", PROBE)):
        for seed in (0, 1):
            changed(tmp_path / system / "fold=1" / f"seed={seed}" / "model", which, training={"seed": seed})
    make_runs([tmp_path / "cnn", tmp_path / "probe"], tmp_path / "both")
    path = tmp_path / "both/fold=1/seed=1/model/ensemble.json"
    path.write_text(path.read_text().replace('"weight": 0.5', '"weight": 0.4'))
    assert score_runs(tmp_path / "both", [str(tones)], device="cpu") == 1
    said = read_json(tmp_path / "both/fold=1/seed=1/failed.json", "")
    assert said["part"] == "test"
    assert "it was changed or damaged" in said["error"]


def test_what_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two bundles or more"):
        make([CNN], tmp_path / "out")
    with pytest.raises(UsageError, match="are the same bundle"):
        make([CNN, changed(tmp_path / "copy")], tmp_path / "out")
    classes = read_json(CNN / "bundle.json", "")["classes"]
    with pytest.raises(UsageError, match="have the same, in the same order"):
        make([CNN, changed(tmp_path / "turned", classes=classes[::-1])], tmp_path / "out")
    audio = read_json(CNN / "bundle.json", "")["components"].get("audio", {})
    other = changed(tmp_path / "rate", components={"audio": {**audio, "rate": 8000}})
    with pytest.raises(UsageError, match=r"audio\.rate = 16000, and .* with 8000"):
        make([CNN, other], tmp_path / "out")
    heard = changed(tmp_path / "heard", components={"normalize": "speaker"})
    with pytest.raises(UsageError, match="heard is normalised by speaker, and the bundles of an ensemble hear no"):
        make([CNN, heard], tmp_path / "out")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="is there and is no ensemble"):
        make([CNN, PROBE], tmp_path / "mine")


def test_an_ensemble_that_was_changed_is_refused(both: Path, tmp_path: Path) -> None:
    weighed = Path(shutil.copytree(both, tmp_path / "weighed"))
    about = read_json(weighed / "ensemble.json", "")
    about["members"][0]["weight"] = 0.9
    write_json(weighed / "ensemble.json", about)
    with pytest.raises(SertkError, match="members is not what was written"):
        ensemble.opened(weighed, Plugins())
    swapped = Path(shutil.copytree(both, tmp_path / "swapped"))
    shutil.rmtree(swapped / "members" / "2")
    shutil.copytree(CNN, swapped / "members" / "2")
    with pytest.raises(SertkError, match="members/2 is another bundle than"):
        ensemble.opened(swapped, Plugins())


@pytest.mark.parametrize("weights", [[1.5, -0.5], [0.5, 0.4], [0, 2]])
def test_weights_that_are_no_shares_are_refused(both: Path, tmp_path: Path, weights: list[float]) -> None:
    # as somebody else's program may write them, with the right checksum
    forged = Path(shutil.copytree(both, tmp_path / "forged"))
    about = read_json(forged / "ensemble.json", "")
    for member, weight in zip(about["members"], weights, strict=True):
        member["weight"] = weight
    about["checksums"]["members"] = digest(about["members"])
    write_json(forged / "ensemble.json", about)
    with pytest.raises(SertkError, match=r"the weights .* must be 0 or more and have the sum 1"):
        ensemble.opened(forged, Plugins())


def test_members_that_are_links_are_copied_whole(tmp_path: Path) -> None:
    for path in filter(Path.is_file, CNN.rglob("*")):  # as a cache of a hub has them
        blob, name = tmp_path / "blobs" / digest(str(path)), tmp_path / "cache/model" / path.relative_to(CNN)
        for one in (blob, name):
            one.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        name.symlink_to(os.path.relpath(blob, name.parent))
    out = tmp_path / "else/where/out"
    make([tmp_path / "cache/model", PROBE], out)
    assert not [one for one in out.rglob("*") if one.is_symlink()]
    assert ensemble.members_of(ensemble.opened(out, Plugins()))[0].about["classes"]
    assert (out / "members/1/model.safetensors").read_bytes() == (CNN / "model.safetensors").read_bytes()


def test_members_share_their_files_with_the_runs_where_they_can(both: Path) -> None:
    mine, theirs = (folder / "model.safetensors" for folder in (both / "members" / "2", both.with_name("probe")))
    assert mine.samefile(theirs)
    assert mine.read_bytes() == (PROBE / "model.safetensors").read_bytes()
    assert {path.name for path in both.iterdir()} == {"ensemble.json", "members"}
    assert len(ensemble.files(both)) >= 5
