"""Scoring: what is random follows the run's seed, and values that are not finite are no decision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import sertk
from sertk.core import Rng, Utterance
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
