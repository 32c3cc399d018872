"""Intervals and differences in Markdown: what stands below the tables of `report` and `compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sertk.core import SertkError
from sertk.results.groups import Column, by_class, by_group, spread
from sertk.results.intervals import (
    CROSSED,
    DRAWS,
    LEVEL,
    Estimate,
    Statistic,
    by_speaker,
    estimates,
)
from sertk.results.measures import Measure, Measures
from sertk.results.pairs import EXACT, SWAPS, apart, holm, mcnemar, swap_test
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.units import By, Units, units_of

PERCENT = f"{100 * LEVEL:g} %"
GROUPED: Sequence[Column] = ("gender", "session", "intensity", "duration")
CLIPS = (
    "It takes the clips of a speaker for independent of each other, which they are not: of systems that are alike it "
    "finds far more than 5 % different."
)
"""What is said of McNemar's test."""


@dataclass(frozen=True)
class Difference:
    """A system against the baseline.

    Attributes:
        name: Of the system.
        estimate: The metric of the system minus that of the baseline, folds pooled.
        p: Of the test that swaps whole speakers; None where there are too few, or clips were drawn.
        holm: The same, adjusted for all differences of its family.
        mcnemar: McNemar's p of each seed; none where it was not asked for.
        speakers: The difference of each speaker, where there are too few for an interval.
    """

    name: str
    estimate: Estimate
    p: float | None
    holm: float | None
    mcnemar: Sequence[float]
    speakers: Mapping[str, float]

    def words(self, measure: Measure) -> str:
        """The verdict: the difference, its interval, and whether the systems are told apart."""
        one, told = self.estimate, apart(self.estimate, self.holm)
        verdict = "" if told is None else ": apart" if told else ": not told apart"
        return f"{figure(measure, one.value, sign=True)} {measure.title}, {span(measure, one)}{verdict}"


def figure(measure: Measure, number: float, *, sign: bool = False) -> str:
    """A figure as it stands in an interval: with a decimal fewer than in a table."""
    scale, digits = measure.scale
    return f"{round(scale * number, digits - 1) + 0.0:{'+' * sign}.{digits - 1}f}"  # + 0.0: there is no -0.0


def span(measure: Measure, estimate: Estimate) -> str:
    """An interval in words, or why there is none."""
    if estimate.why:
        return f"no interval: {estimate.why}"
    return f"{PERCENT} {ends(measure, estimate)} by {estimate.size} {estimate.by}"


def apart_by_blanks(parts: Sequence[Sequence[str]]) -> list[str]:
    """The lines of parts that are not empty, with a blank line between two."""
    return [line for part in parts if part for line in ("", *part)][1:]


def differences(
    base: System, others: Sequence[System], measure: Measure, by: By, *, clips: bool = False
) -> tuple[list[Difference], dict[str, str]]:
    """Each system against the baseline.

    Args:
        base: The baseline.
        others: The systems. Those that can be compared with it are the family that Holm's adjustment is over.
        measure: The metric, one that confusion counts decide.
        by: What is drawn.
        clips: Whether McNemar's test is asked for.

    Returns:
        The differences, and why there is none of the other systems, by name.
    """
    units, clipwise, why = dict[str, Units](), dict[str, Sequence[float]](), dict[str, str]()
    for other in others:
        try:
            own = units_of([base, other], by).pooled
            clipwise[other.name] = mcnemar(units_of([base, other], "utterances")) if clips else ()
        except SertkError as error:
            why[other.name] = str(error)
        else:
            units[other.name] = own
    found = []
    for name, one in units.items():
        p = swap_test(one, measure.counted) if by == "speakers" else None
        estimate = estimates(one, {measure.name: measure.counted})[measure.name]
        few = by_speaker(one, measure.counted) if by == "speakers" and p is None else {}
        found.append(Difference(name, estimate, p, None, clipwise[name], few))
    return adjusted(found), why


def adjusted(found: Sequence[Difference]) -> list[Difference]:
    """The same as one family: with Holm's adjustment over all that have a p."""
    values = iter(holm([one.p for one in found if one.p is not None]))
    return [replace(one, holm=None if one.p is None else next(values)) for one in found]


@dataclass(frozen=True)
class Compared:
    """Systems beside each other, see `compared`.

    Attributes:
        intervals: Lines on the intervals of each system, or on why there are none.
        tests: Lines on the differences to the baseline; none of one system, or where nothing can be drawn.
        figures: By system and metric; none of a system that cannot be compared with the baseline.
        differences: Likewise.
    """

    intervals: Sequence[str]
    tests: Sequence[str] = ()
    figures: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()

    @property
    def lines(self) -> list[str]:
        """All of them."""
        return apart_by_blanks([self.intervals, self.tests])


def compared(systems: Sequence[System], base: System, measures: Measures, by: By, *, clips: bool = False) -> Compared:
    """The intervals of systems, and the difference of each to the baseline in UA, folds pooled, with their captions.

    Args:
        systems: Scored on the same utterances.
        base: One of them.
        measures: The metrics, that gave the figures.
        by: What is drawn.
        clips: Whether McNemar's test is asked for.
    """
    ua, others = measures["ua"], [one for one in systems if one is not base]
    try:
        units_of([base], by)
    except SertkError as error:
        who = f", as {base.name}, the baseline, has none" if others else ""
        return Compared([f"No intervals{who}: {error}"])
    found, why = differences(base, others, ua, by, clips=clips)
    pooled = {one.name: units_of([one], by).pooled for one in systems if one.name not in why}
    counted = {one.name: one for one in measures.shown if one.of_counts}
    every = {name: estimates(own, _statistics(counted)) for name, own in pooled.items()}
    lines = _intervals(every, counted) if not every[base.name]["ua"].why else _few(pooled, every[base.name]["ua"], ua)
    caption = _caption(pooled[base.name], [own["ua"] for own in every.values()])
    tests = apart_by_blanks(_against(base, found, ua)) if found else []
    lost = _untested(why, "No interval of", f", and no test against {base.name}")
    return Compared(apart_by_blanks([lines, caption, lost]), tests, every, found)


def against(base: System, others: Sequence[System], ua: Measure) -> list[str]:
    """The difference of each system to the baseline in UA, by speakers, with its caption.

    Args:
        base: The baseline.
        others: The systems.
        ua: The metric.
    """
    try:
        own = units_of([base]).pooled
    except SertkError as error:
        return [f"No tests against {base.name}: {error}"]
    found, why = differences(base, others, ua, "speakers")
    tests = [*_against(base, found, ua), _caption(own, [one.estimate for one in found])] if found else []
    return apart_by_blanks([*tests, _untested(why, "No test of", f" against {base.name}")])


def _untested(why: Mapping[str, str], before: str, after: str) -> list[str]:
    """The systems that cannot be compared with the baseline, a line a reason, with words around their names."""
    names: dict[str, list[str]] = {}
    for name, reason in why.items():
        names.setdefault(reason, []).append(name)
    return [f"{before} {', '.join(own)}{after}: {reason}" for reason, own in names.items()]


def _statistics(measures: Mapping[str, Measure]) -> dict[str, Statistic]:
    return {name: one.counted for name, one in measures.items()}


def _intervals(every: Mapping[str, Mapping[str, Estimate]], measures: Mapping[str, Measure]) -> list[str]:
    """A table of the intervals of all systems."""
    size, by = next((one.size, one.by) for own in every.values() for one in own.values())
    head = [f"{PERCENT} by {size} {by}", *(one.title for one in measures.values())]
    return markdown(
        head, [[name, *(ends(measures[word], one) for word, one in own.items())] for name, own in every.items()]
    )


def _few(pooled: Mapping[str, Units], estimate: Estimate, ua: Measure) -> list[str]:
    """Why there are no intervals, and a table of the UA of each speaker."""
    own = {name: by_speaker(units, ua.counted) for name, units in pooled.items()} if estimate.by == "speakers" else {}
    names = list(next(iter(own.values()), {}))
    body = [[name, *(figure(ua, values[speaker]) for speaker in names)] for name, values in own.items()]
    table = ["", *markdown([f"{ua.title} by speaker", *names], body)] if own else []
    return [f"No intervals: {estimate.why}.", *table]


def _against(base: System, found: Sequence[Difference], ua: Measure) -> list[list[str]]:
    """A table of the differences to the baseline, and what its columns are."""
    family = f"the {len(found)} systems that are compared with {base.name}" if len(found) > 1 else "one difference"
    return tested([((one.name,), one) for one in found], [f"{ua.title} minus that of {base.name}"], ua, family)


def tested(
    found: Sequence[tuple[Sequence[str], Difference]], heads: Sequence[str], ua: Measure, family: str
) -> list[list[str]]:
    """A table of differences, those of single speakers where they are few, and what the columns are.

    Args:
        found: What a row begins with, and its difference.
        heads: Of what the rows begin with.
        ua: The metric.
        family: What Holm's adjustment is over.
    """
    clips = any(one.mcnemar for _, one in found)
    sizes = [one.estimate.size for _, one in found if one.p is not None]
    head = [*heads, "difference", *["p", "p, Holm"] * bool(sizes), *["p, McNemar"] * clips]
    body = []
    for names, one in found:
        more = [_p(one.p), _p(one.holm)] * bool(sizes) + [", ".join(map(_p, one.mcnemar))] * clips
        body.append([*names, one.words(ua), *more])
    said = [_tests(sizes, family)] if sizes else []
    said += [f"McNemar's exact test, of each seed, is about WA. {CLIPS}"] * clips
    few = [f"- {', '.join(names)}: {_speakers(one, ua)}" for names, one in found if one.speakers]
    return [markdown(head, body), few, [" ".join(said)] if said else []]


def _speakers(one: Difference, ua: Measure) -> str:
    return ", ".join(f"{name} {figure(ua, number, sign=True)}" for name, number in one.speakers.items())


def _p(number: float | None) -> str:
    return "–" if number is None else "< 0.0001" if number < 0.00005 else f"{number:.4f}"


def _tests(sizes: Sequence[int], family: str) -> str:
    """What p is, of tests with so many speakers."""
    how = "all swaps were tried" if min(sizes) <= EXACT else f"{SWAPS:,} swaps were drawn"
    if min(sizes) <= EXACT < max(sizes):
        how += f", of more than {EXACT} speakers {SWAPS:,} were drawn"
    return (
        "Differences are of all folds pooled, not means of the folds. "
        f"p is of a test that swaps whole speakers between two systems ({how}); Holm's adjustment is over {family}. "
        f"Apart: the interval is on one side of 0, and Holm's p is at most {1 - LEVEL:.2f}."
    )


def report_lines(system: System, measures: Measures) -> list[str]:
    """The intervals of UA and WA of a system over speakers, pooled and of the mean of the folds, with their caption.

    Args:
        system: The system.
        measures: The metrics, that gave the figures.
    """
    try:
        folds = units_of([system])
    except SertkError as error:
        return [f"No intervals: {error}"]
    shown = {one.name: one for one in measures.shown if one.name in ("ua", "wa")}
    pooled, statistics = folds.pooled, _statistics(shown)
    whole, mean = estimates(pooled, statistics), estimates(folds, statistics)
    if whole["ua"].why:
        return _few({system.name: pooled}, whole["ua"], shown["ua"])
    count = len(folds.sizes)
    lines = [
        f"- {one.title}: pooled {figure(one, whole[name].value)}, {span(one, whole[name])}"
        + (f"; mean of {count} folds {figure(one, mean[name].value)}, {span(one, mean[name])}" * (count > 1))
        for name, one in shown.items()
    ]
    drawn = ", whole folds" if folds.sizes.max() == 1 else ", of the mean of the folds within folds"
    caption = _caption(folds, [whole["ua"], mean["ua"]], "" if count == 1 or mean["ua"].why else drawn)
    return apart_by_blanks([lines, caption])


def group_lines(system: System, measures: Measures) -> list[str]:
    """Recall by class, UA by each of `GROUPED`, the spread over speakers; nothing where `units_of` says why.

    Args:
        system: The system.
        measures: The metrics.
    """
    ua = measures["ua"]
    try:
        units = units_of([system]).pooled
    except SertkError:
        return []  # the intervals say why
    groups = {"recall of": by_class(system)}
    groups |= {word: by_group(system, word, ua.counted) for word in GROUPED}
    body = [
        [
            f"{word} {one.name}",
            str(one.size),
            figure(ua, one.estimate.value),
            ends(ua, one.estimate),
            str(one.estimate.size),
        ]
        for word, own in groups.items()
        for one in own
        if len(own) > 1
    ]
    head = ["recall of a class, UA of a group", "n", "percent", PERCENT, "speakers"]
    table, far = markdown(head, body) if body else [], spread(units)
    if far is None:
        return table
    said = (
        f"The speakers' UA have a standard deviation of {figure(ua, far.seen)}; without what chance adds, as each has"
    )
    return apart_by_blanks([table, [f"{said} few clips, it is {figure(ua, far.own)}."]])


def ends_of(system: System, measure: Measure) -> str:
    """The ends of the interval of a metric by speakers, folds pooled; a dash where there is none."""
    try:
        units = units_of([system]).pooled
    except SertkError:
        return "–"
    return ends(measure, estimates(units, {measure.name: measure.counted})[measure.name])


def ends(measure: Measure, estimate: Estimate) -> str:
    """The ends of an interval; a dash where there is none."""
    return "–" if estimate.why else " to ".join(figure(measure, end) for end in (estimate.low, estimate.high))


def validity(drawn: Sequence[Estimate], what: str = "seed") -> str:
    """What intervals hold for: whether the seeds were drawn, or `what` there were several of."""
    crossed = {one.seeds >= CROSSED for one in drawn}
    many, without = f"{what.capitalize()}s are drawn too, independently", f"how much another {what} would differ is not"
    if len(crossed) > 1:
        return (
            f"{many}, where {CROSSED} or more scored the same utterances; in the other intervals {without}. Beyond "
            "that they hold for these trained models."
        )
    if crossed == {True}:
        return f"{many}. Beyond that they hold for these trained models."
    return f"They hold for these trained models: {without} in them."


def _caption(units: Units, found: Sequence[Estimate], folds: str = "") -> list[str]:
    """What the intervals are, and what they are not; nothing where there are none.

    Args:
        units: Of a system.
        found: What the caption is of.
        folds: How the mean of the folds was drawn.
    """
    known = [one for one in found if not one.why]
    if not known:
        return []
    absent = max(one.absent for one in known)
    said = [f"Intervals are of {DRAWS:,} draws of {units.by} (percentiles, expanded by t){folds}.", validity(known)]
    if absent:
        said += [f"In {absent:,} of the draws a class had no utterance; it was left out of its mean."]
    if units.by == "utterances":
        said += [
            "The clips of a speaker are taken for independent of each other; they are not, so they are too narrow."
        ]
    return [" ".join(said)]
