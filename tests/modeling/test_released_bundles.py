"""Bundles of released versions score as they did.

`bundles/schema-N` keeps bundles of every released schema as `sertk train` wrote them, with the scores of the code of
that time in `expected.json`. Whatever changes in sertk, they load and they score the same, for ever: people keep their
models. A test that fails here is never mended by new numbers. How the bundles were made is in `bundles/README.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sertk
from sertk.core import Utterance

BUNDLES = Path(__file__).parent / "bundles"
AUDIO = sorted(path.name for path in BUNDLES.glob("*.flac"))
RELEASED = sorted(path for path in BUNDLES.glob("schema-*/*") if path.is_dir())


def expected(bundle: Path) -> dict[str, dict[str, list[float]]]:
    """Posterior and logits by audio file, as the code of its time gave them."""
    scores: dict[str, dict[str, list[float]]] = read(bundle.parent / "expected.json")[bundle.name]
    return scores


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def name(bundle: Path) -> str:
    return f"{bundle.parent.name}/{bundle.name}"


def test_no_released_bundle_is_missing() -> None:
    kept = {name(file.parent / word) for file in BUNDLES.glob("schema-*/expected.json") for word in read(file)}
    assert kept == {name(bundle) for bundle in RELEASED} >= {"schema-1/mini-cnn", "schema-1/whisper-frozen"}
    assert AUDIO == ["long.flac", "short.flac"]


@pytest.mark.parametrize("bundle", RELEASED, ids=name)
def test_a_released_bundle_gives_the_posterior_of_its_time(bundle: Path) -> None:
    scorer, wanted = sertk.load(bundle), expected(bundle)
    assert sorted(wanted) == AUDIO
    for file, scores in wanted.items():
        posterior = scorer(BUNDLES / file)
        assert list(posterior) == read(bundle / "bundle.json")["classes"]
        assert list(posterior.values()) == pytest.approx(scores["posterior"], rel=0, abs=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("bundle", RELEASED, ids=name)
def test_a_released_bundle_gives_the_score_lines_of_its_time(bundle: Path, batch: int) -> None:
    wanted = expected(bundle)
    failed: list[dict[str, Any]] = []
    utterances = [Utterance(id=file, path=file, speaker="unknown", label=None) for file in wanted]
    lines = list(sertk.load(bundle).lines(utterances, BUNDLES, batch, failed))
    assert not failed
    assert [line["id"] for line in lines] == list(wanted)
    for line in lines:
        for key, numbers in wanted[line["id"]].items():
            assert line[key] == pytest.approx(numbers, rel=0, abs=1e-5), (line["id"], key)
