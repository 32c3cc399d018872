"""The page of a system: report.html, one file that needs no network, and the figures in it for papers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from sertk.core import Prediction, Scores, SertkError
from sertk.core.rows import coded
from sertk.corpus.prepared import Data
from sertk.results.calibration import BINS, brier, reliability
from sertk.results.figures import (
    draw_confusion,
    draw_epochs,
    draw_groups,
    draw_reliability,
    draw_speakers,
    percent_of_labels,
)
from sertk.results.groups import Group, by_class, by_group
from sertk.results.intervals import Estimate, by_speaker
from sertk.results.listen import MOST, best, chosen, located
from sertk.results.logs import training_of
from sertk.results.markup import Block, blocks, left_out
from sertk.results.measures import Measures
from sertk.results.runs import Run
from sertk.results.sections import LeftOut, Parts, Section, write_sections
from sertk.results.statistics import total_confusion
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.units import units_of
from sertk.settings.merge import read
from sertk.settings.plain import changed, dev_metric
from sertk.settings.values import setting_text

NAME = "report.html"
CONFIG = "config.yaml"


@dataclass(frozen=True)
class Texts:
    """What RESULTS.md says of a system, as lines of Markdown.

    Attributes:
        table: The figures of the runs, and sentences on what they lack.
        legend: What the figures are.
        intervals: Their intervals.
        groups: Figures by group; none if no speaker is known.
        facts: Protocol, command, versions.
    """

    table: Sequence[str]
    legend: str
    intervals: Sequence[str]
    groups: Sequence[str]
    facts: Sequence[str]


class Row(NamedTuple):
    """A row of the confusion matrix.

    Attributes:
        number: From 1 on.
        label: The class.
        cells: Count and percent of each decision.
        all: Utterances of the class.
    """

    number: int
    label: str
    cells: Sequence[Mapping[str, float]]
    all: int


def write_page(place: Path, system: System, texts: Texts, measures: Measures, data: Data | None) -> Path:
    """Writes the page of a system, and its figures into figures/ beside it.

    Args:
        place: The folder.
        system: The system.
        texts: What RESULTS.md says.
        measures: The metrics, that gave the figures.
        data: The corpus, for the sound; None leaves the ids alone.

    Returns:
        The path of the page.

    Raises:
        SertkError: If a file cannot be written.
    """
    page = _Page(place, measures, system, texts, data)
    words = {"command": "sertk report", "text": "RESULTS.md"}
    return write_sections(place / NAME, system.name, system.protocol, page.sections(), **words)


@dataclass(frozen=True)
class _Page(Parts):
    """The sections of a page, see `write_page`."""

    system: System
    texts: Texts
    data: Data | None

    def sections(self) -> list[Section]:
        """All of them. One that cannot be made says why."""
        made: Mapping[tuple[str, str], Callable[[str, str], Section]] = {
            ("figures", "Figures"): self._summary,
            ("confusion", "Confusion matrix"): self._confusion,
            ("recall", "Recall by class"): self._recall,
            ("speakers", "Speakers"): self._speakers,
            ("groups", "Groups"): self._groups,
            ("duration", "Duration"): self._duration,
            ("calibration", "Calibration"): self._calibration,
            ("training", "Training"): self._training,
            ("listen", "Listen"): self._listen,
            ("provenance", "Protocol, settings, versions"): self._provenance,
        }
        return [self._or_why(*names, make) for names, make in made.items()]

    @cached_property
    def _read(self) -> list[Scores]:
        """The scores of the runs with their posterior, which is read once."""
        return [with_posterior(run) for run in self.system.runs]

    def _summary(self, anchor: str, title: str) -> Section:
        texts = self.texts
        return Section(anchor, title, blocks([*texts.table, "", *texts.intervals, "", texts.legend]))

    def _confusion(self, anchor: str, title: str) -> Section:
        runs = self.system.runs
        draw_confusion(self._stem("confusion"), runs)
        classes, counts = runs[0].metrics["classes"], total_confusion(runs)
        rows = [
            Row(
                number,
                name,
                [{"count": count, "percent": percent} for count, percent in zip(own, shares, strict=True)],
                sum(own),
            )
            for number, (name, own, shares) in enumerate(
                zip(classes, counts.tolist(), percent_of_labels(counts).tolist(), strict=True), 1
            )
        ]
        return Section(anchor, title, confusion={"classes": classes, "rows": rows})

    def _recall(self, anchor: str, title: str) -> Section:
        try:
            groups, lacking = by_class(self.system), list[Block]()
        except SertkError as error:
            groups, lacking = without_speakers(self.system), left_out(f"the intervals. {error}")
        lacking = lacking or few(groups)
        about = f"Recall of each class{'' if lacking else ' with its 95 % interval'}; in brackets its utterances."
        svg = draw_groups(self._stem("recall"), groups, "recall, percent")
        return Section(anchor, title, lacking, [self._drawing("recall", about, svg)])

    def _speakers(self, anchor: str, title: str) -> Section:
        try:
            figures = by_speaker(units_of([self.system]), self.measures["ua"].counted)
        except SertkError as error:
            raise LeftOut(error) from None
        svg = draw_speakers(self._stem("speakers"), figures, _genders(self.system), self._ua_axis)
        about = f"UA of each of {len(figures)} speakers, the mean over seeds; dashed is the mean of the speakers."
        said = blocks([line for line in self.texts.groups if line.startswith("The speakers'")])
        return Section(anchor, title, said, [self._drawing("speakers", about, svg)])

    def _groups(self, anchor: str, title: str) -> Section:
        if not self.texts.groups:
            raise LeftOut("no speaker is known, see the figures above.")
        return Section(anchor, title, blocks([line for line in self.texts.groups if line.startswith("|")]))

    def _duration(self, anchor: str, title: str) -> Section:
        try:
            groups = by_group(self.system, "duration", self.measures["ua"].counted)
        except SertkError as error:
            raise LeftOut(error) from None
        known = [one for one in groups if one.name != "unknown"]
        if len(known) < 2:
            what = "all utterances are of one duration." if known else "the score lines have no durations."
            raise LeftOut(what)
        svg = draw_groups(self._stem("duration"), groups, self._ua_axis)
        about = "UA by duration, in quarters; in brackets the utterances."
        return Section(anchor, title, few(groups), [self._drawing("duration", about, svg)])

    def _calibration(self, anchor: str, title: str) -> Section:
        if not any(len(one.ids) for one in self._read):
            raise LeftOut("there is no utterance.")
        by_seed: dict[str, list[Scores]] = {}
        for run, scores in zip(self.system.runs, self._read, strict=True):
            by_seed.setdefault(run.seed, []).append(scores)
        seeds = [Scores.join(own) for own in by_seed.values()]
        errors, briers = ([measure(one) for one in seeds] for measure in (lambda one: reliability(one).error, brier))
        mean = ", mean over seeds" * (len(seeds) > 1)
        lines = [
            f"- expected calibration error over {BINS} bins of equal width{mean}: {statistics.fmean(errors):.4f} (0 is "
            "best)",
            f"- Brier score over all classes{mean}: {statistics.fmean(briers):.4f} (0 to 2, 0 is best)",
        ]
        svg = draw_reliability(self._stem("reliability"), reliability(Scores.join(self._read)))
        about = "Share of right decisions by the probability of the decision; on the dashed line both are the same."
        return Section(anchor, title, blocks(lines), [self._drawing("reliability", about, svg)])

    def _training(self, anchor: str, title: str) -> Section:
        try:
            found = training_of(self.system.runs)
            metric = "wa" if found and found.measured else _metric(self.system)
        except SertkError as error:
            raise LeftOut(error) from None
        if found is None:
            raise LeftOut("no run has a log.jsonl beside its scores.")
        known = next((one for one in self.measures.all if one.name == metric), None)
        scale, axis = (known.scale[0], known.title + known.suffix) if known else (1, metric or "dev score")
        score = {
            name: [[(epoch, scale * value) for epoch, value in points] for points in runs]
            for name, runs in found.score.items()
        }
        every = len(self.system.runs)
        which = f"{found.runs} of {every} runs" if found.runs < every else f"{every} runs" if every > 1 else "one run"
        how = "" if found.measured else " The loss of train is the mean of an epoch, while the model learned."
        said = [f"A thin line is a run (of {which}), a thick one the mean of the runs that reached the epoch.{how}"]
        parts = [("loss", "Loss", found.loss, "loss"), ("score", axis, score, axis)]
        made = [
            self._drawing(name, f"{what} by epoch.", draw_epochs(self._stem(name), curves, label))
            for name, what, curves, label in parts
            if curves
        ]
        said += [] if score else ["Left out: a dev score. The runs had no dev part."]
        return Section(anchor, title, blocks(said), made)

    def _listen(self, anchor: str, title: str) -> Section:
        lists = {}
        for right, heading in ((False, "The surest wrong decisions"), (True, "The least sure right decisions")):
            every = [
                one
                for run, scores in zip(self.system.runs, self._read, strict=True)
                for one in chosen(run, scores, right=right)
            ]
            kept = best(every, right=right)
            lists[heading] = located(kept, self.data, self.place) if self.data else kept
        said = f"At most {MOST} of each. Where a decision is sure and wrong, the label may be wrong."
        why = [] if self.data else left_out("the sound. Give the prepared corpus: `sertk report ... --data data/NAME`.")
        return Section(anchor, title, [*blocks([said]), *why], heard=lists)

    def _provenance(self, anchor: str, title: str) -> Section:
        return Section(anchor, title, [*blocks(self.texts.facts), *self._settings()])

    def _settings(self) -> list[Block]:
        """The settings that are not at their default."""
        path = config_of(self.system)
        if path is None:
            return left_out(f"the settings. No run has a {CONFIG} beside its scores.")
        try:
            found = changed(read(path))
        except SertkError as error:
            return left_out(f"the settings. {error}")
        if not found:
            return blocks(["All settings are at their defaults."])
        body = [[f"`{name}`", setting_text(value)] for name, value in found.items()]
        return blocks(["Settings that differ from the defaults:", *markdown(["setting", "value"], body)])


def with_posterior(run: Run) -> Scores:
    """The scores of a run with the posterior in memory, and without logits."""
    posterior = run.scores.prediction.column("posterior")
    return replace(run.scores, prediction=Prediction(posterior, posterior[:, :0]))


def without_speakers(system: System) -> list[Group]:
    """The recall of each class that occurs, without intervals."""
    counts = total_confusion(system.runs)
    found = zip(system.runs[0].metrics["classes"], counts.sum(1).tolist(), counts.diagonal().tolist(), strict=True)
    seeds = len(system.by_seed)
    return [
        Group(name, size // seeds, Estimate(right / size, 0, 0, "speakers", 0, why="no speaker is known"))
        for name, size, right in found
        if size
    ]


def few(groups: Sequence[Group]) -> list[Block]:
    """Why groups have no interval, if some have none."""
    lacking = {one.estimate.why: one.name for one in groups if one.estimate.why}
    return [block for why, name in lacking.items() for block in left_out(f"the interval of {name}: {why}.")]


def _genders(system: System) -> dict[str, str | None]:
    """The gender of each speaker."""
    scores = next(iter(system.seeds.values()))
    (speaker, names), (gender, genders) = coded(scores.speaker), coded(scores.gender)
    pairs = torch.unique(speaker * len(genders) + gender).tolist()
    return {str(names[pair // len(genders)]): genders[pair % len(genders)] for pair in pairs}


def config_of(system: System) -> Path | None:
    """The settings of the first run that has them."""
    return next((path for run in system.runs if (path := run.folder / CONFIG).exists()), None)


def _metric(system: System) -> str:
    """The name of the metric that dev scores are of; "" if nothing says it."""
    path = config_of(system)
    return dev_metric(read(path)) if path else ""
