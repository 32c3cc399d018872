"""Thirty probes from the store to the table: grid.py --root RAVDESS --source WHISPER [--before CHECKOUT].

Sertk is its commands: two at once, of one thread and half of the folds each, train all seeds of their folds and score
them; then one makes the table. Starts of interpreters and imports count.

The first row compares it with one scikit-learn logistic regression a run, fitted and applied in this process on the
same matrices in one thread, imports and reading not counted; B / A is how many times as long sertk takes. What is
compared is the mean UA, for the classifiers are not the same.

The second row compares it with a process for each run and its score from audio, two of them at once, too. --before is
an older checkout to run those; the weights must be the same to the bit, and the logits to 1e-4. It is of fewer seeds.

OMP_NUM_THREADS=1 must be set, so that this process has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import harness
import numpy as np
from harness import Arrays, Way
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sertk.core import UsageError
from sertk.corpus.features import stores
from sertk.corpus.prepared import Data
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins
from sertk.settings import merge

C = 0.01  # did best on the dev speakers of the folds, of 1e-4 to 10
CLOSE, TOLERANCE = 0.05, 1e-4  # of the mean UA of two classifiers; of the logits of one


class Matrices(NamedTuple):
    """A fold: (U, D) statistics and the classes of what is trained on, and of the test."""

    x: np.ndarray
    y: Sequence[str]
    test: np.ndarray
    truth: Sequence[str]


class Work(NamedTuple):
    """What is run.

    Attributes:
        data: The prepared corpus, its features stored.
        choices: Options of `sertk featurize` and `sertk train`.
        folds: All of them.
        before: An older checkout.
    """

    data: Path
    choices: Sequence[str]
    folds: Sequence[str]
    before: Path | None


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--root", type=Path, required=True, help="the folder of RAVDESS")
    parser.add_argument("--source", required=True, help="a Whisper checkpoint, folder or name")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seeds-before", type=int, default=1, help="of the second row; 0 leaves it out")
    parser.add_argument("--before", type=Path, help="an older checkout, for a process a run")
    parser.add_argument("--pairs", type=int, default=6)
    ask = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise UsageError("OMP_NUM_THREADS is not 1, and this is of single threads. Set it.")
    print(harness.machine("sertk", "torch", "speechbrain", "transformers", "scikit-learn"))
    print(harness.HEADER)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        data = harness.prepared("ravdess", ask.root, Path(folder) / "data")
        choices = ["--system", "whisper-probe", "--set", f"inputs.whisper.backbone.source={ask.source}"]
        choices += ["--device", "cpu"]
        work = Work(data, choices, list(Data(data).protocol("emobox").folds), ask.before)
        for checkout in {None, ask.before}:  # the keys of their stores may differ
            command(checkout, "featurize", data, *choices)
        ways = fits(work, ask.source, ask.seeds), together(work, ask.seeds, mean_ua)
        print(row(ways, len(work.folds) * ask.seeds, ask.pairs, CLOSE), flush=True)
        if ask.seeds_before:
            ways = together(work, ask.seeds_before, logits), alone(work, ask.seeds_before)
            print(row(ways, len(work.folds) * ask.seeds_before, ask.pairs, TOLERANCE))


def row(ways: tuple[Way, Way], runs: int, pairs: int, tolerance: float) -> str:
    """Times two ways."""
    result = harness.compare(*ways, pairs, tolerance)
    return result.row(f"{runs} probes from the store to the table", *(way.name for way in ways))


def command(checkout: Path | None, *words: object) -> None:
    """Runs a command of sertk, that of another checkout where one is given."""
    env = os.environ if checkout is None else {**os.environ, "PYTHONPATH": str(checkout)}
    program = [sys.executable, "-m", "sertk", *map(str, words)]
    done = subprocess.run(program, env=env, cwd=checkout, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr[-1000:]}")


def seeds_word(seeds: int) -> str:
    """`--seed` of so many."""
    return f"0-{seeds - 1}"


def together(work: Work, seeds: int, read: Callable[[Path], Arrays]) -> Way:
    """Half of the folds in a process, two at once."""

    def half(system: Path, folds: Sequence[str]) -> None:
        which = ["--fold", ",".join(folds), "--seed", seeds_word(seeds)]
        command(None, "train", work.data, *work.choices, "--protocol", "emobox", *which, "--out", system)
        command(None, "score", system, work.data, *which, "--device", "cpu")

    def run(folder: Path) -> None:
        middle = (len(work.folds) + 1) // 2
        at_once([partial(half, folder / "system", part) for part in (work.folds[:middle], work.folds[middle:])])
        command(None, "report", folder / "system")

    return Way("sertk, two processes", run, read)


def alone(work: Work, seeds: int) -> Way:
    """A process a run, and one for its score; two at once."""
    audio = [] if work.before else ["--from", "audio"]

    def one(system: Path, fold: str, seed: int) -> None:
        out = system / f"fold={fold}" / f"seed={seed}"
        which = ["--protocol", "emobox", "--fold", fold, "--seed", seed]
        command(work.before, "train", work.data, *work.choices, *which, "--out", out)
        scores = out / "scores.jsonl"
        command(work.before, "score", out / "model", work.data, "--device", "cpu", "--out", scores, *audio)

    def run(folder: Path) -> None:
        at_once([partial(one, folder / "system", fold, seed) for fold in work.folds for seed in range(seeds)])
        command(work.before, "report", folder / "system")

    return Way("a process a run, scores from audio", run, logits)


def at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Does what is asked, two at once."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def mean_ua(folder: Path) -> Arrays:
    """Of the runs."""
    found = [json.loads(path.read_text())["metrics"]["ua"] for path in folder.glob("system/*/*/metrics.json")]
    return {"runs": np.array(len(found)), "UA": np.array(np.mean(found))}


def logits(folder: Path) -> Arrays:
    """By run and utterance, and the weights, of which no bit may differ."""
    found: dict[str, np.ndarray] = {}
    for run in folder.glob("system/*/*"):
        name = f"{run.parent.name} {run.name}"
        for line in map(json.loads, (run / "scores.jsonl").read_text().splitlines()):
            found[f"{name} {line['id']}"] = np.array(line["logits"])
        for word, value in load_file(run / "model" / "model.safetensors").items():
            bits = value.view(np.int32) if value.dtype == np.float32 else value
            found[f"{name} {word}"] = bits.astype(np.float64)
    return found


def fits(work: Work, source: str, seeds: int) -> Way:
    """A classifier a run, fitted and applied."""
    folds = [matrices(work, source, fold) for fold in work.folds]

    def run(folder: Path) -> None:
        recalls = []
        for x, y, test, truth in (fold for fold in folds for _ in range(seeds)):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))
            recalls.append(recall_score(truth, model.fit(x, y).predict(test), average="macro"))
        (folder / "recalls.json").write_text(json.dumps(recalls))

    def read(folder: Path) -> Arrays:
        recalls = json.loads((folder / "recalls.json").read_text())
        return {"runs": np.array(len(recalls)), "UA": np.array(np.mean(recalls))}

    return Way("scikit-learn, one process", run, read)


def matrices(work: Work, source: str, fold: str) -> Matrices:
    """What sertk trains and tests on."""
    plugins, data = Plugins(), Data(work.data)
    settings = with_frozen(plugins, merge.load("whisper-probe", None, {"inputs.whisper.backbone.source": source}))
    (store,) = stores(work.data, settings, plugins).values()
    folds = data.protocol("emobox")
    train, test = folds.fold(fold).train, folds.fold(fold).test
    x, other = (store.stack([data.facts[i].sha256 for i in ids]).data[:, 0].numpy() for ids in (train, test))
    return Matrices(x, [folds.labels[i] for i in train], other, [folds.labels[i] for i in test])


if __name__ == "__main__":
    warnings.filterwarnings("error")  # a fit that does not converge is no fit
    main()
