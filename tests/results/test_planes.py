"""Embeddings in a plane: which utterances are drawn, and where their points are."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from sertk.core import SertkError
from sertk.core.files import embeddings_file, json_bytes
from sertk.results import planes as module
from sertk.results.planes import Part, Plane, directions, parts_of, pca, planes, tsne
from sertk.results.runs import Run
from sertk.scoring.embeddings import write

CLASSES = ["joy", "fear", "anger"]


def scored(folder: Path, name: str, labels: Sequence[str], bundle: str = "b") -> None:
    """Score lines u0, u1, ... with embeddings (n, number of the label, 1, 2)."""
    lines = []
    for number, label in enumerate(labels):
        line = {"id": f"u{number}", "label": label, "speaker": None, "decision": "joy", "posterior": [1, 0, 0]}
        line |= {"logits": [1, 0, 0]}
        place = CLASSES.index(label) if label in CLASSES else 9
        lines.append((json_bytes(line, ""), struct.pack("<4f", number, place, 1, 2)))
    path = folder / name
    path.write_bytes(b"".join(write(lines, embeddings_file(path), bundle)))


def run(folder: Path, part: str = "test") -> Run:
    counts = [[0] * 3 for _ in CLASSES]
    for line in (folder / "scores.jsonl").read_text().splitlines():
        counts = [
            [count + (f'"label": "{name}"' in line and column == 0) for column, count in enumerate(row)]
            for name, row in zip(CLASSES, counts, strict=True)
        ]
    return Run(folder, {"classes": CLASSES, "confusion": counts, "protocol": {"part": part}}, {"fold": "1", "seed": 0})


LABELS = ["fear", "awe", "joy", "anger", "joy", "fear", "joy"]


def test_rows_are_those_of_the_utterances_whose_label_is_a_class(tmp_path: Path) -> None:
    scored(tmp_path, "scores.jsonl", LABELS)
    (part,), lacking = parts_of(run(tmp_path))
    assert (part.name, part.all, part.title) == ("test", 6, "test (6)")
    assert part.rows[:, 0].tolist() == [0, 2, 3, 4, 5, 6]  # u1 is of no class
    assert part.label.tolist() == [1, 0, 2, 0, 1, 0] == part.rows[:, 1].tolist()
    command = "`sertk score SYSTEM data/NAME --part train --embeddings beside`"
    assert lacking == f"the embeddings of the training part. {command} keeps them."


def test_of_many_some_are_drawn_each_with_its_own_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWN", 20)
    scored(tmp_path, "scores.jsonl", ["joy", "awe", "anger", "fear"] * 25)
    (part,), _ = parts_of(run(tmp_path))
    assert (len(part.rows), part.all, part.title) == (20, 75, "test (20 of 75)")
    assert part.label.tolist() == part.rows[:, 1].tolist()
    assert len({*part.rows[:, 0].tolist()}) == 20
    assert torch.equal(parts_of(run(tmp_path))[0][0].rows, part.rows)


def test_train_comes_first_where_it_is_of_the_same_model(tmp_path: Path) -> None:
    scored(tmp_path, "scores.jsonl", LABELS)
    scored(tmp_path, "train.jsonl", ["joy", "fear"])
    found, lacking = parts_of(run(tmp_path))
    assert ([one.name for one in found], lacking) == (["train", "test"], "")
    assert [len(one.rows) for one in found] == [2, 6]
    scored(tmp_path, "train.jsonl", ["joy", "fear"], bundle="another")
    found, lacking = parts_of(run(tmp_path))
    assert [one.name for one in found] == ["test"]
    assert "which are of another model" in lacking
    (tmp_path / "train.jsonl").write_bytes((tmp_path / "train.jsonl").read_bytes() + b"\n")
    assert "of other scores than" in parts_of(run(tmp_path))[1]
    (found_one,), lacking = parts_of(run(tmp_path, part="train"))
    assert (found_one.name, lacking) == ("train", "")


def test_embeddings_of_other_scores_are_refused(tmp_path: Path) -> None:
    scored(tmp_path, "scores.jsonl", LABELS)
    text = (tmp_path / "scores.jsonl").read_text()
    (tmp_path / "scores.jsonl").write_text(text.replace('"logits": [1,', '"logits": [2,'))
    with pytest.raises(SertkError, match=r"embeddings\.safetensors is of other scores than .*scores\.jsonl"):
        parts_of(run(tmp_path))


def part(rows: torch.Tensor, name: str = "test") -> Part:
    return Part(name, rows.double(), torch.zeros(len(rows), dtype=torch.int64), len(rows), "b")


def by_name(parts: Sequence[Part]) -> Mapping[str, Plane]:
    return {one.name: one for one in planes(parts)}


def test_pca_has_the_directions_of_the_largest_variance() -> None:
    # along (3, 4, 0) / 5 at -2, -1, 0, 1, 2 and along (0, 0, 1) at 1, -1, 0, -1, 1
    along, across = torch.tensor([-2.0, -1, 0, 1, 2]), torch.tensor([1.0, -1, 0, -1, 1])
    rows = along[:, None] * torch.tensor([0.6, 0.8, 0]) + across[:, None] * torch.tensor([0.0, 0, 1]) + 7
    points, shares = pca(rows.double())
    torch.testing.assert_close(points[:, 0].abs(), along.double().abs(), atol=1e-5, rtol=0)
    torch.testing.assert_close(points[:, 1].abs(), across.double().abs(), atol=1e-5, rtol=0)
    assert shares == pytest.approx([10 / 14, 4 / 14], abs=1e-6)


def test_by_angle_the_length_of_an_embedding_does_not_count() -> None:
    rows = torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0], [-5.0, 0.0], [0.0, 2e-20]], dtype=torch.float64)
    assert directions(rows).tolist() == [[0.6, 0.8], [0.6, 0.8], [0, 0], [-1, 0], [0, 1]]
    lengths = torch.tensor([1.0, 2, 3, 4, 5, 6])
    found = by_name([part(lengths[:, None] * torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]] * 2))])
    torch.testing.assert_close(found["pca-angle"].points[0][:3], found["pca-angle"].points[0][3:])
    assert (found["pca"].points[0][:3] - found["pca"].points[0][3:]).norm(dim=1).min() > 1


def test_parts_share_one_plane_and_four_of_them_are_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    test, train = (torch.randn(size, 4, generator=generator) for size in (9, 14))
    found = by_name([part(train, "train"), part(test)])
    assert list(found) == ["tsne", "tsne-angle", "pca", "pca-angle"]
    for one in found.values():
        assert [len(points) for points in one.points] == [14, 9]
        assert all(points.isfinite().all() for points in one.points)
    together, _ = pca(torch.cat([train, test]).double())
    assert torch.equal(torch.cat([*found["pca"].points]), together)
    assert found["pca"].axes[0].startswith("component 1, ")
    assert found["tsne"].axes == ()


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_tsne_puts_neighbours_together_alike_at_any_scale(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    group = torch.arange(24) % 3
    rows = scale * (torch.randn(24, 5, generator=generator).double() + 50 * torch.eye(5)[group])
    points = tsne(rows)
    distance = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert torch.equal(group[distance.argmin(1)], group)
    assert torch.equal(tsne(rows), points)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.rand(4, 3), "4 utterances with 3 values each are too few"),
        (torch.rand(9, 1), "9 utterances with 1 values each are too few"),
        (torch.full((9, 3), 0.3), "all embeddings are the same, by Euclidean distance"),
        (torch.zeros(9, 3), "all embeddings are the same"),
        (torch.arange(1.0, 10)[:, None] * torch.tensor([0.3, 0.7, 0.9]), "all embeddings are the same, by angle"),
    ],
)
def test_where_there_is_nothing_to_see_it_is_said(rows: torch.Tensor, message: str) -> None:
    with pytest.raises(SertkError, match=message):
        planes([part(rows)])
