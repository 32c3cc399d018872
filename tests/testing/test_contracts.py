"""Everything registered keeps its contracts; and the contracts notice who breaks them."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch

from sertk import hookspecs
from sertk.core import (
    Corpus,
    CountMetric,
    InputSpec,
    Rejected,
    Scores,
    UsageError,
    Utterance,
)
from sertk.plugins import KINDS, Plugins, manager
from sertk.testing import ACTORS, Case, contracts, official, tone_corpus, tree
from sertk.testing.contracts import CHECKS
from sertk.testing.trees import anybody

PLUGINS = Plugins()
SLOW = ("backbone", "corpus", "feature")  # kinds that are no `fast` tests

# white noise, shorter and longer than a row, one of another rate and of two channels
RECORDINGS = str(Path(__file__).with_name("recordings"))

# settings of components that cannot be made without, and others worth the contracts, by kind and name
SIZES = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
SPEECH = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH |= {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
BERT |= {"vocab_size": 260}
NEEDED: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("augmentation", "noise_folder"): {"folder": RECORDINGS},
    ("augmentation", "reverb"): {"folder": RECORDINGS},
    ("corpus", "table"): {"list": "list.csv"},
    ("corpus", "union"): {"parts": {"a": "folder"}},
    ("backbone", "bert"): {"config": BERT},
    ("backbone", "fusion"): {
        "branches": {
            "sound": {"name": "cnn_transformer", "reads": "mel", "channels": [4], "pools": [[2, 2]], "layers": 0},
            "words": {"name": "text_transformer", "reads": "units", "width": 8, "ffn": 6, "heads": 2},
        },
        "poolings": {"sound": "mean_std"},
    },
    ("backbone", "hubert"): {"config": SPEECH},
    ("backbone", "wav2vec2"): {"config": SPEECH},
    ("backbone", "data2vec"): {"config": SPEECH},
    ("backbone", "wavlm"): {"config": SPEECH},
    ("backbone", "whisper"): {"config": SIZES},
    ("pooling", "flam"): {"heads": 2},
    ("feature", "frozen"): {"backbone": {"name": "whisper", "config": SIZES}},
}
PICTURE = {"spectrogram": InputSpec(40, 0.01, 50)}
WAVE = {"wave": InputSpec(1, 1 / 16_000)}
OFFERED: Mapping[tuple[str, str], Mapping[str, InputSpec]] = {
    **{("backbone", name): WAVE for name in ("data2vec", "hubert", "vggish", "wav2vec2", "wavlm", "whisper")},
    **{("backbone", name): PICTURE for name in ("densenet169", "resnet50", "spectrogram_cnn")},
    ("backbone", "bert"): {"text": InputSpec(1, math.inf, symbols=0x110000, optional=True)},
    ("backbone", "fusion"): {"mel": InputSpec(6, 0.01), "units": InputSpec(1, math.inf, symbols=37, optional=True)},
    ("backbone", "text_transformer"): {"units": InputSpec(1, math.inf, symbols=37, optional=True)},
}
OTHERS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("feature", "mel", {"log": "ln", "power": 1.0, "pre_emphasis": 0.97, "window": "hamming"}),
    ("feature", "frozen", {"backbone": {"name": "whisper", "config": SIZES, "layers": "all"}, "pool": "mean_std"}),
    ("feature", "frozen", {"backbone": {"name": "whisper", "config": SIZES, "window": "30s"}}),
    ("feature", "frozen", {"backbone": {"name": "bert", "config": BERT, "token": "all"}, "reads": "text"}),
    ("feature", "frozen", {"backbone": {"name": "bert", "config": BERT}, "reads": "text", "pool": "mean"}),
    ("feature", "sentencepiece", {"model": "bpe", "units": 9, "lower": False}),
    ("backbone", "bert", {"config": {**BERT, "model_type": "roberta"}, "token": "all", "freeze": 1}),
    ("backbone", "bert", {"config": BERT, "token": "mean", "freeze": "all"}),
    ("backbone", "text_transformer", {"width": 12, "heads": 3, "layers": 1, "ffn": 5}),
    ("backbone", "cnn_transformer", {"layers": 0}),
    ("backbone", "cnn_transformer", {"layout": "parallel", "positions": "sinusoidal", "norm": "pre"}),
    ("backbone", "wav2vec2", {"config": {**SPEECH, "feat_extract_norm": "layer", "do_stable_layer_norm": True}}),
    ("backbone", "wavlm", {"config": SPEECH, "layers": "weighted", "freeze": 1, "normalize": True}),
    ("backbone", "hubert", {"config": SPEECH, "layers": "all", "freeze": "all"}),
    ("backbone", "whisper", {"config": SIZES, "layers": "weighted", "freeze": 1}),
    ("backbone", "whisper", {"config": SIZES, "layers": "all", "freeze": "all"}),
    ("backbone", "whisper", {"config": SIZES, "layers": 1, "window": "30s"}),
    ("backbone", "whisper", {"config": SIZES, "layers": "all", "up_to": 1}),
    ("backbone", "hubert", {"config": SPEECH, "up_to": "conv"}),
    ("backbone", "parallel_cnn", {"kernels": [5], "filters": 6, "pool": 5, "stride": 2}),
    ("backbone", "spectrogram_cnn", {"channels": [4, 6], "stem": 3, "lstm": 5}),
    ("loss", "apfl", {"gamma": 5.0, "margin": 0.5, "reduction": "sum"}),
    ("loss", "aux", {"task": "valence", "at": "whole"}),
    ("loss", "arcface", {"margin": 0.3, "scale": 30.0, "reduction": "sum"}),
    ("loss", "ce", {"smoothing": 0.1, "reduction": "sum"}),
    ("loss", "bce", {"output": "softmax", "reduction": "sum"}),
    ("loss", "contrastive", {"distance": "l2"}),
    ("loss", "contrastive", {"distance": "l2", "on": "posterior", "pairs": "balanced"}),
    ("loss", "contrastive", {"on": "logits"}),
    ("loss", "focal", {"gamma": 0.5, "reduction": "sum"}),
    ("loss", "frame_supcon", {"normalize": False}),
    ("loss", "frame_supcon", {"tau": 0.01}),
    ("loss", "kl", {"reduction": "sum"}),
    ("loss", "l1", {"output": "sigmoid"}),
    ("loss", "smooth_l1", {"output": "linear", "beta": 0.1}),
    ("loss", "triplet", {"at": "whole"}),
    ("loss", "triplet", {"negatives": "batch"}),
    ("pooling", "flam", {"heads": 1}),
    ("metric", "label_loss", {"of": "smooth_l1"}),
    ("pooling", "flatten", {"project": 5}),
    ("augmentation", "eam", {"probability": 1.0}),
    ("augmentation", "eam", {"energy": False}),
    ("augmentation", "lam", {"probability": 1.0}),
    ("augmentation", "noise_folder", {"folder": RECORDINGS, "probability": 1.0, "snr": [-5, -5]}),
    ("augmentation", "reverb", {"folder": RECORDINGS, "probability": 1.0, "rate": 8000}),
    ("augmentation", "specaugment", {"on": "spectrogram", "time_width": 7, "time_share": 0.3, "freq_width": 50}),
    ("augmentation", "speed", {"factors": [0.5, 0.95, 1.33, 2]}),
)


# the upper parts of encoders: what they read is what the layers below gave, those that they sum side by side
UPPER: tuple[tuple[str, Mapping[str, Any], InputSpec], ...] = (
    ("whisper", {"config": SIZES, "layers": "all", "start": 1}, InputSpec(32, 0.02, layers=2)),
    ("wav2vec2", {"config": SPEECH, "start": "conv"}, InputSpec(8, 0.02)),
    ("wavlm", {"config": SPEECH, "layers": "weighted", "freeze": 1, "start": 1}, InputSpec(32, 0.02, layers=2)),
)


def everything() -> list[Any]:
    """The cases of everything registered, with defaults and with the settings above."""
    named = [
        (kind, name, NEEDED.get((kind, name), {}), () if kind in SLOW else pytest.mark.fast)
        for kind in KINDS
        for name in PLUGINS.names(kind)
    ]
    others = [(*part, ()) for part in OTHERS]
    cases = [
        pytest.param(case, id=f"{case.id} {dict(settings) or ''}".strip(), marks=marks)
        for kind, name, settings, marks in (*named, *others)
        for case in contracts(kind, name, settings, inputs=OFFERED.get((kind, name)), plugins=PLUGINS)
    ]
    wide = {"spectrogram": InputSpec(128, 0.01)}
    paper = contracts("backbone", "cnn_transformer", {"tail": "drop"}, inputs=wide, plugins=PLUGINS)
    for name, settings, offered in UPPER:
        upper = contracts("backbone", name, settings, inputs={"frozen": offered}, plugins=PLUGINS)
        cases += [pytest.param(case, id=f"{case.id} {dict(settings)}") for case in upper]
    return [*cases, *(pytest.param(case, id=f"{case.id} {{'tail': 'drop'}}") for case in paper)]


@pytest.mark.parametrize("check", everything())
def test_keeps_its_contract(check: Case) -> None:
    if check.subject.name == "slurm" and not (
        shutil.which("sinfo") and subprocess.run(["sinfo"], check=False).returncode == 0
    ):
        pytest.skip("no Slurm runs here: tools/slurm.sh start")
    check()


def written(name: str, folder: Path) -> Path:
    """A small folder of a corpus."""
    if name == "ravdess":
        return tree(folder, seconds=0.02)
    made = {"folder": anybody.folders, "kaldi": anybody.kaldi, "table": anybody.table}
    return made[name](folder) if name in made else official(name, folder)


# the others are read whole in tests/builtin/corpora
@pytest.mark.parametrize("name", ["emodb", "folder", "kaldi", "ravdess", "savee", "table"])
def test_a_corpus_reads_its_folder_as_its_contract_wants(name: str, tmp_path: Path) -> None:
    root = written(name, tmp_path / "corpus")
    cases = contracts("corpus", name, NEEDED.get(("corpus", name)), root=root, plugins=PLUGINS)
    (case,) = (one for one in cases if "what it reads" in one.id)
    case()


def test_what_a_corpus_reads_is_only_checked_with_a_folder() -> None:
    assert not [one.id for one in contracts("corpus", "emodb", plugins=PLUGINS) if "what it reads" in one.id]


@pytest.mark.parametrize("name", [name for name in PLUGINS.names("sampler") if "balanced" not in name])
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
        f"metric ua: {what}" for what in CHECKS["metric"]
    ]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'triplet'"):
        contracts("loss", "tripelt", plugins=PLUGINS)


def test_settings_reach_the_component() -> None:
    (case, *_) = contracts("loss", "ce", {"smoothing": "much"}, plugins=PLUGINS)
    with pytest.raises(AssertionError, match="loss 'ce': smoothing must be a number, got 'much'"):
        case()


def test_a_case_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    for case in contracts("head", "linear", plugins=PLUGINS):
        case()
    assert torch.equal(torch.rand(2), wanted)


# ---------------------------------------------------------------- metrics that break them; other parts: see `wrong/`


class First(CountMetric):
    """Says nothing of directions, looks at the first utterance, counts its calls, is beyond its range, loses stacks."""

    better = "most"  # type: ignore[assignment]
    calls = 0

    def __call__(self, scores: Scores) -> float:
        self.calls += 1
        return float(scores.decision[0]) + 2 * self.calls

    def counted(self, counts: torch.Tensor) -> torch.Tensor:
        return counts.double().mean((1, 2, 3))


def guests() -> Plugins:
    """The builtins, and with them those who break contracts."""
    source = manager()
    offers: dict[str, Mapping[str, Any]] = {
        "metric": {"bad": First},
    }
    hooks = {KINDS[kind].hook: hookspecs.hookimpl(lambda found=found: found) for kind, found in offers.items()}
    source.register(SimpleNamespace(**hooks), "bad")
    return Plugins(source)


BAD = guests()


@pytest.mark.parametrize("what", CHECKS["metric"])
def test_a_broken_contract_is_noticed(what: str) -> None:
    (case,) = (one for one in contracts("metric", "bad", plugins=BAD) if one.id == f"metric bad: {what}")
    with pytest.raises(AssertionError, match=r"'bad'.*\.$"):
        case()


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
