"""Metrics of a plugin file, from the selection of the epoch to the tables: log-loss, which is better lower, and MCC."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from sklearn.metrics import log_loss, matthews_corrcoef
from typer.testing import CliRunner, Result

from sertk.cli.app import app
from sertk.core.files import read_json
from sertk.plugins import Plugins
from sertk.testing import contracts

METRICS = '''
import math

from sertk.core import Metric
from sertk.hookspecs import hookimpl


class LogLoss(Metric):
    """The mean negative log-probability of the labels.

    Args:
        least: A probability counts as at least this.
    """

    better = "lower"
    range = (0.0, math.inf)

    def __init__(self, least: float = 1e-6):
        self.least = least

    def __call__(self, scores):
        own = scores.prediction.posterior.gather(1, scores.target.hard[:, None])
        return float(-own.clamp(min=self.least).log().mean()) + 0.0


class Matthews(Metric):
    """Matthews' correlation of labels and decisions, 0 where either is one class alone (Gorodkin 2004)."""

    range = (-1.0, 1.0)

    def __call__(self, scores):
        counts = scores.confusion.double()
        size, truth, decided = counts.sum(), counts.sum(1), counts.sum(0)
        across = counts.trace() * size - truth @ decided
        spread = (size**2 - truth @ truth) * (size**2 - decided @ decided)
        return float(across / spread.sqrt()) if spread > 0 else 0.0


class Broken(Metric):
    """Fails."""

    def __call__(self, scores):
        raise RuntimeError("not today")


@hookimpl
def sertk_metrics():
    return {"log_loss": LogLoss, "mcc": Matthews, "broken": Broken}
'''


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "metrics.py"
    path.write_text(METRICS)
    return path


@pytest.fixture(scope="module")
def trained(data: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that selects by log-loss, trained and scored; and what was said."""
    out = tmp_path_factory.mktemp("mine") / "run"
    words = (
        "--protocol",
        "emobox",
        "--fold",
        "1",
        "--system",
        "mini-cnn",
        "--plugin",
        file,
        "--set",
        "train.threads=1",
    )
    more = ("--set", "train.epochs=4", "--set", "train.metric=log_loss:least=1e-5")
    more += ("--set", "train.optimizer.lr=0.02")
    said = [cli("train", data, "--out", out, *words, *more)]
    said.append(cli("score", out / "model", data, "--out", out / "scores.jsonl", "--plugin", file))
    assert [one.exit_code for one in said] == [0, 0], said[0].output + said[1].output
    return out, " ".join("\n".join(one.stderr for one in said).split())


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("name", "settings"), [("log_loss", {}), ("log_loss", {"least": 1e-3}), ("mcc", {})])
def test_they_keep_their_contracts(file: Path, name: str, settings: dict[str, object]) -> None:
    for check in contracts("metric", name, settings, plugins=Plugins(files=[file])):
        check()


def test_the_smallest_log_loss_selects_the_epoch(trained: tuple[Path, str]) -> None:
    out, said = trained
    dev = [float(str(line["dev"])) for line in lines(out / "log.jsonl")]
    assert len(set(dev)) == 4
    training = read_json(out / "model/bundle.json", "", newer=True)["training"]
    assert training["epoch"] == 1 + dev.index(min(dev)) != 1 + dev.index(max(dev))
    assert training["dev"] == {"log_loss": min(dev)}
    assert f"selected epoch {training['epoch']}: dev log_loss {min(dev):.4f}" in said  # and not in percent
    assert f"dev {dev[0]:.4f}" in said


def test_scores_and_their_metrics_are_what_scikit_learn_makes_of_the_lines(trained: tuple[Path, str]) -> None:
    out, said = trained
    found, metrics = lines(out / "scores.jsonl"), read_json(out / "metrics.json", "")
    labels, decisions = ([line[word] for line in found] for word in ("label", "decision"))
    posterior = [line["posterior"] for line in found]
    figures = metrics["metrics"]
    assert list(figures) == ["wa", "ua", "precision", "recall", "f1", "log_loss", "mcc"]  # and not the broken one
    assert figures["mcc"] == pytest.approx(matthews_corrcoef(labels, decisions), abs=1e-12)
    clipped = [[max(1e-6, one) for one in row] for row in posterior]  # type: ignore[attr-defined]
    own = [row[metrics["classes"].index(label)] for row, label in zip(clipped, labels, strict=True)]
    assert figures["log_loss"] == pytest.approx(-sum(map(math.log, own)) / len(own), abs=1e-12)
    assert figures["log_loss"] == pytest.approx(log_loss(labels, posterior, labels=metrics["classes"]), abs=1e-2)
    assert f"WA {100 * figures['wa']:.2f}, UA {100 * figures['ua']:.2f}, precision" in said
    assert f"log_loss {figures['log_loss']:.4f} (0 to infinity, lower is better)" in said
    assert f"mcc {figures['mcc']:.4f} (-1 to 1, higher is better)" in said
    assert "a metric is skipped: metric 'broken' of metrics.py sha256" in said
    assert "fails (RuntimeError: not today)" in said


def test_score_lines_say_who_speaks_and_metrics_say_what_was_trained(trained: tuple[Path, str], data: Path) -> None:
    out, _ = trained
    utterances = {line["id"]: line for line in lines(data / "manifest.jsonl")}
    for line in lines(out / "scores.jsonl"):
        own = utterances[line["id"]]
        assert [line[word] for word in ("speaker", "gender", "session")] == [own["speaker"], own["gender"], None]
    told = read_json(out / "metrics.json", "")["trained"]
    assert {word: told[word] for word in ("corpus", "protocol", "fold", "system", "seed")} == {
        "corpus": "ravdess",
        "protocol": "emobox",
        "fold": "1",
        "system": "mini-cnn",
        "seed": 0,
    }
    assert told["settings"] == read_json(out / "model/bundle.json", "", newer=True)["training"]["settings"]


def test_reports_and_comparisons_have_them_as_columns_with_the_same_figures(
    trained: tuple[Path, str], file: Path
) -> None:
    out, _ = trained
    figures = read_json(out / "metrics.json", "")["metrics"]
    own = f"| {figures['log_loss']:.4f} | {figures['mcc']:.4f} |"
    assert cli("report", out, "--plugin", file).exit_code == 0
    text = (out / "RESULTS.md").read_text()
    assert "| n | WA | UA | precision | recall | F1 | log_loss | mcc |" in text
    rows = [line for line in text.splitlines() if line.startswith(("| 1 |", "| mean of", "| pooled"))]
    assert [row.endswith(own) for row in rows] == [True] * 3
    assert "log_loss: 0 to infinity, lower is better. mcc: -1 to 1, higher is better." in text
    done = cli("compare", out, "--plugin", file)
    assert "| precision | recall | F1 | log_loss | mcc |" in done.stdout
    assert own in done.stdout
    assert "log_loss: 0 to infinity, lower is better. mcc: -1 to 1, higher is better." in done.stdout


def test_a_metric_that_fails_does_not_select(data: Path, file: Path, tmp_path: Path) -> None:
    words = ("--protocol", "emobox", "--fold", "1", "--system", "mini-cnn", "--plugin", file, "--set", "train.epochs=1")
    done = cli("train", data, "--out", tmp_path / "run", *words, "--set", "train.metric=broken")
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert "error: metric 'broken' of metrics.py sha256" in said
    assert "fails (RuntimeError: not today)" in said
    assert "--set train.metric=ua" in said
