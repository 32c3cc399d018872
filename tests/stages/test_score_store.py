"""Scores of a prepared corpus from its stored features, and of several runs in one command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from sertk.core import SertkError, UsageError
from sertk.corpus.prepared import Data
from sertk.scoring.embeddings import BESIDE, read
from sertk.settings import merge
from sertk.stages.cross import cross
from sertk.stages.ensemble import make
from sertk.stages.featurize import featurize
from sertk.stages.score import score, score_runs
from sertk.testing import signed

SIZES = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 40}
WIDTH = 16 * 3 * 2  # mean and deviation of what two layers read and the last one gives
TESTED = "1"  # a fold; its test is two speakers
RUNS = (("1", 0), ("1", 3), ("4", 0))


class Place:
    """A corpus with stored features, and a system that reads them; both a test's own.

    Args:
        folder: Where both are.
    """

    def __init__(self, folder: Path) -> None:
        self.data, self.system = folder / "data", folder / "exp/emobox/probe"

    def run(self, fold: str = TESTED, seed: int = 0) -> Path:
        return self.system / f"fold={fold}" / f"seed={seed}"

    @property
    def store(self) -> Path:
        """The folder of the probe's features; those of the system mini-cnn are beside it."""
        (found,) = (one for one in (self.data / "feats").iterdir() if self._width(one) == WIDTH)
        return found

    @staticmethod
    def _width(store: Path) -> int:
        return next(iter(load_file(next(store.glob("*.safetensors"))).values())).shape[1]

    def change(self, **changes: torch.Tensor | None) -> None:
        """Changes stored features, by audio hash; None takes one away."""
        for path in list(self.store.glob("*.safetensors")):
            tensors = {sha: changes.get(sha, value) for sha, value in load_file(path).items()}
            # under another name: a shard that was opened stays so
            new = path.with_stem(f"{path.stem}x")
            save_file({sha: value for sha, value in tensors.items() if value is not None}, new)
            path.unlink()
        (self.store / "index.jsonl").unlink(missing_ok=True)

    def sha(self, number: int, part: str = "test") -> str:
        """The audio hash of an utterance of the fold."""
        data = Data(self.data)
        return data.facts[getattr(data.protocol("emobox").folds[TESTED], part)[number]].sha256

    def edit(self, change: dict[str, Any], fold: str = TESTED) -> None:
        """Changes what a bundle says."""
        path = self.run(fold) / "model/bundle.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        signed(path.parent)


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes on a small Whisper of chance: the system's folder, and the corpus."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from sertk.stages.train import train  # late: see test_recipe

    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(5)
    WhisperEncoder(WhisperConfig(**SIZES)).save_pretrained(folder / "whisper")  # type: ignore[arg-type]
    encoder = {"name": "whisper", "source": str(folder / "whisper"), "layers": "all"}
    place = Place(folder)
    own = Data(Path(shutil.copytree(data, place.data)))
    chosen = {
        "inputs": {"whisper": {"name": "frozen", "backbone": encoder, "pool": "mean_std"}},
        "backbone": {"name": "frames"},
        "protocol": "emobox",
        "train.epochs": 2,
        "train.threads": 1,
    }
    featurize(own, merge.load(None, None, chosen), 1)
    for fold, seed in RUNS:
        train(merge.load(None, None, {**chosen, "fold": fold, "seed": seed}), own, place.run(fold, seed))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    # a test changes files in it, so no hard links
    shutil.copytree(made, tmp_path / "place")
    return Place(tmp_path / "place")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored(place: Place, name: str, **asked: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """The score lines of the run of fold 1 and seed 0."""
    out = place.data.parent / name / "scores.jsonl"
    score(place.run() / "model", [str(place.data)], out, device="cpu", **asked)
    return lines(out)


def took(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["took"]
    return found


def test_what_is_cut_into_windows_comes_from_audio(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(place, "whole")
    assert took(place.data.parent / "whole/metrics.json")["from"] == "store"
    assert {line["windows"] for line in scored(place, "cut", windows="0.2s:0.1s")} >= {2}
    assert took(place.data.parent / "cut/metrics.json")["from"] == "audio"
    # one is longer than what is scored whole
    seconds = sorted(line["seconds"] for line in lines(place.data.parent / "whole/scores.jsonl"))
    for name, longest in (("store", seconds[-1]), ("audio", seconds[-2])):
        monkeypatch.setattr("sertk.scoring.stored.WHOLE", longest)
        scored(place, name)
        assert took(place.data.parent / name / "metrics.json")["from"] == name


def test_an_ensemble_reads_the_features_of_all_its_bundles_from_the_store(place: Place) -> None:
    both = place.data.parent / "both"
    make([place.run("1", seed) / "model" for seed in (0, 3)], both)
    found = {}
    for name, source in (("store", "store"), ("audio", "audio")):
        out = place.data.parent / f"ensemble-{name}" / "scores.jsonl"
        assert score(both, [str(place.data)], out, device="cpu", source=source) == 0  # type: ignore[arg-type]
        assert took(out.with_name("metrics.json"))["from"] == name
        found[name] = lines(out)
    each = [lines(place.data.parent / "ensemble-store" / "scores.jsonl")]
    for seed in (0, 3):
        out = place.data.parent / f"seed-{seed}" / "scores.jsonl"
        score(place.run("1", seed) / "model", [str(place.data)], out, device="cpu")
        each.append(lines(out))
    for own, line, a, b in zip(found["audio"], *each, strict=True):
        mean = [(p + q) / 2 for p, q in zip(a["posterior"], b["posterior"], strict=True)]
        assert a["posterior"] != b["posterior"]
        assert line["posterior"] == pytest.approx(mean, abs=2e-6)
        assert own["posterior"] == pytest.approx(mean, abs=1e-4)


def test_a_bundle_keeps_the_length_of_the_longest_utterance_that_it_was_trained_on(place: Place) -> None:
    data = Data(place.data)
    about = json.loads((place.run() / "model/bundle.json").read_text())
    train = data.protocol("emobox").folds[TESTED].train
    assert about["training"]["longest"] == max(data.facts[one].seconds for one in train)


def test_scores_from_the_store_are_those_from_audio(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = scored(place, "audio", source="audio", batch=5)
    assert "32 utterances from audio, WA" in capsys.readouterr().err

    def refuse(*words: object) -> None:
        raise AssertionError(words)

    monkeypatch.setattr("sertk.corpus.audio.decode", refuse)
    monkeypatch.setattr("sertk.corpus.features.make_feature", refuse)
    store = scored(place, "store", batch=7)
    assert "32 utterances from the store, WA" in capsys.readouterr().err
    score(place.run() / "model", [str(place.data)], None, device="cpu", batch=7)
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == store
    assert printed.err.strip().endswith("32 utterances from the store")
    assert len(store) == len(audio) == 32
    for one, other in zip(store, audio, strict=True):
        assert one["logits"] == pytest.approx(other.pop("logits"), abs=1e-4)
        assert one["posterior"] == pytest.approx(other.pop("posterior"), abs=1e-4)
        assert {word: value for word, value in one.items() if word not in ("logits", "posterior")} == other
    assert len({tuple(one["logits"]) for one in store}) == 32
    for name, batch in (("store", 7), ("audio", 5)):
        told = took(place.data.parent / name / "metrics.json")
        assert (told["from"], told["batch"]) == (name, batch)
        assert 0 < told["seconds"] < 60


def test_what_is_stored_counts_unless_audio_is_asked_for(place: Place) -> None:
    before = scored(place, "before")
    place.change(**{place.sha(2): torch.full((1, WIDTH), 3.0)})
    after, audio = scored(place, "after"), scored(place, "audio", source="audio")
    assert [n for n in range(32) if after[n] != before[n]] == [2]
    assert [n for n in range(32) if audio[n]["logits"] != pytest.approx(before[n]["logits"], abs=1e-4)] == []


def test_the_matrix_of_systems_and_corpora_is_read_from_the_store_where_it_has_all(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crossed(name: str) -> list[list[float]]:
        out = place.data.parent / name
        assert cross([place.run() / "model"], [place.data], out, device="cpu") == 0
        (path,) = out.glob("*/*/*/*/scores.jsonl")
        return [one["logits"] for one in lines(path)]

    before = crossed("before")
    place.change(**{place.sha(2): torch.full((1, WIDTH), 3.0)})
    after = crossed("after")
    assert [n for n in range(32) if after[n] != before[n]] == [2]
    assert "(ravdess, fold 1, seed 0) on ravdess: from the store\n" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("sertk.scoring.stored.WHOLE", 0.0)  # all are longer than what is scored whole
        assert crossed("long")[2] == pytest.approx(before[2], abs=1e-4)
    assert "on ravdess: from audio (some are longer than 0 s" in capsys.readouterr().err
    place.change(**{place.sha(3): None})
    audio = crossed("audio")  # all of it, so that the one that was changed does not count
    assert [n for n in range(32) if audio[n] != pytest.approx(before[n], abs=1e-4)] == []
    assert f"on ravdess: from audio (1 of 32 have no features in {place.store}" in capsys.readouterr().err


def test_audio_is_read_where_the_store_lacks_an_utterance_that_is_scored(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.change(**{place.sha(0, "train"): None, place.sha(1): torch.zeros(1, WIDTH)})
    zero = scored(place, "store")[1]
    assert "utterances from the store, WA" in capsys.readouterr().err  # the one that it lacks is of train
    place.change(**{place.sha(3): None})
    whole = scored(place, "audio")
    why = f"1 of 32 have no features in {place.store}; sertk featurize stores them, if no augmentation changes the wave"
    assert f"from audio ({why}), WA" in capsys.readouterr().err
    assert len(whole) == 32
    assert whole[1]["id"] == zero["id"]
    assert whole[1]["logits"] != pytest.approx(zero["logits"], abs=1e-2)
    assert took(place.data.parent / "audio/metrics.json")["from"] == "audio"


def test_features_of_another_key_are_never_read(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((place.run() / "model/bundle.json").read_text())
    trimmed = {**about["components"], "audio": {**about["components"]["audio"], "trim_db": 60.0}}
    described = about["features"]["whisper"]
    for change in ({"components": trimmed}, {"features": {"whisper": {**described, "weights": "0" * 16}}}):
        place.edit({**about, **change})
        assert scored(place, "other")
        assert "(32 of 32 have no features in " in capsys.readouterr().err
    place.edit(about)
    assert scored(place, "own")
    assert "from the store" in capsys.readouterr().err


def test_a_bundle_that_does_not_describe_its_features_is_scored_from_audio(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((place.run() / "model/bundle.json").read_text())
    del about["features"]
    (place.run() / "model/bundle.json").write_text(json.dumps(about))
    signed(place.run() / "model")
    assert len(scored(place, "old")) == 32
    assert "from audio (an older sertk wrote the bundle" in capsys.readouterr().err


def test_features_that_are_not_sound_are_that_utterances_failure(place: Place) -> None:
    before, bad = scored(place, "before"), torch.zeros(1, WIDTH)
    bad[0, 5] = torch.nan
    changes = {place.sha(2): bad, place.sha(4): torch.zeros(1, WIDTH + 1), place.sha(6): torch.zeros(0, WIDTH)}
    place.change(**changes)
    out = place.data.parent / "after"
    assert score(place.run() / "model", [str(place.data)], out / "scores.jsonl") == 3
    assert lines(out / "scores.jsonl") == [one for n, one in enumerate(before) if n not in (2, 4, 6)]
    failed = lines(out / "failed.jsonl")
    assert sorted(one["id"] for one in failed) == sorted(before[n]["id"] for n in (2, 4, 6))
    for one in failed:
        assert f"its whisper in {place.store} is (" in one["reason"]
        assert f"not finite frames of {WIDTH}. Delete that folder" in one["reason"]


def test_a_look_at_the_test_of_a_corpus_is_in_its_ledger(place: Place) -> None:
    (place.data / "ledger.jsonl").unlink(missing_ok=True)  # other tests score the same corpus
    scored(place, "dev", part="dev")
    assert not (place.data / "ledger.jsonl").exists()  # dev may be looked at
    scored(place, "one")
    scored(place, "two")
    (line,) = lines(place.data / "ledger.jsonl")
    metrics = json.loads((place.data.parent / "one/metrics.json").read_text())
    assert (line["hash"], line["fold"], line["ua"]) == (metrics["protocol"]["hash"], TESTED, metrics["metrics"]["ua"])
    assert (line["settings"], line["seed"]) == (metrics["trained"]["settings"], 0)


def test_files_that_changed_or_are_missing_fail_though_their_features_are_stored(place: Place, corpus: Path) -> None:
    before, own = scored(place, "before"), Path(shutil.copytree(corpus, place.data.parent / "corpus"))
    data = Data(place.data)
    paths = [own / data.utterances[before[n]["id"]].path for n in (0, 5)]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"0")
    out = place.data.parent / "after"
    assert score(place.run() / "model", [str(place.data)], out / "scores.jsonl", root=own) == 2
    assert lines(out / "scores.jsonl") == [one for n, one in enumerate(before) if n not in (0, 5)]
    for one, n, why in zip(lines(out / "failed.jsonl"), (0, 5), ("is missing", "changed since"), strict=True):
        assert one["id"] == before[n]["id"]
        assert why in one["reason"]
    assert took(out / "metrics.json")["from"] == "store"


def test_another_corpus_is_scored_from_its_own_store(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    own = json.loads((place.run() / "model/bundle.json").read_text())["protocol"]
    there = scored(place, "own")
    place.edit({"protocol": {**own, "corpus": "elsewhere"}, "training": {"seed": 0}})
    asked = {"protocol": "emobox", "fold": TESTED}
    capsys.readouterr()
    assert [one["logits"] for one in scored(place, "cross", **asked)] == [one["logits"] for one in there]
    assert "32 utterances from the store, " in (said := capsys.readouterr().err)
    assert "cross-corpus" in said
    place.change(**{place.sha(0): torch.ones(1, WIDTH)})
    assert scored(place, "changed", **asked)[0]["logits"] != there[0]["logits"]


def test_an_input_that_is_never_stored_is_read_from_audio(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sertk.stages.train import train

    chosen = {"inputs": {"mel": {"name": "mel"}, "wave": {"name": "wave"}}, "backbone": "frames:reads=wave"}
    chosen |= {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1}
    own = Data(Path(shutil.copytree(data, tmp_path / "data")))
    featurize(own, settings := merge.load(None, None, chosen), 1)
    train(settings, own, tmp_path / "run")
    score(tmp_path / "run/model", [str(own.folder)], tmp_path / "scores.jsonl")
    assert "32 utterances from audio (its input 'wave' is not stored), WA" in capsys.readouterr().err


def test_crops_of_stored_features_are_padded_as_those_of_computed_ones(data: Path, tmp_path: Path) -> None:
    from sertk.stages.train import train

    # utterances of 0.3 s in pieces of 0.5 s, with silence that is another value in each dimension
    chosen = {"inputs": {"x": {"name": "mfcc"}}, "crop": {"length": 0.5, "pad": "silence"}, "backbone": "frames"}
    chosen |= {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1}
    own = Data(Path(shutil.copytree(data, tmp_path / "data")))
    featurize(own, settings := merge.load(None, None, chosen), 1)
    train(settings, own, tmp_path / "run")
    for source in ("store", "audio"):
        out = tmp_path / source / "scores.jsonl"
        score(tmp_path / "run/model", [str(own.folder)], out, source=source)  # type: ignore[arg-type]
        assert took(out.parent / "metrics.json")["from"] == source
    for one, other in zip(lines(tmp_path / "store/scores.jsonl"), lines(tmp_path / "audio/scores.jsonl"), strict=True):
        assert one["logits"] == pytest.approx(other["logits"], abs=1e-4)


def test_neither_transformers_nor_speechbrain_is_imported_for_scores_from_the_store(place: Place) -> None:
    words = f"score_runs(Path({str(place.system)!r}), [{str(place.data)!r}], device='cpu')"
    names = "[name for name in ('transformers', 'speechbrain') if name in sys.modules]"
    code = f"import sys; from pathlib import Path; from sertk.stages.score import score_runs; {words}; print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.count("from the store") == len(RUNS)


# ---------------------------------------------------------------- several runs


def test_embeddings_are_those_of_the_audio_wherever_features_are_read(place: Place) -> None:
    both = []
    for source in ("store", "audio"):
        found = scored(place, source, source=source, embeddings=BESIDE)
        assert took(place.data.parent / source / "metrics.json")["from"] == source
        both.append(read(place.data.parent / source / "embeddings.safetensors"))
        assert both[-1].ids == [line["id"] for line in found]
    torch.testing.assert_close(both[0].rows, both[1].rows, atol=1e-4, rtol=1e-4)
    assert (both[0].rows[0] - both[0].rows[1]).norm() > 1e-3


def invoke(*words: object) -> Result:
    from sertk.cli import app

    return CliRunner().invoke(app, ["score", *map(str, words)])


def files(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if "scores" in path.name or path.suffix == ".jsonl")


def test_runs_in_one_command_are_each_as_alone(place: Place) -> None:
    assert score_runs(place.system, [str(place.data)], device="cpu") == 0
    for fold, seed in RUNS:
        run, alone = place.run(fold, seed), place.data.parent / "alone" / fold / str(seed)
        score(run / "model", [str(place.data)], alone / "scores.jsonl", device="cpu")
        assert (run / "scores.jsonl").read_bytes() == (alone / "scores.jsonl").read_bytes()
        ours, own = (json.loads((folder / "metrics.json").read_text()) for folder in (run, alone))
        ours["took"].pop("seconds")
        own["took"].pop("seconds")
        assert ours == own
        assert (ours["trained"]["fold"], ours["trained"]["seed"]) == (fold, seed)
    assert len({(place.run(*one) / "scores.jsonl").read_bytes() for one in RUNS}) == len(RUNS)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (("--fold", "4"), [("4", 0)]),
        (("--seed", "0-2"), []),
        (("--seed", "0"), [("1", 0), ("4", 0)]),
        (("--fold", "#1,4"), [*RUNS]),
        (("--fold", "1", "--seed", "3,0"), [("1", 0), ("1", 3)]),
    ],
)
def test_runs_are_chosen_by_fold_and_seed(place: Place, words: tuple[str, ...], runs: list[tuple[str, int]]) -> None:
    done = invoke(place.system, place.data, *words)
    here = [one for one in RUNS if (place.run(*one) / "scores.jsonl").exists()]
    if runs:
        assert done.exit_code == 0, done.output
        assert here == runs
    else:  # two of each fold are not there
        assert done.exit_code == 3
        assert here == [("1", 0), ("4", 0)]
        assert "fold=4/seed=2 is not scored: " in done.output
        assert "4 of 6 runs are not scored, see above" in done.output


@pytest.mark.parametrize(("part", "name"), [("test", "scores"), ("dev", "dev"), ("train", "train")])
def test_each_part_has_files_of_its_own(place: Place, part: str, name: str) -> None:
    before = files(place.run("4"))
    assert invoke(place.system, place.data, "--fold", "4", "--part", part).exit_code == 0
    metrics = "metrics.json" if part == "test" else f"{part}.metrics.json"
    found = json.loads((place.run("4") / metrics).read_text())
    ids = getattr(Data(place.data).protocol("emobox").folds["4"], part)
    assert [one["id"] for one in lines(place.run("4") / f"{name}.jsonl")] == list(ids)
    assert (found["protocol"]["part"], found["took"]["from"]) == (part, "store")
    assert files(place.run("4")) == sorted([*before, f"{name}.jsonl"])
    assert files(place.run("1")) == before


def test_a_run_that_is_broken_ends_only_itself_and_is_named(place: Place) -> None:
    weights = place.run("1", 0) / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    shutil.rmtree(place.run("1", 3) / "model")
    done = invoke(place.system, place.data)
    assert done.exit_code == 3
    assert f"{place.run('1', 0)} is not scored: {weights} is not what it was" in done.output
    assert f"{place.run('1', 3)} is not scored: {place.run('1', 3) / 'model'} is not a folder" in done.output
    assert "2 of 3 runs are not scored, see above" in done.output
    assert [(place.run(*one) / "scores.jsonl").exists() for one in RUNS] == [False, False, True]
    told = json.loads((place.run("1", 0) / "failed.json").read_text())
    assert (told["stage"], "is not what it was" in told["error"]) == ("score", True)
    assert [(place.run(*one) / "failed.json").exists() for one in RUNS] == [True, False, False]


def test_why_a_run_is_not_scored_is_taken_away_when_it_is_and_what_training_says_stays(place: Place) -> None:
    for fold, stage in (("1", "score"), ("4", "train")):
        (place.run(fold) / "failed.json").write_text(json.dumps({"schema": 1, "stage": stage, "error": "no room"}))
    assert invoke(place.system, place.data, "--seed", "0").exit_code == 0
    assert [(place.run(fold) / "failed.json").exists() for fold in ("1", "4")] == [False, True]
    (place.run("4") / "model/model.safetensors").unlink()
    assert invoke(place.system, place.data, "--seed", "0").exit_code == 3
    assert json.loads((place.run("4") / "failed.json").read_text())["error"] == "no room"


def test_why_a_part_is_not_scored_stays_until_that_part_is(place: Place, corpus: Path) -> None:
    run, own = place.run("4"), Path(shutil.copytree(corpus, place.data.parent / "corpus"))
    data = Data(place.data)
    for name in data.protocol("emobox").folds["4"].test:
        (own / data.utterances[name].path).unlink()
    asked = (place.system, place.data, "--fold", "4", "--root", own)
    assert invoke(*asked).exit_code == 1
    for part in ("dev", "train"):
        assert invoke(*asked, "--part", part).exit_code == 0
        told = json.loads((run / "failed.json").read_text())
        assert (told["stage"], told["part"]) == ("score", "test")
    assert invoke(*asked[:-2]).exit_code == 0
    assert not (run / "failed.json").exists()


def test_where_no_run_can_be_scored_the_command_has_failed(place: Place) -> None:
    for one in RUNS:
        (place.run(*one) / "model/model.safetensors").unlink()
    assert invoke(place.system, place.data).exit_code == 1
    for one in RUNS:
        shutil.rmtree(place.run(*one) / "model")
    with pytest.raises(SertkError, match=r"no run in .*probe has a bundle that can be read .* Train one first"):
        score_runs(place.system, [str(place.data)])


def test_weights_of_an_encoder_are_looked_at_where_audio_is_read(place: Place) -> None:
    (weights,) = (place.run() / "model/files").iterdir()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = invoke(place.system, place.data, "--from", "audio", "--seed", "0")
    assert done.exit_code == 3
    assert f"{place.run()} is not scored: {weights} is not what it was" in done.output
    assert invoke(place.system, place.data, "--seed", "0").exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "x.jsonl"), "--out does not go with a folder of runs; give one RUN/model."),
        (("--protocol", "emobox"), "--protocol does not go with a folder of runs; give one RUN/model."),
        (("--shard", "1/2"), "--shard does not go with a folder of runs; give one RUN/model."),
        (("--fold", "7"), "no fold '7'"),
        (("--seed", "x"), "--seed 'x': 'x' is no seed"),
        (("more.wav",), "the runs of a system are scored on one prepared corpus"),
    ],
)
def test_what_does_not_go_with_runs_is_refused(place: Place, words: tuple[str, ...], says: str) -> None:
    done = invoke(place.system, place.data, *words)
    assert done.exit_code == 2
    assert says in done.output
    assert not list(place.system.rglob("scores.jsonl"))


def test_a_seed_does_not_go_with_one_bundle(place: Place) -> None:
    done = invoke(place.run() / "model", place.data, "--seed", "0")
    assert done.exit_code == 2
    assert "--seed does not go with one bundle; give the folder of its system" in done.output


def test_runs_of_another_corpus_are_refused(place: Place) -> None:
    own = json.loads((place.run() / "model/bundle.json").read_text())["protocol"]
    for fold in ("1", "4"):
        place.edit({"protocol": {**own, "corpus": "elsewhere"}}, fold)
    with pytest.raises(UsageError, match="was trained on elsewhere"):
        score_runs(place.system, [str(place.data)], seeds="0")
