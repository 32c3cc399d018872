"""Heads where the model is in half precision, and where they drop out."""

from __future__ import annotations

import torch

from sertk.builtin.heads import Cosine, Linear


def test_cosines_are_in_float32_where_the_model_is_in_half_precision() -> None:
    torch.manual_seed(0)
    head, points = Cosine(64, 5), torch.randn(7, 64)
    plain = head(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = head(points)
        halves = head(points.bfloat16())
    assert made.dtype == halves.dtype == torch.float32
    assert torch.equal(made, plain)
    # the embedding has lost its last bits; what is made of it loses no more
    torch.testing.assert_close(halves, head(points.bfloat16().float()), rtol=0, atol=0)


def test_a_linear_head_drops_values_of_the_embedding_and_not_logits() -> None:
    torch.manual_seed(0)
    head = Linear(3, 400, dropout=0.5)
    head.layer[1].bias.data.zero_()
    head.layer[1].weight.data.fill_(1.0)
    assert len(head(torch.ones(1, 3)).unique()) == 1  # all logits lack the same values
