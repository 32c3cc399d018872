"""Scoring: what is random follows the run's seed, and one input that fails, in whatever way, costs itself alone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sertk
from sertk.core import Rng, Utterance
from sertk.corpus import audio
from sertk.scoring.scorer import Scorer

BUNDLES = Path(__file__).parents[1] / "modeling" / "bundles"
LONG = BUNDLES / "long.flac"


def bundle(folder: Path, components: dict[str, object], seed: int | None) -> Path:
    """A bundle of four windows or more on the long file, with other components and another seed."""
    shutil.copytree(BUNDLES / "schema-1" / "mini-cnn", folder)
    about = json.loads((folder / "bundle.json").read_text())
    about["components"] |= components
    about["training"] = None if seed is None else {**about["training"], "seed": seed}
    (folder / "bundle.json").write_text(json.dumps(about))
    return folder


def lines(scorer: Scorer, file: Path, ids: list[str]) -> list[dict[str, Any]]:
    utterances = [Utterance(id=one, path=file.name, speaker="unknown", label=None) for one in ids]
    failed: list[dict[str, Any]] = []
    found = list(scorer.lines(utterances, file.parent, 3, failed))
    assert not failed
    return found


def test_a_line_has_intensity_and_votes_only_if_they_are_known(tmp_path: Path) -> None:
    scorer = Scorer(BUNDLES / "schema-1" / "mini-cnn")
    plain = Utterance("a", LONG.name, "unknown", None)
    known = replace(plain, id="b", aux={"intensity": "strong"}, votes={"sadness": 1, "anger": 2, "fear": 3})
    odd = replace(plain, id="c", aux={"intensity": 0.25, "take": 2}, votes={"fear": 3})
    found = {line["id"]: line for line in scorer.lines([plain, known, odd], LONG.parent, 3, [])}
    assert {*found["b"]} - {*found["a"]} == {"intensity", "votes"}
    assert (found["b"]["intensity"], found["b"]["votes"]) == ("strong", {"anger": 2, "sadness": 1})
    assert [*found["a"]] == [*found["c"]]
    assert {**found["c"], "id": "a"} == found["a"]


def test_a_random_decision_draws_by_the_seed_of_the_run(tmp_path: Path) -> None:
    ids = [f"u{number}" for number in range(12)]
    every = {"segments": "4:4:drop", "decision": {"name": "mean", "at": "segments"}}
    span = sertk.load(bundle(tmp_path / "all", every, 0)).bundle.decider.span
    drawn = []
    for seed in (0, 3):
        chosen = {**every, "decision": {"name": "random", "at": "segments"}}
        scorer = sertk.load(bundle(tmp_path / f"seed{seed}", chosen, seed))
        logits = [tuple(line["posterior"]) for line in lines(scorer, LONG, ids)]
        windows = sorted(set(logits), key=logits.index)
        # the same windows for equal draws, other windows for other draws
        draws = Rng.for_rows(seed, ids, [0] * len(ids), 0, "decision").integers(torch.full((len(ids),), count(scorer)))
        first = dict(zip(draws.tolist(), logits, strict=True))
        assert [first[draw] for draw in draws.tolist()] == logits
        assert len(windows) == len(first) > 2
        drawn.append(logits)
    assert span.length == 4
    assert drawn[0] != drawn[1]


def count(scorer: Scorer) -> int:
    """Windows of the long file."""
    from sertk.core import Batch, Padded
    from sertk.corpus import audio

    wave = Padded.stack([audio.read(LONG, "long", scorer.bundle.settings.audio)])
    batch = Batch(("long",), {"wave": wave}, None, torch.zeros(1).long(), torch.zeros(1).long())
    with torch.inference_mode():
        views = scorer.bundle.model(scorer.bundle.frontend(batch).inputs, [scorer.bundle.decider.span])
    return len(views[scorer.bundle.decider.span].owner)


def test_random_crops_lie_by_the_seed_of_the_run(tmp_path: Path) -> None:
    crop = {"crop": {"length": 0.6, "score": "random"}, "segments": None, "decision": {"name": "mean", "at": "whole"}}
    found = {}
    for name, seed in (("zero", 0), ("none", None), ("three", 3), ("again", 3)):
        found[name] = [
            line["logits"] for line in lines(sertk.load(bundle(tmp_path / name, crop, seed)), LONG, ["a", "b"])
        ]
    assert found["three"] == found["again"] != found["zero"]
    assert found["none"] == found["zero"]  # an old bundle that does not say
    assert found["zero"][0] != found["zero"][1]


def test_an_utterance_whose_values_are_not_finite_has_no_decision(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "torn", {}, 0)
    weights = load_file(folder / "model.safetensors")
    name = next(word for word in weights if word.startswith("heads.emotion") and word.endswith("bias"))
    weights[name][1] = torch.nan
    save_file(weights, folder / "model.safetensors")
    failed: list[dict[str, Any]] = []
    utterances = [Utterance(id="a", path="long.flac", speaker="unknown", label=None)]
    assert list(sertk.load(folder).lines(utterances, BUNDLES, 1, failed)) == []
    assert [(one["id"], "not finite" in one["reason"]) for one in failed] == [("a", True)]


# --- one that fails is one that is lost ------------------------------------------------------------------------------


def tones(folder: Path, eighths: tuple[int, ...]) -> list[Utterance]:
    """A tone for each number, so many eighths of a second long."""
    for number, size in enumerate(eighths):
        wave = 0.3 * np.sin(2 * np.pi * 300 * (number + 1) * np.arange(size * 2000) / 16_000)
        soundfile.write(folder / f"{number}.wav", wave, 16_000)
    return [Utterance(f"u{number}", f"{number}.wav", "s", None) for number in range(len(eighths))]


def ids_of(scorer: Scorer, chosen: list[Utterance], root: Path, batch: int = 32) -> tuple[list[str], dict[str, str]]:
    """Ids of the score lines, and reasons of the failures by id."""
    failed: list[dict[str, Any]] = []
    found = [line["id"] for line in scorer.lines(chosen, root, batch, failed)]
    return found, {one["id"]: one["reason"] for one in failed}


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_of_a_batch_that_the_model_fails_on_only_the_guilty_row_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    chosen = tones(tmp_path, (5, 4, 12, 3, 7))
    scorer = Scorer(BUNDLES / "schema-1" / "mini-cnn")
    forward = scorer._forward

    def limited(
        ids: Sequence[str], inputs: Sequence[Mapping[str, Tensor]], speakers: Sequence[str | None]
    ) -> tuple[Tensor, Tensor]:
        longest = max(len(one["wave"]) for one in inputs)
        if longest > 16_000:  # the third is of 24,000 samples, no other of more than 14,000
            raise ValueError(f"{longest} samples are beyond the encoder's 16000")
        return forward(ids, inputs, speakers)

    monkeypatch.setattr(scorer, "_forward", limited)
    found, failed = ids_of(scorer, chosen, tmp_path, batch)
    assert found == ["u0", "u1", "u3", "u4"]
    assert list(failed) == ["u2"]
    assert failed["u2"].startswith("u2: ValueError: ")
    assert "beyond the encoder's 16000" in failed["u2"]


@pytest.mark.parametrize("error", [MemoryError(), ValueError("odd chunk"), RecursionError(), KeyError("fmt")])
def test_a_decoder_may_fail_in_any_way_on_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    chosen = tones(tmp_path, (5, 4, 6))
    decode = audio.decode_up_to

    def odd(seconds: float, path: Path, *cut: Any, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        if path.name == "1.wav":
            raise error
        return decode(seconds, path, *cut, **more)

    monkeypatch.setattr(audio, "decode_up_to", odd)
    found, failed = ids_of(Scorer(BUNDLES / "schema-1" / "mini-cnn"), chosen, tmp_path)
    assert found == ["u0", "u2"]
    assert list(failed) == ["u1"]
    assert failed["u1"].startswith("u1: ")
    assert isinstance(error, MemoryError) == ("not enough memory" in failed["u1"])


def test_a_file_beyond_what_an_encoder_takes_is_scored_among_the_others(tmp_path: Path) -> None:
    chosen = tones(tmp_path, (8, 31 * 8, 9))
    found, failed = ids_of(Scorer(BUNDLES / "schema-1" / "whisper-frozen"), chosen, tmp_path)
    assert (found, failed) == (["u0", "u1", "u2"], {})


def test_a_label_that_is_no_number_costs_its_own_line_alone(tmp_path: Path) -> None:
    one, two = tones(tmp_path, (5, 4))
    odd = replace(one, session=math.nan)  # type: ignore[arg-type]  # as a manifest may say it
    found, failed = ids_of(Scorer(BUNDLES / "schema-1" / "mini-cnn"), [odd, two], tmp_path)
    assert (found, list(failed)) == (["u1"], ["u0"])
    assert failed["u0"].startswith("u0: session is nan")


def test_a_device_that_is_lost_is_nobodys_fault_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tones(tmp_path, (5, 4))
    scorer = Scorer(BUNDLES / "schema-1" / "mini-cnn")

    def dead(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(scorer, "_forward", dead)
    with pytest.raises(torch.AcceleratorError):
        ids_of(scorer, chosen, tmp_path)
