"""Drawings of scored runs: what stands in their cells."""

import torch

from sertk.results.figures import percent_of_labels


def test_cells_are_percent_of_their_label() -> None:
    # four utterances of the first class, one of the second, none of the third
    counts = torch.tensor([[3, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert percent_of_labels(counts).tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
