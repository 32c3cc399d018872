"""Metrics as they are run and shown: by name, in percent or plain, and named when they fail."""

from __future__ import annotations

import inspect
import math
import statistics
from collections.abc import Mapping
from itertools import groupby

from torch import Tensor

from sertk.console.progress import say
from sertk.core import CountMetric, Metric, Scores, SertkError, UsageError
from sertk.plugins import Plugins, Spec, split

TITLES = {"wa": "WA", "ua": "UA", "precision": "precision", "recall": "recall", "f1": "F1"}
"""The names of our metrics as they are shown, in order; they come before others."""
OURS = (
    "WA is accuracy, UA is the mean class recall (UAR); precision, recall and F1 are macro means. Percent, 0 to 100, "
    "higher is better."
)
ALONE = "a class that was decided and has no utterance counts as 0 in precision, recall and F1, and not in UA"


MEND = "Correct it, or leave it out."
ROUNDING = 1e-9  # by which a figure may be beyond its range


class Measure:
    """A metric that is ready to be run.

    Args:
        plugins: Where it is registered.
        spec: Its name, with its settings if it has any.

    Raises:
        UsageError: On an unknown name or setting, or what is no metric.
        SertkError: If it fails when it is made.

    Attributes:
        name: Its registered name.
        title: As it is shown.
        better: "higher" or "lower".
        shown: Whether every report has it.
    """

    def __init__(self, plugins: Plugins, spec: Spec) -> None:
        self.name, _ = split("metric", spec)
        self.title = TITLES.get(self.name, self.name)
        entry = plugins.entry("metric", self.name)
        self._who = plugins.who("metric", self.name)
        if not (inspect.isclass(entry.factory) and issubclass(entry.factory, Metric)):
            raise UsageError(f"{self._who} is {entry.factory!r}. Make it a class that inherits from sertk.core.Metric.")
        try:
            self._metric: Metric = plugins.make("metric", spec)
            self.better, (self._least, self._greatest) = self._metric.better, self._metric.range
            self.shown = self._metric.shown
            sound = self.better in ("higher", "lower") and self._least < self._greatest
        except UsageError as error:
            raise UsageError(f"{error} (of {entry.distribution} {entry.version})") from None
        except (Exception, SystemExit) as error:  # a guest can fail in any way
            raise self._failed("cannot be made", error) from error
        if not sound:
            raise UsageError(
                f"{self._who} has better = {self.better!r} and range = {self._metric.range!r}. "
                'Allowed are "higher" and "lower", and a range (LEAST, GREATEST).'
            )

    def _failed(self, what: str, error: BaseException) -> SertkError:
        return SertkError(f"{self._who} {what} ({type(error).__name__}: {error}). {MEND}")

    def __call__(self, scores: Scores) -> float:
        """The figure of some utterances.

        Raises:
            SertkError: If the metric fails or gives no finite float; it is named.
        """
        try:
            found: object = self._metric(
                scores.own()
            )  # a copy: a metric that changes it must not change it for the next
        except (Exception, SystemExit) as error:  # as above
            raise self._failed("fails", error) from error
        if not isinstance(found, float) or not math.isfinite(found):
            what = repr(found) if isinstance(found, int | float) else f"a {type(found).__name__}"
            raise SertkError(f"{self._who} gave {what}; expected a finite float. {MEND}")
        if not self._least - ROUNDING <= found <= self._greatest + ROUNDING:
            raise SertkError(f"{self._who} gave {found}; its range is {self._metric.range}. {MEND}")
        return float(found)

    @property
    def of_counts(self) -> bool:
        """Whether the confusion counts alone decide it: then it has intervals."""
        return isinstance(self._metric, CountMetric)

    def counted(self, counts: Tensor) -> Tensor:
        """The figures of (..., C, C) confusion counts, of a metric that they decide: (...,) float64.

        Raises:
            SertkError: If the metric fails; it is named.
        """
        try:
            found: Tensor = self._metric.counted(counts)  # type: ignore[attr-defined] # see of_counts
            return found.double().reshape(counts.shape[:-2])
        except (Exception, SystemExit) as error:  # as above
            raise self._failed("fails", error) from error

    @property
    def percent(self) -> bool:
        """Whether its figures are shown in percent: shares are."""
        return (self._least, self._greatest) == (0, 1)

    @property
    def about(self) -> str:
        """Its range and direction in words."""
        ends = ("0", "100") if self.percent else (_end(self._least), _end(self._greatest))
        return f"{'percent, ' * self.percent}{' to '.join(ends)}, {self.better} is better"

    @property
    def suffix(self) -> str:
        """Its unit, as it is written after the title of an axis."""
        return " (percent)" if self.percent else ""

    @property
    def scale(self) -> tuple[int, int]:
        """The factor of its figures when they are shown, and their decimals."""
        return (100, 2) if self.percent else (1, 4)

    def text(self, *values: float | None) -> str:
        """Figures of several seeds: the mean, and ± the population's deviation; a dash if one could not be had."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return "–"
        scale, digits = self.scale
        deviation = f" ± {scale * statistics.pstdev(known):.{digits}f}" if len(known) > 1 else ""
        return f"{scale * statistics.fmean(known):.{digits}f}{deviation}"


def _end(value: float) -> str:
    return f"{value:g}".replace("inf", "infinity")


class Measures:
    """Every registered metric that is shown, ours first. One that fails is named with a warning, once, and skipped.

    Args:
        plugins: Where they are registered.

    Attributes:
        all: Those that could be made.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._said, self._gave, self._alone = set[str](), set[str](), False
        self.all: list[Measure] = []
        names = plugins.names("metric")
        for name in [*(one for one in TITLES if one in names), *(one for one in names if one not in TITLES)]:
            try:
                made = Measure(plugins, name)
            except SertkError as error:
                self._warn(name, error)
            else:
                self.all += [made] if made.shown else []

    def _warn(self, name: str, error: SertkError) -> None:
        if name not in self._said:
            say(f"warning: a metric is skipped: {error}")
        self._said.add(name)

    def figure(self, measure: Measure, scores: Scores) -> float | None:
        """A figure of some utterances; None if the metric fails on them."""
        try:
            found = measure(scores)
        except SertkError as error:
            self._warn(measure.name, error)
            return None
        self._gave.add(measure.name)
        if measure.name in ("precision", "recall", "f1"):
            counts = scores.confusion
            self._alone |= bool((counts.sum(0) > 0)[counts.sum(1) == 0].any())
        return found

    def __getitem__(self, name: str) -> Measure:
        return next(one for one in self.all if one.name == name)

    @property
    def shown(self) -> list[Measure]:
        """Those that gave a figure so far."""
        return [one for one in self.all if one.name in self._gave]

    def figures(self, scores: Scores) -> dict[str, float]:
        """The figures of all metrics by name, without those that fail."""
        found = {one.name: self.figure(one, scores) for one in self.all}
        return {name: value for name, value in found.items() if value is not None}

    def words(self, figures: Mapping[str, float]) -> str:
        """Figures in a sentence; range and direction are said once for neighbours that share them."""
        known = [one for one in self.all if one.name in figures]
        groups = groupby(known, key=lambda one: one.about)
        texts = ((about, [f"{one.title} {one.text(figures[one.name])}" for one in ones]) for about, ones in groups)
        apart = len({figures[name] for name in ("ua", "recall") if name in figures}) > 1  # not of the same classes
        return ", ".join(f"{', '.join(text)} ({about})" for about, text in texts) + f" ({ALONE})" * apart

    @property
    def legend(self) -> str:
        """What was shown: ours together, of others the range and the direction."""
        alone = [f"{ALONE[0].upper()}{ALONE[1:]}."] * self._alone
        return " ".join([OURS, *alone, *(f"{one.title}: {one.about}." for one in self.shown if one.name not in TITLES)])
