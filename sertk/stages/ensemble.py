"""Bundles -> ensembles of them, with equal weights or those of the highest likelihood on dev."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.core.files import Document, scores_file
from sertk.modeling import bundle, ensemble
from sertk.plugins import Plugins
from sertk.results.runs import METRICS, run_of, trained_as
from sertk.scoring.system import is_system

STEPS = 10_000
"""Of the search for the weights, at most."""
ENOUGH = 1e-9
"""The search ends where no weight changes by more."""


def make(models: Sequence[Path], out: Path, *, weights: str = "equal", files: Sequence[Path] = ()) -> None:
    """Makes an ensemble.

    Args:
        models: Bundles; of a folder of runs every bundle is a member.
        out: The folder of the ensemble.
        weights: "equal", or "dev": those with the highest likelihood of the labels of dev, see `likeliest`.
        files: Plugin files.

    Raises:
        SertkError: If a bundle cannot be read, or a run has no dev scores.
        UsageError: If the bundles do not go together, or were selected on other dev utterances.
    """
    plugins = Plugins(files=files)
    members = [bundle.opened(one, plugins) for folder in models for one in _bundles(folder)]
    ensemble.check(members)
    found = [1 / len(members)] * len(members) if weights == "equal" else likeliest(_dev(members)).tolist()
    ensemble.write(out, members, found, by=weights)
    for one, weight in zip(members, found, strict=True):
        say(f"  {weight:.3f} {one.folder}")
    own: Document = ensemble.opened(out, plugins).about["protocol"]
    say(f"wrote {out}: an ensemble of {len(members)} bundles, {weights} weights")
    if len(own["folds"]) > 1 or len(own["corpora"]) > 1:
        say(
            f"its bundles were trained on {own['corpus']}, folds {own['fold']}: together they may have heard all "
            "speakers there, and scores there are stamped 'seen in training'"
        )


def make_runs(systems: Sequence[Path], out: Path, *, weights: str = "equal", files: Sequence[Path] = ()) -> None:
    """Makes an ensemble of each fold and seed of systems, which is then a system as they are: OUT/fold=F/seed=N/model.

    Args:
        systems: Folders of runs.
        out: The folder of the ensembles.
        weights: See `make`.
        files: Plugin files.

    Raises:
        SertkError: See `make`.
        UsageError: See `make`; also if one of the systems has a run that another has not.
    """
    each = [{path.parent.relative_to(one) for path in one.glob("fold=*/seed=*/model")} for one in systems]
    every = sorted(set().union(*each))
    if not every:
        raise UsageError(f"{', '.join(map(str, systems))}: no folder of runs (fold=F/seed=N/model). Train one first.")
    for run in every:
        lacks = next((one for one, own in zip(systems, each, strict=True) if run not in own), None)
        if lacks is not None:
            raise UsageError(f"{lacks} has no {run}/model, and another one has. Train it there too.")
    for run in every:
        make([one / run / "model" for one in systems], out / run / "model", weights=weights, files=files)


def _bundles(folder: Path) -> list[Path]:
    """A bundle, or the bundles of a folder of runs."""
    if not is_system(folder):
        return [folder]
    found = sorted(folder.glob("fold=*/seed=*/model"))
    if not found:
        raise SertkError(f"no run in {folder} has a bundle (fold=F/seed=N/model). Train one first.")
    return found


def _dev(members: Sequence[bundle.Opened]) -> Tensor:
    """(M, N) float64 posterior that each bundle gives the label of each dev utterance.

    Raises:
        SertkError: If the dev scores are missing.
        UsageError: If they are of other utterances or of another bundle, or dev is training data.
    """
    each: list[Tensor] = []
    first, ids = Path(), list[str]()
    for one in members:
        training: Document = one.about.get("training") or {}
        if training.get("refit"):
            raise UsageError(
                f"{one.folder} was trained again on train and dev (train.refit), so its dev scores cannot weigh it. "
                "Leave --weights out for equal weights."
            )
        path = one.folder.resolve().parent / scores_file("dev")
        if not path.exists():
            raise SertkError(
                f"--weights dev needs {path}, the scores of the run on dev: sertk score RUNS DATA --part dev writes it."
            )
        run = run_of(path.parent / METRICS["dev"])
        if run.trained != trained_as(one.about):
            raise UsageError(
                f"{path} is of another bundle than {one.folder}: score dev again with it, "
                "sertk score RUNS DATA --part dev, or leave --weights out for equal weights."
            )
        scores = run.scores
        if each and [*scores.ids] != ids:
            raise UsageError(
                f"{first} and {path} are of other utterances, so they cannot weigh the bundles. --weights dev is for "
                "bundles of one fold; leave it out for equal weights."
            )
        first, ids = path, [*scores.ids]
        right = scores.target.hard[:, None]
        each.append(scores.prediction.posterior.double().gather(1, right)[:, 0])
    return torch.stack(each)


def likeliest(right: Tensor) -> Tensor:
    """The weights with which the mean posterior gives the labels the highest likelihood.

    The log-likelihood of a mixture is concave in its weights, and each step of expectation-maximisation (Dempster et
    al. 1977) raises it: the weight of a member becomes the mean of its shares in the posteriors.

    Args:
        right: (M, N) posterior that each member gives the label of each utterance.

    Returns:
        (M,) weights, of sum 1.
    """
    right = right[:, right.sum(0) > 0]  # of what all give 0 no weights are better
    weights = torch.full((len(right),), 1 / len(right), dtype=torch.float64)
    for _ in range(STEPS if right.shape[1] else 0):
        shares = weights[:, None] * right
        before, weights = weights, (shares / shares.sum(0)).mean(1)
        if (weights - before).abs().max() < ENOUGH:
            break
    return weights
