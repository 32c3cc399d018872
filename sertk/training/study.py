"""A search as Optuna has it: a study in a journal that several processes share, and any of them may be killed."""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from sertk.core import SertkError, UsageError, key, nearest
from sertk.core.files import Document, csv_text
from sertk.core.forms import shown
from sertk.settings.schema import Component
from sertk.settings.sweep import Range, Search
from sertk.settings.values import value_text
from sertk.training import run_folder
from sertk.training.run_folder import PrunedError

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler"}
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "none": "NopPruner",
}
"""Optuna's classes by the names that a sweep has for them."""
RETRIES = 3
"""So many times a trial is taken up again whose process was killed."""


@dataclass(frozen=True)
class Trial:
    """Settings that are tried.

    Attributes:
        folder: Its folder; of a trial that was taken up again, the folder where it began.
        values: What is tried, by dotted name, as it is typed.
    """

    folder: Path
    values: Mapping[str, str]
    _trial: optuna.Trial
    _lock: IO[bytes]

    @property
    def words(self) -> list[str]:
        """The values as `--set` takes them."""
        return [f"{name}={text}" for name, text in self.values.items()]

    def report(self, step: int, score: float) -> None:
        """Tells the study how a trial does so far.

        Raises:
            PrunedError: Where the pruner says that it is not worth going on.
        """
        with _quiet():
            self._trial.report(score, step)
        if self._trial.should_prune():
            raise PrunedError(f"stopped by the search after step {step}, at {score:g}: other trials were better there.")


class Study:
    """The trials of a search.

    Args:
        folder: Of the search; it holds the journal, and a folder for each trial.
        search: What is searched, and how.
        better: Which scores are better.

    Raises:
        UsageError: Where Optuna is not installed, or a sampler or a pruner does not take its settings.
    """

    def __init__(self, folder: Path, search: Search, better: Literal["higher", "lower"] = "higher") -> None:
        check(search)
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self._search, self._better = folder, search, better
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / JOURNAL))
        with self._alone():
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                pruner=_made("pruner", PRUNERS, search.pruner),
                study_name="search",
                direction="maximize" if better == "higher" else "minimize",
                load_if_exists=True,
            )

    def claim(self, about: Mapping[str, object]) -> None:
        """Writes down what is searched, or finds that it is the same.

        Raises:
            SertkError: Where something changed since the search began; the first difference is named.
        """
        with self._alone():
            old: Document = self._study.user_attrs.get("about") or {}
            if not old:
                self._study.set_user_attr("about", dict(about))
                return
        for name, value in about.items():
            if old.get(name) != value:
                raise SertkError(
                    f"{self.folder} is a search with {name} {shown(old.get(name))}, and now it is {shown(value)}. "
                    "Begin again with --force, or give the sweep another name."
                )

    def begin(self, stands: Mapping[str, object] | None) -> Trial | None:
        """The next trial; None where all have begun, and those that are not ended are with other processes.

        Args:
            stands: The settings before the search, which are tried first; None where they lie outside of the ranges.
        """
        with self._alone(), _quiet():
            self._give_up_killed()
            known = self._trials()
            if not self._all() and stands is not None:
                self._study.enqueue_trial(dict(stands))
            elif len(known) >= self._search.trials and not any(one.state.name == "WAITING" for one in known):
                return None
            # by the number of trials that count, so that a killed process changes nothing of what is drawn
            seed = key(self._search.seed, "search", sum(one.state.name != "WAITING" for one in known)) % 2**32
            self._study.sampler = _made("sampler", SAMPLERS, self._search.sampler, seed=seed)
            trial = self._study.ask({name: distribution(one) for name, one in self._search.ranges.items()})
            folder = self._folder(self._all()[trial.number])
            return Trial(folder, _typed(trial.params), trial, run_folder.lock(folder))

    def end(self, trial: Trial, result: float | PrunedError | str) -> None:
        """Ends a trial, and lets go of its folder.

        Args:
            trial: It.
            result: Its dev score; or why it was pruned; or, as text, why it failed.
        """
        states = self._states()
        if isinstance(result, float):
            self._study.tell(trial._trial, result)
        elif isinstance(result, PrunedError):
            self._study.tell(trial._trial, state=states.PRUNED)
        else:
            trial._trial.set_user_attr("error", result)
            self._study.tell(trial._trial, state=states.FAIL)
        trial._lock.close()

    @property
    def counts(self) -> Counter[str]:
        """The number of trials by state: COMPLETE, PRUNED, FAIL, RUNNING, WAITING."""
        return Counter(one.state.name for one in self._trials())

    @property
    def errors(self) -> list[str]:
        """Why trials failed."""
        return [_error(one) for one in self._trials() if one.state.name == "FAIL"]

    def best(self) -> tuple[dict[str, str], float] | None:
        """The values of the trial with the best score, the first of equals, and the score; None where none ended."""
        done = [(one.value, one.params) for one in self._trials() if one.value is not None and _complete(one)]
        if not done:
            return None
        score, params = (max if self._better == "higher" else min)(done, key=lambda one: one[0])
        return _typed(params), score

    def score_of(self, values: Mapping[str, object]) -> float | None:
        """The score of a trial of these values; None where there is none."""
        return next((one.value for one in self._trials() if _complete(one) and one.params == values), None)

    def table(self) -> str:
        """The trials as CSV."""
        names = list(self._search.ranges)
        rows = [
            [
                self._folder(one).name.removeprefix("trial="),
                one.state.name.lower(),
                "" if one.value is None else one.value,
                len(one.intermediate_values),
                *(one.params.get(name, "") for name in names),
                _error(one),
            ]
            for one in self._trials()
        ]
        return csv_text([["trial", "state", "dev", "epochs", *names, "error"], *rows])

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that count: not those that were taken up again, under another number."""
        every = self._all()
        again = {number for one in every for number in _history(one)}
        return [one for one in every if one.number not in again]

    def _all(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _folder(self, trial: optuna.trial.FrozenTrial) -> Path:
        first, *_ = [*_history(trial), trial.number]
        return self.folder / f"trial={first}"

    def _give_up_killed(self) -> None:
        """Fails the trials whose process is gone, and has Optuna put each in the queue again.

        Optuna's heartbeat needs a database; that a process lives, the lock of its trial's folder says.
        """
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        again = RetryHeartbeatStaleTrialCallback(RETRIES, inherit_intermediate_values=True)
        for trial in self._all():
            if trial.state.name == "RUNNING" and not run_folder.held(self._folder(trial)):
                self._study.tell(trial.number, state=self._states().FAIL)
                again(self._study, deepcopy(trial))  # it writes into what it gets

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes waiting, so that no two take one trial, or one more than was asked for."""
        with (self.folder / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _states() -> type[optuna.trial.TrialState]:
        from optuna.trial import TrialState

        return TrialState


def check(search: Search) -> None:
    """Looks at what a study will be made of.

    Raises:
        UsageError: Where Optuna is not installed, or a sampler or a pruner does not take its settings.
    """
    if find_spec("optuna") is None:
        raise UsageError("a search needs the package optuna: pip install 'sertk[search]'.")
    _made("sampler", SAMPLERS, search.sampler, seed=0)
    _made("pruner", PRUNERS, search.pruner)


def clear(folder: Path) -> None:
    """Deletes a search, its trials too; nothing where there is none."""
    if (folder / JOURNAL).exists():
        shutil.rmtree(folder)


def distribution(one: Range) -> optuna.distributions.BaseDistribution:
    """A range as Optuna has it; choices are texts, as they are typed."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices:
        return CategoricalDistribution([value_text(value) for value in one.choices])
    low, high = one.low or 0.0, one.high or 0.0
    if one.whole:
        return IntDistribution(int(low), int(high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(low, high, log=one.log, step=one.step)


def _typed(params: Mapping[str, object]) -> dict[str, str]:
    """Values of a trial as they are typed; choices are texts already."""
    return {name: one if isinstance(one, str) else value_text(one) for name, one in params.items()}


def _complete(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state.name == "COMPLETE"


def _error(trial: optuna.trial.FrozenTrial) -> str:
    """Why a trial failed, "" where it did not."""
    killed = f"its process was killed {RETRIES + 1} times"
    return str(trial.user_attrs.get("error", killed)) if trial.state.name == "FAIL" else ""


def _history(trial: optuna.trial.FrozenTrial) -> Sequence[int]:
    """The numbers that a trial had before, each of them taken by a process that was killed."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with _quiet():
        return RetryHeartbeatStaleTrialCallback.retry_history(trial)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that a function of it is new, or that a step was reported before the kill already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _made(kind: str, known: Mapping[str, str], spec: Component, **own: object) -> Any:  # noqa: ANN401 - Optuna's classes
    """A sampler or a pruner of Optuna."""
    import optuna

    if spec.name not in known:
        raise UsageError(f"no {kind} {spec.name!r} of a search{nearest(spec.name, known)}")
    make: Callable[..., object] = getattr(getattr(optuna, f"{kind}s"), known[spec.name])
    try:
        with _quiet():
            return make(**spec.settings, **own)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{kind} {spec.name!r} of a search is Optuna's {known[spec.name]}, which refuses its settings: {error}"
        ) from None
