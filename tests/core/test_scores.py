"""What metrics read: confusion counts, a choice of utterances, several folds together."""

from __future__ import annotations

import math

import torch

from sertk.core import Prediction, Scores, Target

# 5 of a: 3 right, 2 called b; 2 of b: 1 right, 1 called c; nothing of c and d
PAIRS = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 1], [0, 1], [1, 1], [1, 2]])


def scores(pairs: torch.Tensor, first: int = 0) -> Scores:
    """Scores of four classes."""
    rows = range(first, first + len(pairs))
    posterior = torch.nn.functional.one_hot(pairs[:, 1], 4).double()
    return Scores(
        ids=tuple(f"u{row}" for row in rows),
        classes=tuple("abcd"),
        target=Target.of(pairs[:, 0], 4),
        prediction=Prediction(posterior, posterior - first),
        decision=pairs[:, 1],
        speaker=tuple(f"s{row}" for row in rows),
        gender=tuple(None if row % 2 else "female" for row in rows),
        session=tuple(f"t{row}" for row in rows),
        seconds=torch.tensor([float(row) if row else math.nan for row in rows], dtype=torch.float64),
    )


def test_confusion_has_labels_in_rows_and_decisions_in_columns() -> None:
    made = scores(PAIRS)
    assert made.confusion.tolist() == [[3, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert made.confusion is made.confusion  # counted once
    assert scores(PAIRS[:0]).confusion.tolist() == [[0] * 4] * 4


def test_some_utterances_are_taken_by_number_or_by_mask_with_all_that_is_theirs() -> None:
    made = scores(PAIRS)
    found = made.take(torch.tensor([6, 3]))
    assert found.ids == ("u6", "u3")
    assert (found.speaker, found.gender, found.session) == (("s6", "s3"), ("female", None), ("t6", "t3"))
    assert found.target.hard.tolist() == [1, 0]
    assert found.decision.tolist() == found.prediction.posterior.argmax(1).tolist() == [2, 1]
    assert torch.equal(found.prediction.logits, made.prediction.logits[[6, 3]])
    assert found.seconds.tolist() == [6.0, 3.0]
    assert found.confusion.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert made.take(made.seconds > 4).ids == ("u5", "u6")


def test_folds_are_joined_one_after_another() -> None:
    whole = Scores.join([scores(PAIRS[:4]), scores(PAIRS[4:], first=4)])
    assert whole.ids == tuple(f"u{row}" for row in range(7))
    assert whole.confusion.tolist() == scores(PAIRS).confusion.tolist()
    assert whole.speaker[4:] == ("s4", "s5", "s6")
    assert whole.gender[:2] == ("female", None)
    assert whole.session[-1] == "t6"
    assert whole.prediction.logits[:, 0].tolist() == [1.0, 1.0, 1.0, 0.0, -4.0, -4.0, -4.0]
    assert whole.target.weight.tolist() == [1.0] * 7
    assert math.isnan(whole.seconds[0])
    assert whole.seconds[1:].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
