"""A recipe as steps: which of them are up to date when something that they read has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sertk.corpus import protocols
from sertk.recipe.freshness import Step, fingerprint, fresh, stamp
from sertk.recipe.plan import Ask, Plan
from sertk.settings.overrides import Choices

LOSS = '''
"""A loss of a recipe's own."""

from collections.abc import Mapping

from sertk.builtin.losses.ce import CrossEntropy
from sertk.core import Loss
from sertk.hookspecs import hookimpl


class Mine(CrossEntropy):
    """May read whatever labels there are."""


@hookimpl
def sertk_losses() -> Mapping[str, type[Loss]]:
    """By name."""
    return {"mine": Mine}
'''


@pytest.fixture
def asked(data: Path, corpus: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Makes a recipe over a prepared corpus of its own, given settings and more of what is asked."""
    work = tmp_path / "work"
    shutil.copytree(data, work / "data/ravdess")
    (tmp_path / "loss.py").write_text(LOSS)
    path = tmp_path / "recipe.yaml"
    path.write_text("corpus: ravdess\nprotocol: emobox\nsystem: mini-cnn\nfolds: ['1']\n")

    def make(settings: Sequence[str] = (), root: Path = corpus, **more: object) -> Plan:
        own = [tmp_path / "loss.py"] if any("mine" in one for one in settings) else []
        choices = Choices(set=list(settings), plugin=own, trust=True)
        return Plan(path, Ask(root=root, work=work, choices=choices, **more))  # type: ignore[arg-type]

    return make


def steps(plan: Plan, stage: str) -> list[Step]:
    return plan.steps(stage) or []


def did(plan: Plan, *stages: str) -> None:
    """Leaves the steps as done, whatever they make."""
    for stage in stages:
        for step in steps(plan, stage):
            stamp(step, fingerprint(step))


def state(plan: Plan, *stages: str) -> dict[str, bool]:
    return {stage: all(map(fresh, steps(plan, stage))) for stage in stages}


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ([], False),
        (["losses=[ce,{name: aux, task: gender}]"], True),
        (["losses=[mine]"], True),
        (["normalize=speaker"], True),
        (["normalize=scalar"], False),
    ],
)
def test_what_is_corrected_of_speakers_and_votes_is_scored_again_and_trained_again_where_it_was_learned(
    asked: Callable[..., Plan], tmp_path: Path, settings: list[str], reads: bool
) -> None:
    plan = asked(settings)
    did(plan, "train", "score")
    assert state(asked(settings), "train", "score") == {"train": True, "score": True}
    manifest = tmp_path / "work/data/ravdess/manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    changed = [{**line, "speaker": f"{line['speaker']}b", "votes": {"anger": 2}} for line in lines]
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in changed))
    assert state(asked(settings), "train", "score") == {"train": not reads, "score": False}


def test_scores_that_were_made_again_are_reported_again_though_their_figures_are_the_same(
    asked: Callable[..., Plan],
) -> None:
    plan = asked()
    (scored,) = steps(plan, "score")
    for path in scored.makes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    did(plan, "report")
    assert state(asked(), "report") == {"report": True}
    scored.makes[0].write_text('{"speaker": "05b"}\n')  # what intervals are made of
    assert state(asked(), "report") == {"report": False}


def test_results_that_are_to_be_published_are_up_to_date_only_while_the_published_file_is_as_it_was(
    asked: Callable[..., Plan], tmp_path: Path
) -> None:
    (tmp_path / "RESULTS.md").write_text("# ravdess: results\n")
    did(asked(publish=True), "report")
    assert state(asked(publish=True), "report") == {"report": True}
    (tmp_path / "RESULTS.md").unlink()
    assert state(asked(publish=True), "report") == {"report": False}


def test_a_corpus_folder_with_the_work_in_it_is_prepared_again_for_its_own_files_alone(
    asked: Callable[..., Plan], tmp_path: Path
) -> None:
    did(asked(root=tmp_path), "prepare")
    for name in ("data/ravdess/feats/index.jsonl", "exp/emobox/RESULTS.md"):
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text("{}\n")
    assert state(asked(root=tmp_path), "prepare") == {"prepare": True}
    (tmp_path / "work/data/mine.wav").touch()
    assert state(asked(root=tmp_path), "prepare") == {"prepare": False}


def test_the_folds_are_those_of_the_file_as_it_is_now(asked: Callable[..., Plan]) -> None:
    plan = asked()
    before, written = plan.folds, protocols.load(plan.folds_file)
    fewer = replace(written, folds={name: fold for name, fold in written.folds.items() if name != "1"})
    plan.folds_file.write_text(json.dumps({"schema": 1, **protocols.to_json(fewer)}))
    assert before is not None
    assert plan.folds == before[1:]
