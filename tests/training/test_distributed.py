"""Several processes train one run: `torchrun --nproc-per-node=2 -m sertk train`."""

import fcntl
import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sertk.cli import main
from sertk.cli.app import app
from sertk.core import UsageError
from sertk.corpus.prepared import Data
from sertk.stages.score import score
from sertk.training import distributed

GUEST = '''
import json
import os
import signal
from pathlib import Path

import torch
from sertk.core import Loss, Metric, SertkError
from sertk.hookspecs import hookimpl


class Ill(Loss):
    """No loss; a parameter that few batches reach, and an end at a batch of rank 1 where ILL says so."""

    calls = 0

    def __init__(self, task, dims):
        super().__init__()
        self.seldom = torch.nn.Parameter(torch.ones(()))

    def forward(self, views, target, groups):
        Ill.calls += 1
        if os.environ.get("RANK") == "1" and os.environ.get("ILL") == f"killed {Ill.calls}":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("RANK") == "1" and os.environ.get("ILL") == f"error {Ill.calls}":
            raise SertkError("rank 1 is ill")
        if os.environ.get("RANK") == "1" and os.environ.get("ILL") == f"nan {Ill.calls}":
            return self.seldom * float("nan")
        loss = next(iter(views.values())).embedding.square().sum(1).mean()
        return loss * self.seldom if target.hard[0] == 1 else loss


class Same(Metric):
    """Selects the first epoch; writes down what each rank gives it there."""

    def __init__(self, out: str):
        self.out = Path(f"{out}.{os.environ['RANK']}.json")

    def __call__(self, scores):
        if not self.out.exists():
            kept = {"ids": scores.ids, "posterior": scores.prediction.posterior.tolist()}
            kept |= {"decision": scores.decision.tolist(), "speaker": scores.speaker}
            self.out.write_text(json.dumps(kept))
        return 0.5


@hookimpl
def sertk_losses():
    return {"ill": Ill}


@hookimpl
def sertk_metrics():
    return {"same": Same}
'''
SETTINGS = (
    *("--protocol", "emobox", "--set", "backbone.dropout=0.0", "--set", "train.optimizer={name: sgd, lr: 0.05}"),
    *("--set", "train.epochs=2", "--set", "train.threads=1"),
    *("--set", "train.checkpoint_steps=1", "--set", "train.checkpoint_seconds=0"),
    *("--set", "train.batch=7"),  # 14 batches: three steps of four, and two more
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with an installed guest distribution."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "ill.py").write_text(GUEST)
    info = folder / "ill-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ill\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sertk]\nill = ill\n")
    return str(folder)


def words(data: Path, out: Path, accumulate: int) -> list[str]:
    """A train command."""
    more = ["--set", f"train.accumulate={accumulate}", "--loss", "ce", "--loss", "ill:weight=0.1"]
    more += ["--set", f"train.metric=same:out={out}"]
    return ["train", str(data), "--out", str(out), "--system", "mini-cnn", "--fold", "1", *SETTINGS, *more]


def process(site: str, words: list[str], log: Path, env: dict[str, str]) -> None:
    """One process of a run, with its environment and its output."""
    os.environ.update(env)
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.path.insert(0, site)
    sys.argv = ["sertk", *words]
    main()


class Machine:
    """Starts processes from one that imported torch already."""

    def __init__(self, site: str, log: Path) -> None:
        self._site, self._log = site, log
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["sertk.stages.train", "torch._dynamo"])  # which each optimizer imports

    def run(self, words: list[str], ranks: int, ill: str = "") -> tuple[list[int | None], str]:
        """Exit codes of the ranks, and what they printed."""
        self._log.unlink(missing_ok=True)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        all_ = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": port, "ILL": ill}
        started = []
        for rank in map(str, range(ranks)):
            env = {**all_, "RANK": rank, "LOCAL_RANK": rank}
            one = self._context.Process(target=process, args=(self._site, words, self._log, env))
            one.start()
            started.append(one)
        for one in started:
            one.join(60)
        return [one.exitcode for one in started], self._log.read_text()


@pytest.fixture(scope="module")
def machine(site: str, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(site, tmp_path_factory.mktemp("log") / "log.txt")


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_two_processes_take_the_steps_of_one_with_twice_the_batches(
    machine: Machine, site: str, data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert machine.run(words(data, one, accumulate=4), 1)[0] == [0]
    codes, said = machine.run(words(data, two, accumulate=2), 2, ill="killed 10")  # in the second of two epochs
    assert codes == [1, -signal.SIGKILL]
    assert said.count("error:") == 1
    assert "another process of this run ended" in said
    assert torch.load(max(two.glob("checkpoints/*/*.pt")), weights_only=True)["counters"]["step"] == 2
    codes, said = machine.run(words(data, two, accumulate=2), 1)
    assert codes == [1]
    assert "the checkpoints are of a run of 2 processes, and now there are 1" in said

    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "sertk"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([site, *sys.path])}
    command += words(data, two, accumulate=2)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("28 rows an optimizer step") == done.stderr.count("wrote ") == 1
    assert json.loads((two / "model/bundle.json").read_text())["training"]["ranks"] == 2

    ours, theirs = (load_file(out / "model/model.safetensors") for out in (one, two))
    for name in ours:  # running statistics are of the batches of rank 0
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5, msg=name)
    for alone, both in zip(lines(one), lines(two), strict=True):
        assert both["epoch"] == alone["epoch"]
        assert both["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-5)

    score(two / "model", [str(data)], tmp_path / "scores.jsonl", part="dev")
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    classes = json.loads((two / "model/bundle.json").read_text())["classes"]
    loss = sum(-math.log(one["posterior"][classes.index(one["label"])]) for one in scores) / len(scores)
    assert lines(two)[0]["dev_loss"] == pytest.approx(loss, abs=1e-5)  # each rank saw half of dev, with one model

    alone, *ranks = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one.0", "two.0", "two.1")]
    assert ranks[0] == ranks[1]  # and each selects by all of it
    assert ranks[0]["ids"] == alone["ids"] == list(Data(data).protocol("emobox").fold("1").dev)
    wanted = {one["id"]: (one["posterior"], one["speaker"]) for one in scores}
    posterior, speaker = zip(*(wanted[name] for name in ranks[0]["ids"]), strict=True)
    torch.testing.assert_close(torch.tensor(ranks[0]["posterior"]), torch.tensor(posterior), rtol=0, atol=1e-4)
    assert ranks[0]["decision"] == torch.tensor(ranks[0]["posterior"]).argmax(1).tolist()
    assert ranks[0]["speaker"] == list(speaker)


def test_the_temperature_is_fitted_to_the_dev_rows_of_all_ranks(machine: Machine, data: Path, tmp_path: Path) -> None:
    asked = [
        *words(data, tmp_path / "run", accumulate=2),
        "--set",
        "decision={name: mean, at: whole, temperature: fitted}",
    ]
    codes, said = machine.run(asked, 2)
    assert codes == [0, 0], said
    assert said.count("temperature ") == 1
    about = json.loads((tmp_path / "run/model/bundle.json").read_text())
    score(tmp_path / "run/model", [str(data)], tmp_path / "scores.jsonl", part="dev")
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    logits = torch.tensor([one["logits"] for one in scores])
    label = torch.tensor([about["classes"].index(one["label"]) for one in scores])
    posterior = (logits / about["components"]["decision"]["temperature"]).softmax(1)
    # at the best temperature labels have on average the logit that their posterior expects
    own = (logits.gather(1, label[:, None])[:, 0] - (posterior * logits).sum(1)) / logits.abs().mean()
    assert float(own.mean()) == pytest.approx(0, abs=1e-4)
    assert abs(float(own[::2].mean())) > 1e-3  # of a half of them it is another


def test_the_mean_gradient_keeps_the_layout_of_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's fused optimizers go through weights and gradients by their place in memory, and do not say so
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(3))
    layer = torch.nn.Conv2d(8, 4, 3).to(memory_format=torch.channels_last)
    layer(torch.randn(2, 8, 5, 5)).square().sum().backward()
    before = [one.grad.clone() for one in layer.parameters()]
    distributed.average_gradients(layer.parameters(), 2.0)
    for one, grad in zip(layer.parameters(), before, strict=True):
        assert one.grad.stride() == one.stride()
        assert torch.allclose(one.grad, 3 * grad)


def test_a_gradient_that_one_rank_has_is_shared_and_one_that_none_has_stays_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the other rank has the gradient (1, 2) of the second parameter, and none of the others
    other = torch.tensor([0.0, 0, 1, 2, 0, 0, 0, 1, 0])
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.add_(other))
    first, second, third = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    first.grad = torch.tensor([4.0, 6.0])
    distributed.average_gradients([first, second, third], 3.0)
    assert first.grad.tolist() == [6, 9]
    assert second.grad is not None
    assert second.grad.tolist() == [1.5, 3]
    assert third.grad is None  # an optimizer would move it by its momentum


@pytest.mark.parametrize(
    ("ill", "says"), [("error 3", "rank 1 is ill"), ("nan 3", "the loss became nan in epoch 1, step 3")]
)
def test_an_error_of_one_process_ends_the_run_and_is_told_once(
    machine: Machine, data: Path, tmp_path: Path, ill: str, says: str
) -> None:
    codes, said = machine.run(words(data, tmp_path / "run", accumulate=2), 2, ill)
    assert codes == [1, 1]
    assert said.count("error:") == said.count(says) == 1


def test_what_rank_0_alone_refuses_is_told_once(machine: Machine, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with (tmp_path / ".run.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        codes, said = machine.run(words(data, out, accumulate=2), 2)
    assert codes == [1, 1]
    assert said.count("error:") == said.count("is being trained by another process") == 1


def test_a_recipe_is_one_process(monkeypatch: pytest.MonkeyPatch, corpus: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = CliRunner().invoke(app, ["recipe", "ravdess", "--root", str(corpus), "--work", str(tmp_path)])
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("asked", "gpus", "ranks", "found"),
    [
        ("auto", 0, 1, "cpu"),
        ("auto", 4, 1, "cuda:0"),
        ("auto", 4, 4, "cuda:2"),
        ("cpu", 4, 4, "cpu"),
        ("cuda", 4, 1, "cuda"),
        ("cuda:3", 4, 1, "cuda:3"),
        ("cuda", 4, 4, "cuda:2"),
        ("cuda:1", 4, 4, "'cuda:1' is one GPU, and 4 processes need one each; take cuda"),
        ("cuda", 0, 1, "torch sees 0 CUDA devices"),
        ("cuda:4", 4, 1, "torch sees 4 CUDA devices"),
        ("cuda", 2, 4, "torch sees 2 CUDA devices"),
        ("gpu", 4, 1, "Unknown device 'gpu'"),
    ],
)
def test_a_process_has_the_device_that_is_asked_for_each_rank_its_own(
    monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, ranks: int, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    monkeypatch.setenv("LOCAL_RANK", "2")
    if found[:4] in ("cpu", "cuda"):
        assert distributed.device(asked) == found
    else:
        with pytest.raises(UsageError, match=found):
            distributed.device(asked)
