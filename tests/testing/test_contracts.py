"""Everything registered keeps its contracts; and the contracts notice who breaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor, nn

from sertk import hookspecs
from sertk.core import (
    WHOLE,
    Augmentation,
    Backbone,
    Batch,
    BatchSampler,
    Corpus,
    Feature,
    FrameSpec,
    Head,
    HeadSpec,
    InputSpec,
    Launcher,
    Loss,
    Padded,
    Plan,
    Pooled,
    Pooling,
    Protocol,
    Rejected,
    Target,
    UsageError,
    Utterance,
    View,
    Views,
)
from sertk.plugins import KINDS, Plugins, manager
from sertk.testing import ACTORS, Case, contracts, tone_corpus, tree
from sertk.testing.contracts import CHECKS

PLUGINS = Plugins()

# settings of components that cannot be made without, and others worth the contracts, by kind and name
SIZES = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
SPEECH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH |= {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
NEEDED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("corpus", "table"): {"list": "list.csv"},
    ("backbone", "hubert"): {"config": SPEECH},
    ("backbone", "wav2vec2"): {"config": SPEECH},
    ("backbone", "wavlm"): {"config": SPEECH},
    ("backbone", "whisper"): {"config": SIZES},
    ("pooling", "flam"): {"heads": 2},
    ("feature", "frozen"): {"backbone": {"name": "whisper", "config": SIZES}},
}
WAVE = {"wave": InputSpec(1, 1 / 16_000)}
OFFERED: Mapping[tuple[str, str], Mapping[str, InputSpec]] = {
    ("backbone", name): WAVE for name in ("hubert", "wav2vec2", "wavlm", "whisper")
}
OTHERS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("feature", "mel", {"log": "ln", "power": 1.0, "pre_emphasis": 0.97, "window": "hamming"}),
    ("feature", "frozen", {"backbone": {"name": "whisper", "config": SIZES, "layers": "all"}, "pool": "mean_std"}),
    ("feature", "frozen", {"backbone": {"name": "whisper", "config": SIZES, "window": "30s"}}),
    ("backbone", "cnn_transformer", {"layers": 0}),
    ("backbone", "wav2vec2", {"config": {**SPEECH, "feat_extract_norm": "layer", "do_stable_layer_norm": True}}),
    ("backbone", "wavlm", {"config": SPEECH, "layers": "weighted", "freeze": 1, "normalize": True}),
    ("backbone", "hubert", {"config": SPEECH, "layers": "all", "freeze": "all"}),
    ("backbone", "whisper", {"config": SIZES, "layers": "weighted", "freeze": 1}),
    ("backbone", "whisper", {"config": SIZES, "layers": "all", "freeze": "all"}),
    ("backbone", "whisper", {"config": SIZES, "layers": 1, "window": "30s"}),
    ("loss", "arcface", {"margin": 0.3, "scale": 30.0, "reduction": "sum"}),
    ("loss", "ce", {"balance": "balanced", "smoothing": 0.1, "reduction": "sum"}),
    ("loss", "contrastive", {"distance": "l2"}),
    ("loss", "contrastive", {"distance": "l2", "on": "posterior", "pairs": "balanced"}),
    ("loss", "contrastive", {"on": "logits"}),
    ("loss", "focal", {"gamma": 0.5, "reduction": "sum"}),
    ("loss", "frame_supcon", {"normalize": False}),
    ("loss", "frame_supcon", {"tau": 0.01}),
    ("loss", "kl", {"reduction": "sum"}),
    ("loss", "triplet", {"at": "whole"}),
    ("loss", "triplet", {"negatives": "batch"}),
    ("pooling", "flam", {"heads": 1}),
    ("augmentation", "eam", {"probability": 1.0}),
    ("augmentation", "eam", {"energy": False}),
    ("augmentation", "lam", {"probability": 1.0}),
)


def everything() -> list[Any]:
    """The cases of everything registered, with defaults and with the settings above."""
    named = [(kind, name, NEEDED.get((kind, name), {})) for kind in KINDS for name in PLUGINS.names(kind)]
    cases = [
        pytest.param(case, id=f"{case.id} {dict(settings) or ''}".strip())
        for kind, name, settings in (*named, *OTHERS)
        for case in contracts(kind, name, settings, inputs=OFFERED.get((kind, name)), plugins=PLUGINS)
    ]
    wide = {"spectrogram": InputSpec(128, 0.01)}
    paper = contracts("backbone", "cnn_transformer", {"tail": "drop"}, inputs=wide, plugins=PLUGINS)
    return [*cases, *(pytest.param(case, id=f"{case.id} {{'tail': 'drop'}}") for case in paper)]


@pytest.mark.parametrize("check", everything())
def test_keeps_its_contract(check: Case) -> None:
    check()


@pytest.mark.parametrize("name", [name for name in PLUGINS.names("sampler") if name != "balanced_pairs"])
def test_every_row_comes_exactly_once_an_epoch(name: str) -> None:
    labels = torch.arange(61) % 4
    sampler = PLUGINS.make("sampler", name, labels, torch.rand(61), 8)
    plans = sampler.epoch(1, 0)
    assert sorted(torch.cat([plan.rows[plan.weight > 0] for plan in plans]).tolist()) == list(range(61))


# ---------------------------------------------------------------- what to ask for


def test_contracts_are_of_everything_of_a_kind_or_of_a_name() -> None:
    assert {case.subject.kind for case in contracts(plugins=PLUGINS)} == set(KINDS)
    assert {case.subject.name for case in contracts("head", plugins=PLUGINS)} == set(PLUGINS.names("head"))
    assert [case.id for case in contracts("metric", "ua", plugins=PLUGINS)] == [
        "metric ua: a figure is in [0, 1]",
        "metric ua: right decisions alone give 1",
    ]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'triplet'"):
        contracts("loss", "tripelt", plugins=PLUGINS)


def test_settings_reach_the_component() -> None:
    (case, *_) = contracts("loss", "ce", {"smoothing": "much"}, plugins=PLUGINS)
    with pytest.raises(UsageError, match="smoothing must be a number"):
        case()


def test_a_case_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    for case in contracts("head", "linear", plugins=PLUGINS):
        case()
    assert torch.equal(torch.rand(2), wanted)


# ---------------------------------------------------------------- those who break them


class Net(Backbone):
    """Averages over the padding too: of three contracts none is kept."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.inputs, self.width, self.frame_seconds = ("mel",), 40, 0.01
        self.branches = {"all": slice(0, 41)}
        self.hidden = torch.randn(40)  # a weight that no state_dict knows

    def forward(self, inputs: Mapping[str, Padded]) -> Padded:
        x = inputs["mel"]
        spread = x.data.std(dim=1, keepdim=True)  # no number of one frame
        return Padded(x.data / (spread + 1e-3) + self.hidden + x.data.mean(), x.length)


class Pool(Pooling):
    """Forgets the mask, its companions, the projection and a weight."""

    def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
        super().__init__()
        self.out, self.hidden = frames.width, torch.randn(frames.width)

    def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
        middle = frames.mean(1) + frames.mean() + self.hidden
        return Pooled(middle / frames.shape[1] ** (frames.shape[1] > 1) / (frames.std(1) > 0), frames)


class Batchwise(Head):
    """Standardises over the batch, which one row has no deviation for."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = torch.randn(width, out)

    def forward(self, embedding: Tensor) -> Tensor:
        return (embedding - embedding.mean(0)) / embedding.std(0) @ self.weight


class Ear(Feature):
    """Looks behind the end, normalises over the batch, counts a frame too many a second, and writes to the wave."""

    def __init__(self, rate: int) -> None:
        self.width, self.frame_seconds = 1, 0.02

    def __call__(self, inputs: Padded) -> Padded:
        inputs.data[:, 0] += 1
        frames = inputs.data.unfold(1, 160, 160).mean(2, keepdim=True)
        return Padded(frames / inputs.data.std() + inputs.data.sum(1)[:, None, None], inputs.length // 160)


class Hiss(Augmentation):
    """Takes torch's own random numbers for the whole tensor, changes what it does not name, and writes to labels."""

    def __call__(self, batch: Batch, rng: object, partners: Batch | None) -> Batch:
        assert batch.target is not None
        batch.target.soft.add_(1.0)
        inputs = {
            name: replace(rows, data=rows.data + torch.randn_like(rows.data)) for name, rows in batch.inputs.items()
        }
        return replace(batch, inputs=inputs)


class Draw(BatchSampler):
    """Draws with replacement from torch's own generator, forgets row 0, too many at once, and knows no ranks."""

    def plans(self, generator: torch.Generator) -> list[Plan]:
        rows = torch.randint(1, max(2, len(self.labels)), (self.batch + 1,))
        return [Plan(rows, {"pair": torch.zeros(1, 2, dtype=torch.int64)}, torch.ones(len(rows)))]

    def shard(self, rank: int, ranks: int) -> None:
        self.rank = rank

    def epoch(self, epoch: int, seed: int) -> list[Plan]:
        return self.plans(torch.Generator())[getattr(self, "rank", 0) :]


class Nowhere(Corpus):
    about = ""
    published = {"anger": 0}  # noqa: RUF012
    protocols = {"loose": Protocol({"angre": "anger"}, {"1": []})}  # noqa: RUF012

    def read(self, root: Path) -> Iterator[Utterance | Rejected]:
        return iter(())


class Sulking(Launcher):
    def run(self, commands: object, jobs: int) -> list[int]:
        return [1]


def posteriors(view: View, rows: int, rng: object) -> Tensor:
    """The first windows of the batch, twice as sure."""
    return view.logits[torch.zeros(rows).long()].softmax(1) ** 2


def loss_of(body: Callable[..., Tensor], heads: Mapping[str, HeadSpec] | None = None) -> type[Loss]:
    """A loss that trains the emotion head with (view, target, groups) -> Tensor."""
    specs = {"emotion": HeadSpec("linear", 4)} if heads is None else heads

    class Made(Loss):
        trains = frozenset({"emotion"})

        def __init__(self, task: object, dims: object) -> None:
            super().__init__()
            self.hidden = torch.rand(1)

        def heads(self) -> Mapping[str, HeadSpec]:
            return specs

        def forward(self, views: Views, target: Target, groups: Mapping[str, Tensor]) -> Tensor:
            return body(self, views, target)

    return Made


def nll(view: View, target: Target) -> Tensor:
    return -(target.soft * view.logits.log_softmax(1)).sum(1)


def mean(view: View, target: Target) -> Tensor:
    return (nll(view, target) * target.weight).sum() / target.weight.sum()


def hard_only(_: Loss, views: Views, target: Target) -> Tensor:
    if not target.pure.all():
        raise ValueError("soft labels")
    return mean(views[WHOLE], target)


def writing(_: Loss, views: Views, target: Target) -> Tensor:
    value = mean(views[WHOLE], target)
    target.weight.mul_(0.5)
    return value


LOSSES: Mapping[str, tuple[str, Callable[..., Tensor]]] = {
    "naive": (
        "gives a finite scalar with finite gradients",
        lambda _, v, t: -(t.soft * v[WHOLE].posterior.log()).sum(1).mean(),
    ),
    "vector": ("gives a finite scalar with finite gradients", lambda _, v, t: nll(v[WHOLE], t)),
    "detached": ("one row works", lambda _, v, t: mean(v[WHOLE], t).detach()),
    "padded": ("padding does not matter", lambda _, v, t: mean(v[WHOLE], t) + v[WHOLE].frames.data.mean()),
    "ordered": (
        "order does not matter",
        lambda _, v, t: (nll(v[WHOLE], t) * torch.arange(1.0, 1 + len(t.weight))).mean(),
    ),
    "hard": ("soft labels are taken", hard_only),
    "spread": ("one row works", lambda _, v, t: mean(v[WHOLE], t) / v[WHOLE].embedding.std(0).sum()),
    "heavy": ("rows of weight 0 do not matter", lambda _, v, t: nll(v[WHOLE], t).mean()),
    "writing": ("gives the same twice", writing),
    "greedy": (
        "what other losses ask for does not matter",
        lambda _, v, t: sum((mean(v[s], t.take(v[s].owner)) for s in v), torch.zeros(())),
    ),
    "forgetful": ("saved and loaded it gives the same bits", lambda s, v, t: mean(v[WHOLE], t) * s.hidden.squeeze()),
}


def guests() -> Plugins:
    """The builtins, and with them those who break contracts."""
    source = manager()
    losses: dict[str, type[nn.Module]] = {name: loss_of(body) for name, (_, body) in LOSSES.items()}
    losses["headless"] = loss_of(lambda _, v, t: mean(v[WHOLE], t), {})
    offers: dict[str, Mapping[str, Any]] = {
        "corpus": {"bad": Nowhere},
        "feature": {"bad": Ear},
        "backbone": {"bad": Net},
        "pooling": {"bad": Pool},
        "head": {"bad": Batchwise},
        "loss": losses,
        "augmentation": {"bad": Hiss},
        "sampler": {"bad": Draw},
        "decision": {"bad": posteriors},
        "metric": {"bad": lambda counts: float(counts.sum())},
        "launcher": {"bad": Sulking},
    }
    hooks = {KINDS[kind].hook: hookspecs.hookimpl(lambda found=found: found) for kind, found in offers.items()}
    source.register(SimpleNamespace(**hooks), "bad")
    return Plugins(source)


BAD = guests()
LET_OFF = {("backbone", "companions do not matter to fixed crops")}  # the same as the one without crops


def broken() -> list[tuple[str, str, str]]:
    """(kind, name, contract that it breaks)."""
    others = [
        (kind, "bad", what)
        for kind, checks in CHECKS.items()
        for what in checks
        if kind != "loss" and (kind, what) not in LET_OFF
    ]
    losses = [("loss", name, what) for name, (what, _) in LOSSES.items()]
    return [*others, *losses, ("loss", "headless", "what it asks for exists")]


@pytest.mark.filterwarnings("ignore:std")  # of one row, which is what breaks
@pytest.mark.parametrize(("kind", "name", "what"), broken())
def test_a_broken_contract_is_noticed(kind: str, name: str, what: str) -> None:
    (case,) = (one for one in contracts(kind, name, plugins=BAD) if one.id == f"{kind} {name}: {what}")
    with pytest.raises((AssertionError, ValueError)) as caught:
        case()
    if caught.type is AssertionError:
        assert name in str(caught.value)
        assert str(caught.value).endswith(".")


# ---------------------------------------------------------------- the corpora to test on


@pytest.mark.parametrize(
    "form", [{}, {"suffix": ".flac", "channels": 2, "rate": 44_100}, {"actors": ACTORS[:2], "per_class": 8}]
)
def test_a_tree_is_one_that_the_corpus_reads_whole(tmp_path: Path, form: dict[str, Any]) -> None:
    corpus: Corpus = PLUGINS.make("corpus", "ravdess")
    found = list(corpus.read(tree(tmp_path, seconds=0.02, **form)))
    assert not [one for one in found if isinstance(one, Rejected)]
    labels = [one.label for one in found if isinstance(one, Utterance)]
    counts = {label: labels.count(label) for label in labels}
    if "per_class" in form:
        assert counts == {label: count // 12 for label, count in corpus.published.items()}  # all of 2 of 24 actors
    else:
        assert counts == dict.fromkeys(corpus.published, 8)
    info = soundfile.info(tmp_path / found[0].path)
    assert (info.samplerate, info.channels) == (form.get("rate", 16_000), form.get("channels", 1))


def test_no_two_files_are_alike_and_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
    waves = {path.name: path.read_bytes() for path in first.rglob("*.wav")}
    assert len(set(waves.values())) == len(waves) == 64
    assert waves == {path.name: path.read_bytes() for path in second.rglob("*.wav")}


def test_every_fold_of_emobox_has_a_test_from_six_speakers_on(tmp_path: Path) -> None:
    from sertk.corpus.protocols import make

    corpus: Corpus = PLUGINS.make("corpus", "ravdess")
    utterances = [one for one in corpus.read(tone_corpus(tmp_path, seconds=0.02)) if isinstance(one, Utterance)]
    folds, dropped, _ = make("ravdess", "emobox", corpus.protocols["emobox"], utterances)
    assert dropped == []
    assert [len(fold.test) for fold in folds.folds.values()] == [32] * 6


def test_a_tree_of_what_no_corpus_has_is_refused(tmp_path: Path) -> None:
    for wrong in ({"corpus": "ravdes"}, {"actors": [25]}, {"emotions": ["joy"]}, {"per_class": 9}):
        with pytest.raises(UsageError):
            tree(tmp_path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="1 to 24"):
        tone_corpus(tmp_path, speakers=25)
