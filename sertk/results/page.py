"""The page of a system: report.html, one file that needs no network, and the figures in it for papers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sertk.core import Prediction, Scores, SertkError
from sertk.core.files import embeddings_file
from sertk.core.rows import coded
from sertk.corpus.audit_page import body
from sertk.corpus.prepared import Data
from sertk.results.calibration import BINS, brier, decided_at, reliability
from sertk.results.figures import (
    draw_confusion,
    draw_coverage,
    draw_epochs,
    draw_groups,
    draw_plane,
    draw_reliability,
    draw_speakers,
    percent_of_labels,
)
from sertk.results.groups import Group, by_class, by_group
from sertk.results.intervals import Estimate, by_speaker
from sertk.results.listen import LONGEST, MOST, best, chosen, embedded, located
from sertk.results.logs import training_of
from sertk.results.markup import Block, blocks, left_out
from sertk.results.measures import Measures
from sertk.results.planes import DRAWN, KEEP, parts_of, planes
from sertk.results.runs import Run
from sertk.results.sections import Drawing, LeftOut, Section, Sections, write_sections
from sertk.results.statistics import total_confusion
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.units import By, units_of
from sertk.settings.merge import read
from sertk.settings.plain import changed, dev_metric
from sertk.settings.values import setting_text

NAME = "report.html"
CONFIG = "config.yaml"
COVERAGE = range(5, 101)
"""Percent of the utterances that are decided, as they are drawn: of fewer a single one decides the figure."""
TABLE = (100, 90, 80, 70, 50)
"""Those that stand in the table."""
GIVE = "Give the prepared corpus: `sertk report ... --data data/NAME`."
FOLDS = 50
"""With more folds than this, the audit on the page has no table of them."""
TWO_LOSSES = (
    "The loss of train is the objective, the mean of an epoch while the model learned; that of dev is the negative "
    "log-probability of its labels. The two are alike only where cross-entropy is all that is trained; with "
    "train.curves both are the objective."
)


@dataclass(frozen=True)
class Texts:
    """What RESULTS.md says of a system, as lines of Markdown.

    Attributes:
        table: The figures of the runs, and sentences on what they lack.
        legend: What the figures are.
        intervals: Their intervals.
        groups: Figures by group, and the spread over speakers; nothing where `units_of` says why.
        facts: Protocol, command, versions.
        people: Agreement with annotators; nothing where there are no votes.
    """

    table: Sequence[str]
    legend: str
    intervals: Sequence[str]
    groups: Sequence[str]
    facts: Sequence[str]
    people: Sequence[str] = ()


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


def write_page(
    place: Path, system: System, texts: Texts, measures: Measures, data: Data | None, *, embed: bool = False
) -> Path:
    """Writes the page of a system, and its figures into figures/ beside it.

    Args:
        place: The folder.
        system: The system.
        texts: What RESULTS.md says.
        measures: The metrics, that gave the figures.
        data: The corpus, for the sound and the audit; None leaves the ids alone.
        embed: Whether excerpts of the sound are in the page, and not links to files.

    Returns:
        The path of the page.

    Raises:
        SertkError: If a file cannot be written.
    """
    page = _Page(place, measures, system, texts, data, embed)
    words = {"command": "sertk report", "text": "RESULTS.md"}
    return write_sections(place / NAME, system.name, system.protocol, page.sections(), **words)


@dataclass(frozen=True)
class _Page(Sections):
    """The sections of a page, see `write_page`."""

    system: System
    texts: Texts
    data: Data | None
    embed: bool

    def sections(self) -> list[Section]:
        """All of them."""
        made = {
            ("figures", "Figures"): self._summary,
            ("confusion", "Confusion matrix"): self._confusion,
            ("recall", "Recall by class"): self._recall,
            ("speakers", "Speakers"): self._speakers,
            ("groups", "Groups"): self._groups,
            ("duration", "Duration"): self._duration,
            **({("people", "Annotators"): self._people} if self.texts.people else {}),
            ("calibration", "Calibration"): self._calibration,
            ("training", "Training"): self._training,
            ("embeddings", "Embeddings"): self._embeddings,
            ("listen", "Listen"): self._listen,
            ("audit", "Audit of the protocol"): self._audit,
            ("provenance", "Protocol, settings, versions"): self._provenance,
        }
        return self._each(made)

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
        groups, lacking, about = recalls([self.system])
        svg = draw_groups(self._stem("recall"), groups[self.system.name], "recall, percent")
        return Section(anchor, title, lacking, [self._drawing("recall", about, svg)])

    def _speakers(self, anchor: str, title: str) -> Section:
        try:
            figures = by_speaker(units_of([self.system]), self.measures["ua"].counted)
        except SertkError as error:
            raise LeftOut(error) from None
        svg = draw_speakers(self._stem("speakers"), figures, _genders(self.system), self._ua_axis)
        about = f"UA of each speaker (of {len(figures)}), the mean over seeds; dashed is the mean of the speakers."
        said = blocks([line for line in self.texts.groups if line.startswith("The speakers'")])
        return Section(anchor, title, said, [self._drawing("speakers", about, svg)])

    def _groups(self, anchor: str, title: str) -> Section:
        try:
            units_of([self.system])
        except SertkError as error:
            raise LeftOut(error) from None
        table = [line for line in self.texts.groups if line.startswith("|")]
        if not table:
            raise LeftOut("all utterances are of one class, gender, session, intensity and duration.")
        return Section(anchor, title, blocks(table))

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
        return Section(anchor, title, _few(groups), [self._drawing("duration", about, svg)])

    def _calibration(self, anchor: str, title: str) -> Section:
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
        lines += _temperatures(self.system.runs)
        every = Scores.join(self._read)
        svg = draw_reliability(self._stem("reliability"), reliability(every))
        about = "Share of right decisions by the probability of the decision; on the dashed line both are the same."
        said, drawing = self._coverage(every)
        return Section(anchor, title, blocks([*lines, *said]), [self._drawing("reliability", about, svg), drawing])

    def _coverage(self, scores: Scores) -> tuple[list[str], Drawing]:
        """How many decisions are right where the model abstains from the others: a table, and the figure."""
        found, counts = decided_at(scores, COVERAGE)
        ua, wa = (self.measures[name].counted(counts) for name in ("ua", "wa"))
        rows = [COVERAGE.index(percent) for percent in TABLE]
        points = torch.stack([found.coverage, ua, wa], 1)[rows].mul(100).tolist()
        thresholds = found.threshold[rows].tolist()
        body = [
            [f"{percent} %", f"{share:.1f} %", f"{least:.6f}", f"{one:.2f}", f"{other:.2f}"]
            for percent, least, (share, one, other) in zip(TABLE, thresholds, points, strict=True)
        ]
        lines = [
            "If the model may abstain, it decides its surest utterances alone; equal probabilities stay together:",
            *markdown(["coverage, at least", "decided", "posterior, at least", "UA", "WA"], body),
            *_never_decided(scores, counts[rows]),
        ]
        svg = draw_coverage(self._stem("coverage"), found.coverage, {"UA": ua, "WA": wa})
        about = "UA and WA of the surest decisions, by the share of the utterances that is decided."
        return lines, self._drawing("coverage", about, svg)

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
        how = "" if found.measured else f" {TWO_LOSSES}"
        said = [f"A thin line is a run (of {which}), a thick one the mean of the runs that reached the epoch.{how}"]
        parts = [("loss", "Loss", found.loss, "loss"), ("score", axis, score, axis)]
        made = [
            self._drawing(name, f"{what} by epoch.", draw_epochs(self._stem(name), curves, label))
            for name, what, curves, label in parts
            if curves
        ]
        said += [] if score else ["Left out: a dev score. The runs had no dev part."]
        return Section(anchor, title, blocks(said), made)

    def _embeddings(self, anchor: str, title: str) -> Section:
        run = next((one for one in self.system.runs if embeddings_file(one.folder / one.lines).exists()), None)
        if run is None:
            raise LeftOut(f"no embeddings lie beside the scores. {KEEP.format('')}")
        try:
            parts, lacking = parts_of(run)
            made = planes(parts)
        except SertkError as error:
            raise LeftOut(error) from None
        said = [
            f"A point is an utterance, its colour the label. All are of one run (fold {run.fold}, seed {run.seed}): "
            "each model has a space of its own. t-SNE shows which utterances are neighbours; the size of a group, and "
            "how far two groups are apart, mean little. The axes of PCA are the two directions of the largest variance."
        ]
        if any(len(part.rows) < part.all for part in parts):
            said.append(f"Of a part {DRAWN:,} utterances are drawn by chance, with a seed.")
        classes = run.metrics["classes"]
        drawings = [self._drawing(one.name, one.about, draw_plane(self._stem(one.name), one, classes)) for one in made]
        return Section(anchor, title, [*blocks(said), *(left_out(lacking) if lacking else [])], drawings)

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
        said = [f"At most {MOST} of each. Where a decision is sure and wrong, the label may be wrong."]
        if self.data and self.embed:
            lists, held = embedded(lists, self.data)
            whole = sum(map(len, lists.values()))
            said += [f"The page holds the first {LONGEST:g} s at most of {held} of {whole} utterances."]
        why = [] if self.data else left_out(f"the sound. {GIVE}")
        return Section(anchor, title, [*blocks(said), *why], heard=lists)

    def _people(self, anchor: str, title: str) -> Section:
        return Section(anchor, title, blocks(self.texts.people))

    def _audit(self, anchor: str, title: str) -> Section:
        if self.data is None:
            raise LeftOut(GIVE)
        try:
            found = self.data.audit(self.system.runs[0].metrics["protocol"])
        except SertkError as error:
            raise LeftOut(error) from None
        said = "The protocol declares all that two parts share: `sertk prepare` refuses anything else."
        return Section(anchor, title, blocks([*body(found, FOLDS), said]))

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


def recalls(systems: Sequence[System], by: By = "speakers") -> tuple[dict[str, list[Group]], list[Block], str]:
    """The recall of each class by system, why intervals are left out if some are, and the caption of the figure."""
    try:
        groups = {one.name: by_class(one, by) for one in systems}
        lacking = _few(next(iter(groups.values())))
    except SertkError as error:
        groups, lacking = {one.name: _alone(one) for one in systems}, left_out(f"the intervals. {error}")
    about = f"Recall of each class{'' if lacking else ' with its 95 % interval'}; in brackets its utterances."
    return groups, lacking, about


def _alone(system: System) -> list[Group]:
    """The recall of each class that occurs, without intervals."""
    counts, once = total_confusion(system.runs), {run.fold: run for run in system.runs}  # seeds may lack folds
    sizes = total_confusion(list(once.values())).sum(1).tolist()
    recall = (counts.diagonal() / counts.sum(1)).tolist()
    return [
        Group(name, size, Estimate(right, 0, 0, "speakers", 0, why="see the sentence on the intervals"))
        for name, size, right in zip(system.runs[0].metrics["classes"], sizes, recall, strict=True)
        if size
    ]


def _temperatures(runs: Sequence[Run]) -> list[str]:
    """What the logits of runs are divided by, if anything, as a point of a list."""
    found = [run.trained.get("temperature", 1.0) for run in runs]
    if set(found) == {1.0}:
        return []
    of = f", mean of {len(found)} runs ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
    return [f"- temperature that divides the logits{of}: {statistics.fmean(found):.3f}"]


def _never_decided(scores: Scores, counts: Tensor) -> list[str]:
    """A sentence for each coverage of the table at which a class has no utterance that is decided.

    Args:
        scores: All utterances.
        counts: (5, C, C) what is decided.
    """
    lacking = (scores.confusion.sum(1) > 0) & (counts.sum(2) == 0)  # (5, C)
    names = [[name for name, gone in zip(scores.classes, row, strict=True) if gone] for row in lacking.tolist()]
    return [
        f"At {percent} % no utterance of {', '.join(own)} is decided, and UA is the mean of the other classes."
        for percent, own in zip(TABLE, names, strict=True)
        if own
    ]


def _few(groups: Sequence[Group]) -> list[Block]:
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
