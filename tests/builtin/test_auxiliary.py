"""Auxiliary tasks: how a value becomes a class, and the loss on a head of its own."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sertk.builtin.losses.auxiliary import Auxiliary
from sertk.core import (
    AUX,
    WHOLE,
    AuxTask,
    Dims,
    HeadSpec,
    InputError,
    Padded,
    SertkError,
    Span,
    Target,
    Task,
    UsageError,
    View,
)
from sertk.corpus.prepared import Data
from sertk.plugins import Plugins
from sertk.settings import merge
from sertk.stages.score import score
from sertk.training.loss import make_mixture

NAN = math.nan
LN3 = math.log(3)
TASK = Task(("anger", "joy", "sadness"), torch.tensor([3, 2, 2]), AUX)
DIMS = Dims(frame=4, embedding=5)
PLUGINS = Plugins()
LOSSES = [{"name": "ce"}, {"name": "aux", "task": "valence"}]


def numbers(task: AuxTask, *values: object) -> list[float]:
    return task.numbers({str(place): one for place, one in enumerate(values)}).tolist()


def test_two_is_low_and_four_is_high() -> None:
    # P5: low [1, 2], medium (2, 4), high [4, 5]
    found = numbers(AUX["valence"], 1, 2.0, 2.0001, 3, 3.9999, "4.0", 5, None)
    assert found[:-1] == [0, 0, 1, 1, 1, 2, 2]
    assert math.isnan(found[-1])


def test_the_middle_one_of_an_odd_number_of_edges_belongs_to_the_upper_bin() -> None:
    assert numbers(AuxTask(edges=(1.0, 2.0, 3.0)), 1, 1.5, 2, 2.5, 3) == [0, 1, 2, 2, 3]
    assert numbers(AuxTask(edges=(2.0,)), 1.9, 2) == [0, 1]


def test_nothing_is_no_label_and_an_unknown_class_is_refused() -> None:
    found = numbers(AUX["gender"], "male", None, "", "female")
    assert found[0::3] == [1, 0]
    assert all(map(math.isnan, found[1:3]))
    with pytest.raises(InputError, match="utt: 'F' is no class of the task; they are female, male"):
        AUX["gender"].numbers({"utt": "F"})


def test_a_value_of_a_scale_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="utt: the value 'high' of a scale is no number"):
        AUX["valence"].numbers({"utt": "high"})


def seen(values: Tensor, head: str = "aux_valence") -> Mapping[Span, View]:
    """A view of the whole with these values of the task's head."""
    size = len(values)
    frames, ones = Padded(torch.zeros(size, 1, 4), torch.ones(size, dtype=torch.int64)), torch.ones(size)
    return {WHOLE: View(frames, torch.zeros(size, 5), {head: values}, torch.arange(size), ones)}


def target(*numbers: float, weight: tuple[float, ...] | None = None, of: str = "valence") -> Target:
    size = len(numbers)
    given = torch.ones(size) if weight is None else torch.tensor(weight, dtype=torch.float32)
    return Target(torch.eye(3)[:size], given, {of: torch.tensor(numbers)})


def test_a_system_trains_gender_beside_the_emotion(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sertk.stages.train import train  # late: see test_recipe

    losses = [{"name": "ce"}, {"name": "aux", "task": "gender"}]
    more = {"protocol": "emobox", "fold": "1", "train.epochs": 3, "train.threads": 1, "alpha": 0.25}
    train(merge.load("mini-cnn", None, {**more, "losses": losses}), Data(data), tmp_path / "run")
    line = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])
    assert line["train_loss"] == pytest.approx(0.75 * line["terms"]["ce"] + 0.25 * line["terms"]["aux"], rel=1e-5)
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())
    assert about["heads"]["aux_gender"]["out"] == 2
    assert "task 'gender': 96 of 96 training utterances have a label: female 48, male 48" in capsys.readouterr().err
    score(tmp_path / "run/model", [str(data)], tmp_path / "scores.jsonl")  # without the loss


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0], [1], [2], [3]]])
def test_its_curve_is_the_mean_of_the_rows_with_a_label_whatever_the_batches(parts: list[list[int]]) -> None:
    # rows 0 and 1 have a label, with losses -ln 3/5 = 0.510826 and -ln 1/5 = 1.609438; ce of three equal logits is ln 3
    mixture = make_mixture(PLUGINS, merge.load(None, None, {"losses": LOSSES, "alpha": 0.25}), TASK, DIMS)
    values, given = torch.tensor([[LN3, 0, 0], [0, 0, LN3], [0, 0, 0], [0, 0, 0]]), torch.tensor([0, 0, NAN, NAN])
    sums = torch.zeros(2, 2, dtype=torch.float64)
    for rows in parts:
        whole = seen(values[rows])[WHOLE]
        view = replace(whole, heads={**whole.heads, "emotion": torch.zeros(len(rows), 3)})
        labels = Target(torch.eye(3)[[0] * len(rows)], torch.ones(len(rows)), {"valence": given[rows]})
        sums += mixture.plain({WHOLE: view}, labels)
    assert sums[:, 1].tolist() == [4, 2]
    means = (sums[:, 0] / sums[:, 1]).tolist()
    assert means == pytest.approx([0.75 * LN3, 0.25 * (0.510826 + 1.609438) / 2], abs=1e-5)


def test_a_corpus_without_labels_of_a_task_is_refused(data: Path, tmp_path: Path) -> None:
    from sertk.stages.train import train

    losses = [{"name": "ce"}, {"name": "aux", "task": "valence"}]
    settings = merge.load("mini-cnn", None, {"protocol": "emobox", "fold": "1", "train.threads": 1, "losses": losses})
    with pytest.raises(SertkError, match=r"fold 1 of emobox: no training utterance has a label of task 'valence'"):
        train(settings, Data(data), tmp_path / "run")


def test_it_is_the_cross_entropy_of_the_rows_that_have_a_label() -> None:
    # softmax (ln 3, 0, 0) = (3, 1, 1) / 5: -ln 3/5 = 0.510826, -ln 1/5 = 1.609438; the third row has no label
    loss = Auxiliary(TASK, DIMS, task="valence")
    values = torch.tensor([[LN3, 0, 0], [LN3, 0, 0], [9, -9, 9]])
    found = loss(seen(values), target(0, 2, NAN), {})
    assert found.item() == pytest.approx((0.510826 + 1.609438) / 2, abs=1e-5)


def test_companions_do_not_count() -> None:
    loss = Auxiliary(TASK, DIMS, task="valence")
    values = torch.tensor([[LN3, 0, 0], [LN3, 0, 0]])
    assert loss(seen(values), target(0, 2, weight=(1, 0)), {}).item() == pytest.approx(0.510826, abs=1e-5)


def test_a_batch_without_a_label_costs_nothing_and_has_a_gradient() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    loss = Auxiliary(TASK, DIMS, task="valence")(seen(values), target(NAN, NAN), {})
    loss.backward()
    assert loss.item() == 0
    assert values.grad is not None
    assert values.grad.abs().sum() == 0


def test_its_head_has_the_name_of_the_task_and_may_read_some_branches() -> None:
    assert Auxiliary(TASK, DIMS, task="gender").heads() == {"aux_gender": HeadSpec("linear", 2)}
    assert Auxiliary(TASK, DIMS, task="valence", reads=["audio"]).heads() == {
        "aux_valence": HeadSpec("linear", 3, ("audio",))
    }


def test_a_task_that_the_protocol_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"the protocol has no task 'gendr'; did you mean 'gender'"):
        Auxiliary(TASK, DIMS, task="gendr")
    with pytest.raises(UsageError, match=r"has none; an older sertk may have prepared it.*`sertk prepare`"):
        Auxiliary(Task(("a", "b"), torch.ones(2)), DIMS)


def test_labels_of_tasks_that_no_loss_asks_for_are_not_read(data: Path, tmp_path: Path) -> None:
    from sertk.stages.train import train

    mine = Path(shutil.copytree(data, tmp_path / "data"))
    lines = [json.loads(line) for line in (mine / "manifest.jsonl").read_text().splitlines()]
    text = [json.dumps({**one, "aux": {**one["aux"], "valence": "negative"}}) for one in lines]
    (mine / "manifest.jsonl").write_text("\n".join([*text, ""]))
    plain = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1}
    train(merge.load("mini-cnn", None, plain), Data(mine), tmp_path / "run")
    losses = [{"name": "ce"}, {"name": "aux", "task": "valence"}]
    with pytest.raises(InputError, match="the value 'negative' of a scale is no number"):
        train(merge.load("mini-cnn", None, {**plain, "losses": losses}), Data(mine), tmp_path / "other")
