"""kill -9 at any moment, run again: the same bits."""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

PLUGIN = '''
import torch
from sertk.core import Loss
from sertk.hookspecs import hookimpl


class Centres(Loss):
    """Pulls embeddings to learnable centres: two parameters with two learning rates of their own."""

    def __init__(self, task, dims):
        super().__init__()
        self.centres = torch.nn.Parameter(torch.zeros(len(task.classes), dims.embedding))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def own_rate(self):
        return {5e-3: [self.centres], 1e-2: [self.scale]}

    def forward(self, views, target, groups):
        view = next(iter(views.values()))
        return ((view.embedding * self.scale - self.centres[target.hard]) ** 2).sum(1).mean()


@hookimpl
def sertk_losses():
    return {"centres": Centres}
'''
KILLS = 12


def run(
    site: str, data: Path, out: Path, schedule: dict[str, object], accumulate: int, refit: bool, alpha: object
) -> None:
    """One call of `sertk train`, in a process of its own."""
    sys.path.insert(0, site)
    from sertk.corpus.prepared import Data
    from sertk.settings import merge
    from sertk.settings.schema import LossTerm
    from sertk.stages.train import train

    torch.set_num_threads(1)
    overrides = {
        "corpus": "ravdess",
        "protocol": "emobox",
        "fold": "1",
        "alpha": alpha,
        "train.epochs": 6,
        "train.batch": 2,
        "train.patience": 3,
        "train.schedule": schedule,
        "train.accumulate": accumulate,
        "train.refit": refit,
        "train.checkpoint_steps": 1,
        "train.checkpoint_seconds": 0,
        "train.threads": 1,
    }
    document = merge.load("mini-cnn", None, overrides)
    train(document, Data(data), out, [LossTerm("centres")])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with an installed guest distribution that offers the loss `centres`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "centres.py").write_text(PLUGIN)
    info = folder / "centres-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: centres\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sertk]\ncentres = centres\n")
    return str(folder)


def weights(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("schedule", "accumulate", "refit", "alpha"),
    [({"name": "plateau"}, 5, False, 0.1), ({"name": "exponential", "until": 3}, 1, True, "learned")],
    ids=["plateau, accumulation over an odd rest", "exponential, refit, a learned alpha"],
)
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(
    site: str, data: Path, tmp_path: Path, schedule: dict[str, object], accumulate: int, refit: bool, alpha: object
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sertk.stages.train", "torch._dynamo"])  # imported once, not once a kill

    def start(name: str) -> multiprocessing.Process:
        process = context.Process(target=run, args=(site, data, tmp_path / name, schedule, accumulate, refit, alpha))
        process.start()
        return process

    whole = start("whole")
    whole.join()
    assert whole.exitcode == 0
    chance, kills, inside = random.Random(0), 0, 0
    for saves in chance.choices((0, 1, 2, 3), k=KILLS):
        process = start("killed")
        wait_for_saves(process, tmp_path / "killed", saves)
        time.sleep(chance.uniform(0, 0.05))  # anywhere up to the next save, or in the middle of it
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        inside += any(counters(path)["step"] > 0 for path in newest(tmp_path / "killed"))
    process = start("killed")
    process.join()
    assert process.exitcode == 0
    assert kills >= 10
    assert inside >= 3  # between two epochs is the easy place
    assert not list((tmp_path / "killed").rglob(".*.new"))
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def wait_for_saves(process: multiprocessing.Process, out: Path, saves: int) -> None:
    """Waits until the process wrote so many new checkpoints, or ended."""
    target = max((int(path.stem) for path in newest(out)), default=0) + saves
    while process.is_alive() and max((int(path.stem) for path in newest(out)), default=0) < target:
        time.sleep(0.002)


def newest(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoints/*/[0-9]*.pt"))[-1:]


def counters(path: Path) -> dict[str, float]:
    counts: dict[str, float] = torch.load(path, weights_only=True)["counters"]
    return counts
