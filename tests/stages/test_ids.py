"""Whose audio each phase of a run reads, told by the audio itself, and compared with manifest and protocol file.

Every utterance of the corpus is a constant wave of a level of its own. A feature turns the level into the place of a 1,
so whatever comes behind it, a loss, a decision, an augmentation or the statistics, shows whose audio it was given: from
the wave and from the cache, whatever ids it was told.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from sertk.corpus.prepared import Data
from sertk.settings import merge
from sertk.stages.featurize import featurize
from sertk.stages.prepare import prepare
from sertk.stages.score import score
from sertk.testing import tone_corpus

PLUGIN = '''
import json
import os

import torch
from sertk.core import WHOLE, Augmentation, Feature, Loss, Padded
from sertk.hookspecs import hookimpl

WIDTH = 64  # more than there are utterances


def note(what, **seen):
    """Writes down what a part saw."""
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps({"what": what, **seen}) + "\\n")


def whose(frames):
    """The numbers of the utterances that frames (B, T, WIDTH) are of: a 1 is the largest, standardised too."""
    return frames[:, 0].argmax(1).tolist()


class Who(Feature):
    """A 1 in the place of the wave's level."""

    def __init__(self, rate: int):
        self.width, self.frame_seconds, self.hop = WIDTH, 0.01, rate // 100

    def __call__(self, inputs):
        note("computed")
        number = (inputs.fill(0.0).data.amax(1) * 256).round().long()
        length = inputs.length // self.hop
        frames = torch.nn.functional.one_hot(number, WIDTH).float()[:, None]
        return Padded(frames.repeat(1, int(length.max()), 1), length)


class Fitted(Who):
    """The same, computed from the wave in every epoch; it learns who is trained on."""

    learned = ()

    def fit(self, utterances, wave):
        self.learned = [one.id for one in utterances]

    def files(self):
        return {"learned.json": json.dumps(self.learned).encode()}

    def restore(self, files):
        self.learned = json.loads(files["learned.json"])


class Watch(Augmentation):
    """Changes nothing, and looks at rows and partners."""

    partners = 2

    def __init__(self):
        self.name = os.urandom(4).hex()

    def __call__(self, batch, rng, partners):
        for what, seen in (("row", batch), ("partner", partners)):
            note(what, by=self.name, whose=self.see(seen.inputs), ids=seen.ids)
        note("drawn", by=self.name, whose=self.see(batch.inputs), numbers=rng.uniform().flatten().tolist())
        return batch


class WatchFrames(Watch):
    touches = ("who",)

    def see(self, inputs):
        return whose(inputs["who"].data)


class WatchWaves(Watch):
    touches = ("wave",)

    def see(self, inputs):
        return (inputs["wave"].fill(0.0).data.amax(1) * 256).round().long().tolist()


class Spy(Loss):
    """Always 0."""

    sampler = "triplets"

    def __init__(self, task, dims):
        super().__init__()
        self.name, self.counts = os.urandom(4).hex(), task.counts.tolist()

    def forward(self, views, target, groups):
        seen = whose(views[WHOLE].frames.data)
        weight, triplets = target.weight.tolist(), groups["triplet"].tolist()
        kind = "step" if torch.is_grad_enabled() else "pilot"
        note(
            kind, by=self.name, whose=seen, classes=target.hard.tolist(), weight=weight, triplets=triplets,
            counts=self.counts,
        )
        return views[WHOLE].logits.sum() * 0 + 1


def oracle(view, rows, rng):
    """Right about everybody: it knows the class of each level."""
    seen = whose(view.frames.data)
    note("decided", whose=seen)
    classes = json.loads(os.environ["CLASSES"])
    right = torch.tensor([classes[number] for number in seen])
    return torch.nn.functional.one_hot(right, view.logits.shape[1]).float()[view.owner.argsort()]


@hookimpl
def sertk_features():
    return {"who": Who, "fitted": Fitted}


@hookimpl
def sertk_augmentations():
    return {"watch_frames": WatchFrames, "watch_waves": WatchWaves}


@hookimpl
def sertk_losses():
    return {"spy": Spy}


@hookimpl
def sertk_decisions():
    return {"oracle": oracle}
'''
SYSTEM = """
inputs: {{who: {feature}}}
augment: [{augment}]
backbone: frames
losses: [ce, spy]
decision: oracle
pilot: 1
train: {{epochs: 3, batch: 5, patience: 0, select: last, accumulate: 2, threads: 1, refit: {refit}}}
"""
PROTOCOL = """
labels: {neutral: calm, anger: anger, fear: fear}
test: {one: ["20"], two: ["01", "03"]}
dev: {one: ["01"], two: ["05", "06", "10"]}
overlaps: {text: [train+dev, train+test, dev+test]}
"""
TEST, DEV = {"01", "03"}, {"05", "06", "10"}
CLASSES = ["anger", "calm", "fear"]
EPOCHS = {"select": 3, "refit": 2}  # 3 times 18 rows are 6 steps of two batches of 5; so are 2 times 27 rows


class Corpus(NamedTuple):
    """The prepared corpus, and what its manifest says."""

    data: Path
    numbers: dict[str, int]  # by id
    parts: dict[str, list[str]]  # ids
    classes: dict[str, int]  # by id


class Run(NamedTuple):
    """A run, what its parts saw, and what the scorer's saw of each part of the fold."""

    out: Path
    seen: list[dict[str, Any]]
    scored: dict[str, list[dict[str, Any]]]
    refit: bool
    cached: bool

    def of(self, what: str, phase: str | None = None) -> list[dict[str, Any]]:
        """What was seen, of the selection or of the refit."""
        found = [one for one in self.seen if one["what"] == what]
        passes = list(dict.fromkeys(one["by"] for one in found if "by" in one))
        assert len(passes) <= 1 + self.refit
        if phase is None:
            return found
        return [one for one in found if one["by"] == passes[("select", "refit").index(phase)]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("ids")
    root = tone_corpus(folder / "corpus", speakers=11, per_class=1, emotions=("neutral", "anger", "fear"))
    numbers = {}
    for number, path in enumerate(sorted(root.rglob("*.wav")), 1):
        soundfile.write(path, [number / 256] * (3200 + 160 * (number % 7)), 16_000, subtype="PCM_16")
        numbers[path.stem] = number
    (folder / "spy.py").write_text(PLUGIN)
    (folder / "mine.yaml").write_text(PROTOCOL)
    assert prepare("ravdess", root, folder / "data", [str(folder / "mine.yaml")], 0.1, 1) == 0
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    classes = {}
    for line in (folder / "data/manifest.jsonl").read_text().splitlines():
        one = json.loads(line)
        part = "test" if one["speaker"] in TEST else "dev" if one["speaker"] in DEV else "train"
        parts[part].append(one["id"])
        classes[one["id"]] = CLASSES.index(one["label"].replace("neutral", "calm"))
    return Corpus(folder / "data", numbers, parts, classes)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.fixture(scope="module", params=["cached", "waves", "cached, refit", "waves, refit"])
def run(
    request: pytest.FixtureRequest, corpus: Corpus, patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run in fold "two", trained and scored."""
    from sertk.stages.train import train  # late: see test_recipe

    folder, cached, refit = tmp_path_factory.mktemp("run"), "cached" in request.param, "refit" in request.param
    feature, augment = ("who", "watch_frames") if cached else ("fitted", "watch_waves")
    system = folder / "system.yaml"
    system.write_text(SYSTEM.format(feature=feature, augment=augment, refit=str(refit).lower()))
    by_number = dict.fromkeys(range(64), 0) | {n: corpus.classes[i] for i, n in corpus.numbers.items()}
    patch.setenv("CLASSES", json.dumps([by_number[n] for n in range(64)]))
    files = [corpus.data.parent / "spy.py"]
    settings = merge.load(str(system), None, {"protocol": "mine", "fold": "two"}, plugins=files)

    def seen(name: str) -> list[dict[str, Any]]:
        path = folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    patch.setenv("SEEN", str(folder / "featurize.jsonl"))
    featurize(Data(corpus.data), settings, 1)
    patch.setenv("SEEN", str(folder / "run.jsonl"))
    train(settings, Data(corpus.data), folder / "out")
    for part in ("test", "dev", "train"):
        patch.setenv("SEEN", str(folder / f"{part}.jsonl"))
        named = {} if part == "test" else {"part": part}  # test is what is scored where nothing is said
        assert (
            score(folder / "out/model", [str(corpus.data)], folder / part / "scores.jsonl", files=files, **named) == 0
        )
    return Run(folder / "out", seen("run"), {part: seen(part) for part in corpus.parts}, refit, cached)


def numbers(corpus: Corpus, *parts: str) -> list[int]:
    """The numbers of all utterances of some parts."""
    return sorted(corpus.numbers[i] for part in parts for i in corpus.parts[part])


def flat(seen: list[dict[str, Any]], key: str = "whose") -> list[Any]:
    return [one for line in seen for one in line[key]]


def phases(run: Run) -> dict[str, tuple[str, ...]]:
    """The parts that each pass trains on."""
    return {"select": ("train",), "refit": ("train", "dev")} if run.refit else {"select": ("train",)}


def test_the_protocol_file_has_the_speakers_that_the_protocol_names(corpus: Corpus) -> None:
    held = json.loads((corpus.data / "protocols/mine.json").read_text())["folds"]["two"]
    assert (sorted(held["dev"]), sorted(held["test"])) == (sorted(corpus.parts["dev"]), sorted(corpus.parts["test"]))
    rest = sorted(corpus.numbers.keys() - {*held["dev"], *held["test"]})
    assert held["train"] == "all others" or sorted(held["train"]) == rest
    assert sorted(corpus.parts["train"]) == rest
    assert [len(corpus.parts[part]) for part in ("train", "dev", "test")] == [18, 9, 6]


def test_features_come_from_the_cache_or_from_the_wave(run: Run) -> None:
    assert bool(run.of("computed")) != run.cached


def test_every_pass_steps_by_each_utterance_of_its_parts_once_an_epoch(run: Run, corpus: Corpus) -> None:
    for phase, parts in phases(run).items():
        steps = run.of("step", phase)
        anchors = [who for one in steps for who, weight in zip(one["whose"], one["weight"], strict=True) if weight]
        assert Counter(anchors) == dict.fromkeys(numbers(corpus, *parts), EPOCHS[phase])


def test_a_row_has_the_label_of_its_audio(run: Run, corpus: Corpus) -> None:
    by_number = {n: corpus.classes[i] for i, n in corpus.numbers.items()}
    for one in run.of("step"):
        assert one["classes"] == [by_number[who] for who in one["whose"]]


def test_positives_and_negatives_are_of_the_same_parts(run: Run, corpus: Corpus) -> None:
    by_number = {n: corpus.classes[i] for i, n in corpus.numbers.items()}
    for phase, parts in phases(run).items():
        steps = run.of("step", phase)
        triplets = [[one["whose"][row] for row in triplet] for one in steps for triplet in one["triplets"]]
        assert len(triplets) == len(numbers(corpus, *parts)) * EPOCHS[phase]
        for place, same in ((1, True), (2, False)):
            assert {triplet[place] for triplet in triplets} <= set(numbers(corpus, *parts))
            assert all((by_number[t[0]] == by_number[t[place]]) == same for t in triplets)


def test_partners_are_of_the_same_parts(run: Run, corpus: Corpus) -> None:
    for phase, parts in phases(run).items():
        rows, partners = flat(run.of("row", phase)), flat(run.of("partner", phase))
        assert len(partners) == 2 * len(rows)
        assert set(partners) <= set(rows) == set(numbers(corpus, *parts))
        assert len(set(partners)) > 0.8 * len(set(rows))  # anybody may be one


def test_rows_and_partners_are_who_they_are_said_to_be(run: Run, corpus: Corpus) -> None:
    for what in ("row", "partner"):
        seen = run.of(what)
        assert flat(seen) == [corpus.numbers[i] for i in flat(seen, "ids")]


def test_random_numbers_of_a_row_are_others_in_every_epoch(run: Run) -> None:
    drawn = run.of("drawn", "select")
    numbers = {(who, n) for one in drawn for who, n in zip(one["whose"], one["numbers"], strict=True)}
    assert set(Counter(who for who, _ in numbers).values()) == {EPOCHS["select"]}


def test_the_pilot_is_of_the_first_training_rows(run: Run, corpus: Corpus) -> None:
    seen = flat(run.of("pilot"))
    assert seen
    assert len(run.of("row", "select")) == len(run.of("pilot")) + len(run.of("step", "select"))  # it is augmented too
    assert set(seen) <= set(numbers(corpus, "train"))
    assert run.of("pilot")[0]["whose"] == run.of("step", "select")[0]["whose"]


def test_classes_are_counted_in_train(run: Run, corpus: Corpus) -> None:
    counts = Counter(corpus.classes[i] for i in corpus.parts["train"])
    assert {tuple(one["counts"]) for one in run.of("step", "select")} == {tuple(counts[n] for n in range(3))}


def test_the_epoch_is_selected_on_dev_each_of_whom_is_decided_once_an_epoch(run: Run, corpus: Corpus) -> None:
    assert Counter(flat(run.of("decided"))) == dict.fromkeys(numbers(corpus, "dev"), EPOCHS["select"])
    log = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert [line["dev"] for line in log] == [1.0] * EPOCHS[
        "select"
    ]  # the decisions are right: the labels are of the same rows


def test_statistics_are_of_the_parts_that_are_trained_on(run: Run, corpus: Corpus) -> None:
    parts = phases(run)["refit" if run.refit else "select"]
    frames = {n: 20 + n % 7 for n in numbers(corpus, *parts)}  # of 10 ms, as the corpus was made
    mean = load_file(run.out / "model/model.safetensors")["normalize.who.mean"]
    wanted = torch.tensor([frames.get(n, 0) / sum(frames.values()) for n in range(64)])
    torch.testing.assert_close(mean, wanted)


def test_features_are_fitted_on_the_parts_that_are_trained_on(run: Run, corpus: Corpus) -> None:
    parts = phases(run)["refit" if run.refit else "select"]
    files = json.loads((run.out / "model/bundle.json").read_text())["files"]
    assert list(files) == ([] if run.cached else ["who"])
    for name in files:
        learned = json.loads((run.out / "model/files" / files[name]["learned.json"]).read_text())
        assert sorted(learned) == sorted(i for part in parts for i in corpus.parts[part])


@pytest.mark.parametrize("part", ["test", "dev", "train"])
def test_score_reads_the_part_that_is_asked_for(run: Run, corpus: Corpus, part: str) -> None:
    assert sorted(flat([one for one in run.scored[part] if one["what"] == "decided"])) == numbers(corpus, part)
    folder = run.out.parent / part
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(corpus.parts[part])
    for line in lines:
        assert line["decision"] == line["label"] == CLASSES[corpus.classes[line["id"]]]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["part"] == part
    assert metrics["protocol"]["stamp"] == ("speaker-independent" if part == "test" else "seen in training")
    assert metrics["metrics"]["ua"] == 1.0


def test_a_bundle_knows_the_recordings_of_train_and_dev(run: Run, corpus: Corpus) -> None:
    facts = [json.loads(line) for line in (corpus.data / "audio.jsonl").read_text().splitlines()]
    shas = sorted(one["sha256"][:16] for one in facts if one["id"] not in corpus.parts["test"])
    assert json.loads((run.out / "model/bundle.json").read_text())["training"]["seen"] == shas
