"""What is decided of dev in an epoch, whatever the order of batches."""

from __future__ import annotations

import torch

from sertk.core import Utterance
from sertk.training.dev import Dev


def test_decisions_stand_with_their_utterances_and_every_epoch_begins_anew() -> None:
    people = [
        Utterance("a", "a.wav", "sa", None, gender="female", session="2", duration=1.0),
        Utterance("b", "b.wav", "unknown", None),
    ]
    dev = Dev(people, torch.tensor([1, 0]), ("x", "y", "z"))
    for epoch in (1, 2):
        posterior = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
        logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 4.0, 0.0]])  # the largest are of other classes
        dev.add(("b",), posterior[:1], logits[:1])
        if epoch == 1:
            dev.add(("a",), posterior[1:], logits[1:])
        made = dev.scores()
        assert made.ids == ("a", "b")
        assert made.target.hard.tolist() == [1, 0]
        wanted = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]] if epoch == 1 else [[0.0] * 3, [0.2, 0.5, 0.3]]
        torch.testing.assert_close(made.prediction.posterior, torch.tensor(wanted).double(), atol=1e-6, rtol=0)
        assert made.prediction.logits[1].tolist() == [3, 1, 2]
        assert made.decision.tolist() == [0, 1]
        assert (made.speaker, made.gender, made.session) == (("sa", None), ("female", None), ("2", None))
        assert made.seconds[0] == 1
        assert made.seconds[1].isnan()
