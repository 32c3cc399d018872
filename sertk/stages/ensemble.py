"""Bundles -> ensembles of them, with equal weights or those of the highest likelihood on dev."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.core.files import Document, put_folder, scores_file
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
    found = _weights(members, weights)
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
    """Makes an ensemble for each fold and seed of several systems: out is then a system too (fold=F/seed=N/model).

    Args:
        systems: Folders of runs.
        out: The folder of the ensembles, a new one.
        weights: See `make`.
        files: Plugin files.

    Raises:
        SertkError: See `make`. Nothing is written then.
        UsageError: See `make`; also if something is there, a system lacks a run, or two were trained on other data.
    """
    each = _same_runs(systems)
    if out.exists():
        raise UsageError(
            f"{out} is there, and its scores would be taken for new ones. Delete it, or give another --out."
        )
    plugins = Plugins(files=files)
    found = {run: [bundle.opened(one / run / "model", plugins) for one in systems] for run in each}
    for members in found.values():
        ensemble.check(members)
        _check_one_fold(members)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for run, members in found.items():
        own = _weights(members, weights)
        ensemble.write(fresh / run / "model", members, own, by=weights)
        if weights != "equal":
            say(f"  {run}: {', '.join(f'{weight:.3f}' for weight in own)}")
    put_folder(fresh, out)
    say(f"wrote {out}: for each of {len(found)} runs an ensemble of {len(systems)} bundles, {weights} weights")


def _same_runs(systems: Sequence[Path]) -> list[Path]:
    """The runs of systems, fold=F/seed=N, which must be the same in all.

    Raises:
        UsageError: If they are not, or there are not two systems.
    """
    odd = next((one for one in systems if not is_system(one)), None)
    if odd is not None:
        raise UsageError(f"--runs is for folders of runs (fold=F/seed=N/model), and {odd} is none.")
    if len(systems) < 2:
        raise UsageError(f"--runs joins two systems or more, and {systems[0]} is one. Give another beside it.")
    each = [{path.parent.relative_to(one) for path in one.glob("fold=*/seed=*/model")} for one in systems]
    every = sorted(set().union(*each))
    if not every:
        raise UsageError(
            f"no run in {', '.join(map(str, systems))} has a bundle (fold=F/seed=N/model). Train one first."
        )
    for run in every:
        lacks = next((one for one, own in zip(systems, each, strict=True) if run not in own), None)
        if lacks is not None:
            raise UsageError(f"{lacks} has no {run}/model, and another one has. Train it there too.")
    return every


def _check_one_fold(members: Sequence[bundle.Opened]) -> None:
    """Refuses bundles of other corpora, protocols or folds: no part of a corpus would be new to all of them."""
    first = members[0]
    for one in members[1:]:
        for word in ("corpus", "name", "fold", "hash"):
            mine, theirs = (str(each.about["protocol"][word]) for each in (first, one))
            if mine != theirs:
                what = {"name": "protocol", "hash": "protocol's hash"}.get(word, word)
                raise UsageError(
                    f"{first.folder} was trained on {what} {mine}, and {one.folder} on {theirs}. Give --runs "
                    "systems of one protocol; without it their bundles become one ensemble."
                )


def _weights(members: Sequence[bundle.Opened], weights: str) -> list[float]:
    return [1 / len(members)] * len(members) if weights == "equal" else likeliest(_dev(members)).tolist()


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
