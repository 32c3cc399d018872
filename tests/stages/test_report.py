"""`sertk report`: what it refuses to put side by side, and what it says of seeds that lack folds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sertk.core import SertkError
from sertk.plugins import Plugins
from sertk.results.statistics import all_metrics
from sertk.stages.report import report


def metrics(confusion: list[list[int]], hash_: str = "h") -> dict[str, object]:
    """The content of metrics.json."""
    return {
        "schema": 1,
        "protocol": {"corpus": "c", "name": "p", "hash": hash_, "stamp": "speaker-independent"},
        "utterances": 10,
        "classes": ["a", "b"],
        "confusion": confusion,
        "metrics": all_metrics(torch.tensor(confusion), Plugins()),
    }


def test_runs_on_different_folds_are_not_reported_together(tmp_path: Path) -> None:
    for fold, hash_ in (("1", "x"), ("2", "y")):
        out = tmp_path / f"p/s/fold={fold}/seed=0"
        out.mkdir(parents=True)
        (out / "metrics.json").write_text(json.dumps(metrics([[1, 0], [0, 1]], hash_)))
    with pytest.raises(SertkError, match=r"mixes runs of different hash \(x, y\)"):
        report([tmp_path])


def test_seeds_with_lacking_folds_are_told_as_incomplete(tmp_path: Path) -> None:
    for fold, seed in (("1", 0), ("2", 0), ("1", 1)):
        out = tmp_path / f"p/s/fold={fold}/seed={seed}"
        out.mkdir(parents=True)
        (out / "metrics.json").write_text(json.dumps(metrics([[1, 0], [0, 1]])))
    (path,) = report([tmp_path])
    assert "**incomplete**: 1 runs lack, the first fold 2, seed 1" in path.read_text()


def test_a_report_refuses_two_states_of_the_folds_under_one_name(tmp_path: Path) -> None:
    for system, sha in (("a", "1" * 16), ("b", "2" * 16)):
        folder = tmp_path / "exp" / "p" / system / "fold=1" / "seed=0"
        folder.mkdir(parents=True)
        about = {"corpus": "toy", "name": "p", "hash": sha, "part": "test", "stamp": "speaker-independent"}
        names = ["wa", "ua", "precision", "recall", "f1"]
        content = {"schema": 1, "protocol": about, "utterances": 2, "classes": ["x", "y"]}
        content |= {"confusion": [[1, 0], [0, 1]], "metrics": dict.fromkeys(names, 1.0)}
        (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(SertkError, match=f"different folds of toy / p .hash {'1' * 16} and {'2' * 16}"):
        report([tmp_path / "exp"])
    assert report([tmp_path / "exp" / "p" / "a"])


def test_the_tables_are_the_runs_their_summary_and_the_counts(tmp_path: Path) -> None:
    for fold, counts in (("1", [[4, 0], [2, 0]]), ("2", [[1, 1], [0, 2]])):
        out = tmp_path / f"p/s/fold={fold}/seed=0"
        out.mkdir(parents=True)
        (out / "metrics.json").write_text(json.dumps(metrics(counts)))
    (path,) = report([tmp_path], command="sertk recipe x")
    lines = path.read_text().splitlines()
    # fold 1: WA 4/6, recalls 1 and 0, precisions 4/6 and 0, F1 8/10 and 0; fold 2: WA 3/4, recalls 1/2 and 1,
    # precisions 1 and 2/3, F1 2/3 and 4/5; pooled: WA 7/10, recalls 5/6 and 2/4, precisions 5/7 and 2/3, F1 10/13, 4/7
    assert lines[:8] == [
        "# p / s",
        "",
        "| fold | seed | n | WA | UA | precision | recall | F1 |",
        "|---|---|---|---|---|---|---|---|",
        "| 1 | 0 | 10 | 66.67 | 50.00 | 33.33 | 50.00 | 40.00 |",
        "| 2 | 0 | 10 | 75.00 | 75.00 | 83.33 | 75.00 | 73.33 |",
        "| mean of 2 folds | 1 seed | | 70.83 | 62.50 | 58.33 | 62.50 | 56.67 |",
        "| pooled | 1 seed | | 70.00 | 66.67 | 69.05 | 66.67 | 67.03 |",
    ]
    assert lines[-4:] == ["| | a | b |", "|---|---|---|", "| a | 5 | 1 |", "| b | 2 | 2 |"]
    assert "- command: `sertk recipe x`" in lines
    assert (path.parent / "figures/confusion.png").read_bytes().startswith(b"\x89PNG")
