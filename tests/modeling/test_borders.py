"""What a part does wrong is an error that names the part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sertk.core import SertkError
from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare

# one file with a part of every kind that does what `wrong` says
FILE = """
import math
import torch
from sertk.builtin.features.spectral import Mel
from sertk.builtin.losses.ce import CrossEntropy
from sertk.builtin.samplers import Shuffle
from sertk.core import Augmentation, Backbone, Batch, Corpus, Head, Padded, Plan, Pooled, Pooling, Protocol, Rejected
from sertk.hookspecs import hookimpl


class Ear(Mel):
    def __init__(self, rate, wrong: str = ""):
        super().__init__(rate, n_mels=40)
        self.wrong = wrong

    def __call__(self, inputs):
        found = super().__call__(inputs)
        if self.wrong == "raises":
            raise KeyError("gain")
        if self.wrong == "narrow":
            return Padded(found.data[..., 1:], found.length)
        return Padded(found.data * math.nan, found.length)


class Gem(Pooling):
    def __init__(self, frames, project=None, wrong: str = ""):
        super().__init__()
        if wrong == "early":
            raise ZeroDivisionError("at once")
        if wrong == "meta":
            raise KeyError("metadata")
        self.out, self.wrong = frames.width, wrong

    def forward(self, frames, mask):
        if self.wrong == "raises":
            raise ZeroDivisionError("by nothing")
        if self.wrong == "bare":
            return frames.mean(1)
        made = frames if self.wrong == "frames" else frames.mean(1)
        made = made * math.nan if self.wrong == "nan" else made
        return Pooled(made, frames[:, :1] if self.wrong == "short" else frames)


class Net(Backbone):
    def __init__(self, inputs, wrong: str = ""):
        super().__init__()
        self.inputs, self.wrong = tuple(inputs), wrong
        self.width, self.frame_seconds = next(iter(inputs.values())).width, 0.01

    def forward(self, inputs):
        x = next(iter(inputs.values()))
        if self.wrong == "tensor":
            return x.data
        data, length = {
            "narrow": (x.data[..., 1:], x.length),
            "few": (x.data[1:], x.length),
            "nan": (x.data * math.nan, x.length),
            "lengths": (x.data, x.length[1:]),
        }[self.wrong]
        return Padded(data, length)


class Top(Head):
    def __init__(self, width, out, wrong: str = ""):
        super().__init__()
        self.layer, self.wrong = torch.nn.Linear(width, out), wrong

    def forward(self, embedding):
        return self.layer(embedding)[:, 1:] if self.wrong == "narrow" else self.layer(embedding)


class Term(CrossEntropy):
    def __init__(self, task, dims, wrong: str = ""):
        super().__init__(task, dims)
        self.wrong = wrong

    def heads(self):
        found = super().heads()
        return {name: spec._replace(out=7) for name, spec in found.items()} if self.wrong == "classes" else found

    def forward(self, views, target, groups):
        value = super().forward(views, target, groups)
        if self.wrong == "rows":
            return value.expand(4)
        if self.wrong == "whole":
            return value.long()
        return value * math.inf if self.wrong == "inf" else value


class Change(Augmentation):
    touches = ("mel",)

    def __init__(self, wrong: str = ""):
        self.wrong = wrong

    def __call__(self, batch, rng, partners):
        if self.wrong == "few":
            return batch.take(torch.arange(1, len(batch.ids)))
        if self.wrong == "lost":
            return Batch(batch.ids, {}, batch.target, batch.copy, batch.owner)
        inputs = {name: Padded(x.data[..., 1:], x.length) for name, x in batch.inputs.items()}
        return Batch(batch.ids, inputs, batch.target, batch.copy, batch.owner)


class Pick(Shuffle):
    def __init__(self, labels, lengths, batch, wrong: str = ""):
        super().__init__(labels, lengths, batch)
        self.wrong = wrong

    def plans(self, generator):
        plans = super().plans(generator)
        if self.wrong == "beyond":
            return [Plan(one.rows + 1, one.groups, one.weight) for one in plans]
        if self.wrong == "groups":
            return [Plan(one.rows, {"pair": torch.tensor([[0, len(one.rows)]])}, one.weight) for one in plans]
        return [Plan(one.rows, {}, one.weight[1:]) for one in plans]


def decide(view, rows, rng, wrong: str = ""):
    found = torch.zeros(rows, view.posterior.shape[1]).index_add(0, view.owner, view.posterior)
    if wrong == "negative":  # as large a sum
        return torch.cat([found[:, :1] + 1, found[:, 1:2] - 1, found[:, 2:]], 1)
    return 2 * found if wrong == "double" else found[:, 1:]


class Now(Ear):
    cached = False

    def fit(self, utterances, wave):
        if self.wrong == "fit":
            raise IndexError(len(utterances))


class Empty(Corpus):
    about, published, protocols = "None.", {}, {"p": Protocol(labels=None, test={"1": ["a"]})}

    def read(self, root):
        yield Rejected(root / "a.wav", "it is not there")
        raise LookupError("a table")


@hookimpl
def sertk_corpora():
    return {"empty": Empty}


@hookimpl
def sertk_features():
    return {"ear": Ear, "now": Now}


@hookimpl
def sertk_poolings():
    return {"gem": Gem}


@hookimpl
def sertk_backbones():
    return {"net": Net}


@hookimpl
def sertk_heads():
    return {"top": Top}


@hookimpl
def sertk_losses():
    return {"term": Term}


@hookimpl
def sertk_augmentations():
    return {"change": Change}


@hookimpl
def sertk_samplers():
    return {"pick": Pick}


@hookimpl
def sertk_decisions():
    return {"decide": decide}
"""


def train(given: dict[str, object], data: Path, out: Path) -> None:
    from sertk.stages.train import train as stage  # late: see test_recipe

    stage(merge.load("mini-cnn", None, given), Data(data), out)


RUN: dict[str, object] = {"protocol": "emobox", "fold": "1", "train.epochs": 1, "train.threads": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "lab.py"
    path.write_text(FILE)
    return path


def spec(name: str, wrong: str) -> dict[str, object]:
    return {"name": name, "wrong": wrong}


@pytest.mark.parametrize(
    ("part", "name", "wrong", "says"),
    [
        ("pooling", "gem", "frames", r"returned \(16, \d+, 32\); expected \(16, 32\)"),
        ("pooling", "gem", "short", r"returned \(\d+, 1, 32\) as frames; expected \(\d+, \d+, 32\)"),
        ("pooling", "gem", "bare", r"returned Tensor; expected Pooled"),
        ("pooling", "gem", "early", r"cannot be made: ZeroDivisionError: at once\. Run again with `sertk --debug"),
        ("pooling", "gem", "meta", r"cannot be made: KeyError: 'metadata'\. Run again"),
        ("pooling", "gem", "raises", r"failed: ZeroDivisionError: by nothing\. Run again with `sertk --debug"),
        ("pooling", "gem", "nan", r"returned \d+ of \d+ values that are not finite"),
        ("backbone", "net", "tensor", r"returned Tensor; expected Padded"),
        ("backbone", "net", "narrow", r"returned \(\d+, \d+, 39\); expected \(\d+, any, 40\)"),
        ("backbone", "net", "few", r"returned \(\d+, \d+, 40\); expected \(\d+, any, 40\)"),
        ("backbone", "net", "lengths", r"returned \(\d+,\) as lengths; expected \(\d+,\)"),
        ("backbone", "net", "nan", r"returned \d+ of \d+ values that are not finite"),
        ("head", "top", "narrow", r"returned \(\d+, 7\); expected \(\d+, 8\)"),
        ("losses", "term", "rows", r"returned \(4,\); expected \(\)"),
        ("losses", "term", "whole", r"returned torch\.int64; expected a floating-point number"),
        ("losses", "term", "classes", r"asks for 7 emotion outputs; the classes are 8"),
        ("losses", "term", "inf", r"returned 1 of 1 values that are not finite"),
        ("augment", "change", "few", r"returned \d+ rows \(.*\); expected the \d+ rows that it was given"),
        ("augment", "change", "lost", r"returned the inputs \[\]; expected \['mel'\]"),
        ("augment", "change", "width", r"returned \(\d+, \d+, 39\) as mel; expected \(\d+, any, 40\)"),
        ("sampler", "pick", "beyond", r"returned rows with the number (\d+); expected 0 to \d+"),
        ("sampler", "pick", "groups", r"returned groups of rows with the number (\d+); expected 0 to \d+"),
        ("sampler", "pick", "weights", r"returned \(\d+,\) as weights; expected \(\d+,\)"),
        (
            "decision",
            "decide",
            "double",
            r"returned the posterior \[.*\]; expected numbers of at least 0 that sum to 1",
        ),
        ("decision", "decide", "negative", r"returned the posterior \[.*-0.*\]; expected numbers of at least 0"),
        ("decision", "decide", "narrow", r"returned \(\d+, 7\); expected \(\d+, 8\)"),
    ],
)
def test_an_error_inside_a_part_names_the_part(
    data: Path, tmp_path: Path, file: Path, part: str, name: str, wrong: str, says: str
) -> None:
    several = part in ("losses", "augment")
    given = {
        "plugins": [str(file)],
        **RUN,
        part: [spec(name, wrong)] if several else spec(name, wrong),
    }
    kind = {"losses": "loss", "augment": "augmentation"}.get(part, part)
    with pytest.raises(SertkError, match=rf"{kind} '{name}' of lab\.py sha256 \w+ {says}"):
        train(given, data, tmp_path / "run")


def test_a_loss_that_is_no_number_names_the_loss_and_the_step(data: Path, tmp_path: Path, file: Path) -> None:
    given = {"plugins": [str(file)], "losses": [spec("term", "inf")], **RUN}
    says = r"the loss became inf in epoch 1, step 1\. loss 'term' of lab\.py .* Lower train\.optimizer\.lr"
    with pytest.raises(SertkError, match=says):
        train(given, data, tmp_path / "run")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("raises", r"failed: KeyError: 'gain'"),
        ("narrow", r"returned \(\d+, \d+, 39\); expected \(\d+, any, 40\)"),
        ("nan", r"returned (\d+) of \1 values that are not finite"),
    ],
)
def test_an_error_inside_a_feature_names_it_and_the_utterances(
    data: Path, tmp_path: Path, file: Path, wrong: str, says: str
) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied, ignore=shutil.ignore_patterns("feats"))
    given = {"plugins": [str(file)], "inputs": {"mel": spec("ear", wrong)}, **RUN}
    named = rf"03-01-[\d-]*: feature 'ear' of lab\.py sha256 \w+ {says}"
    with pytest.raises(SertkError, match=named):
        featurize(Data(copied), merge.load("mini-cnn", None, given), 1)
    if wrong != "nan":  # that shows in the loss
        given["inputs"] = {"mel": spec("now", wrong)}
        with pytest.raises(SertkError, match=rf"^feature 'now' of lab\.py sha256 \w+ {says}"):
            train(given, copied, tmp_path / "run")


def test_an_error_of_what_a_feature_learns_names_it(data: Path, tmp_path: Path, file: Path) -> None:
    given = {"plugins": [str(file)], "inputs": {"mel": spec("now", "fit")}, **RUN}
    with pytest.raises(SertkError, match=r"^feature 'now' of lab\.py sha256 \w+ failed: IndexError: \d+\."):
        train(given, data, tmp_path / "run")


def test_an_error_of_a_corpus_names_it(tmp_path: Path, file: Path) -> None:
    with pytest.raises(SertkError, match=r"^corpus 'empty' of lab\.py sha256 \w+ failed: LookupError: a table\."):
        prepare("empty", tmp_path, tmp_path / "out", [], 0.1, 1, files=[file])
