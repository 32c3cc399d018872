"""Steps as launchers run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sertk.recipe.commands import Command
from sertk.recipe.freshness import Step, fresh
from sertk.recipe.step import work, write

Run = Callable[[Sequence[str]], int]


def a_step(folder: Path, stage: str = "train") -> Step:
    folder.mkdir(exist_ok=True)
    settings = {"lr": 1e-4, "paths": [folder], "none": None}
    made = [folder / "made"]
    return Step(stage, [stage, "data"], folder / f".{stage}.json", settings, [folder / "need"], made, run=("1", "0"))


def written(step: Step, *more: str, force: bool = False, allow_failed: bool = False) -> Path:
    command = Command([*step.words, *more], [step])
    return write(command, step.stamp.parents[1] / "jobs", force=force, allow_failed=allow_failed)


def makes(step: Step, code: int, called: list[list[str]]) -> Run:
    def run(words: Sequence[str]) -> int:
        called.append(list(words))
        step.makes[0].write_text("made")
        return code

    return run


def test_a_step_is_done_and_stamped_and_skipped_where_it_is_fresh(tmp_path: Path) -> None:
    step, called = a_step(tmp_path / "run"), list[list[str]]()
    file = written(step)
    assert work(file, makes(step, 0, called)) == 0
    assert fresh(step)
    assert not file.exists()
    assert work(written(step), makes(step, 0, called)) == 0
    assert called == [["train", "data"]]
    assert work(written(step, force=True), makes(step, 0, called)) == 0
    assert len(called) == 2


def test_a_training_that_is_refused_leaves_the_run_that_is_there_done(tmp_path: Path) -> None:
    step = a_step(tmp_path / "run")
    work(written(step), makes(step, 0, []))
    assert work(written(step._replace(settings={"lr": 0.1})), lambda words: 1) == 1
    assert fresh(step)


def test_two_calls_with_the_same_command_have_a_file_each(tmp_path: Path) -> None:
    step, called = a_step(tmp_path / "run"), list[list[str]]()
    first, second = written(step), written(step)
    assert work(first, makes(step, 1, called)) == 1
    assert work(second, makes(step, 0, called)) == 0
    assert len(called) == 2
    assert not list((tmp_path / "jobs").iterdir())


def test_what_changed_while_a_step_ran_makes_it_due_again(tmp_path: Path) -> None:
    step = a_step(tmp_path / "run")

    def run(words: Sequence[str]) -> int:
        step.needs[0].write_text("other")
        step.makes[0].write_text("made")
        return 0

    assert work(written(step), run) == 0
    assert not fresh(step)


@pytest.mark.parametrize(("allow", "code"), [(True, 0), (False, 3)])
def test_failed_inputs_are_a_step_that_is_done_only_where_they_are_allowed(
    tmp_path: Path, allow: bool, code: int
) -> None:
    step = a_step(tmp_path / "run", "prepare")
    assert work(written(step, allow_failed=allow), makes(step, 3, [])) == code
    assert fresh(step) == allow


def test_a_run_that_is_not_trained_is_not_scored(tmp_path: Path) -> None:
    step, called = a_step(tmp_path / "run", "score"), list[list[str]]()
    assert work(written(step), makes(step, 0, called)) == 1
    assert not called
    (tmp_path / "run/model").mkdir()
    assert work(written(step), makes(step, 0, called)) == 0


def test_a_forced_run_that_is_begun_again_keeps_what_it_has_done_since(tmp_path: Path) -> None:
    step, called = a_step(tmp_path / "run"), list[list[str]]()
    (tmp_path / "run/config.yaml").touch()
    file = written(step, "--force", force=True)
    assert work(file, makes(step, 130, called)) == 130  # before it deleted the old one
    old = tmp_path / "run/.old"
    assert old.exists()

    def deletes(words: Sequence[str]) -> int:
        called.append(list(words))
        old.unlink()
        return 130

    assert work(file, deletes) == 130
    assert work(file, makes(step, 0, called)) == 0
    assert called == [["train", "data", "--force"], ["train", "data", "--force"], ["train", "data"]]
    assert fresh(step)
