"""The page of two or more systems: compare.html, one file that needs no network, and the figures in it for papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sertk.core import Scores, SertkError
from sertk.core.files import write_text
from sertk.corpus.prepared import Data
from sertk.results.figures import draw_beside, draw_differences, draw_groups, draw_pair
from sertk.results.groups import Group
from sertk.results.intervals import by_speaker
from sertk.results.listen import MOST, Heard, differing, located, surest
from sertk.results.markup import Block, blocks, left_out
from sertk.results.measures import Measures
from sertk.results.page import config_of, recalls, with_posterior
from sertk.results.sections import LeftOut, Section, Sections, write_sections
from sertk.results.systems import System
from sertk.results.tables import markdown
from sertk.results.uncertainty import Compared
from sertk.results.units import By, units_of
from sertk.settings.merge import read
from sertk.settings.plain import changed
from sertk.settings.values import setting_text

NAME, TEXT = "compare.html", "compare.md"
SHOWN = 6
"""Systems beside the baseline; of more the others stand in the tables alone."""
SAME = 1e-9
"""By which UA may differ in float64 and be the same."""


@dataclass(frozen=True)
class Comparison:
    """What is compared, and what is said of it as lines of Markdown.

    Attributes:
        systems: Scored on the same utterances.
        base: The baseline, one of them.
        by: What was drawn.
        table: The figures of the systems.
        legend: How the table was made.
        found: Intervals and differences.
        facts: Protocol, folds, failures, command, versions.
    """

    systems: Sequence[System]
    base: System
    by: By
    table: Sequence[str]
    legend: str
    found: Compared
    facts: Sequence[str]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.table, "", self.legend, "", *self.found.lines, "", *self.facts, ""])


def write_pair_page(place: Path, it: Comparison, measures: Measures, data: Data | None) -> Path:
    """Writes the page of some systems and the same as text, and its figures into figures/ beside it.

    Args:
        place: The folder.
        it: The systems, with what is said of them.
        measures: The metrics, that gave the figures.
        data: The corpus, for the sound; None leaves the ids alone.

    Returns:
        The path of the page.

    Raises:
        SertkError: If a file cannot be written.
    """
    title = f"Compared: {', '.join(one.name for one in it.systems)}"
    write_text(place / TEXT, f"# {title}\n\n{it.text}")
    sections = _Page(place, measures, it, data).sections()
    return write_sections(place / NAME, title, it.base.protocol, sections, command="sertk compare", text=TEXT)


@dataclass(frozen=True)
class _Page(Sections):
    """The sections of a page, see `write_pair_page`."""

    it: Comparison
    data: Data | None

    def sections(self) -> list[Section]:
        """All of them."""
        made = {
            ("figures", "Figures"): self._figures,
            ("differences", "Differences"): self._differences,
            ("speakers", "Speakers"): self._speakers,
            ("recall", "Recall by class"): self._recall,
            ("listen", "Listen"): self._listen,
            ("provenance", "Protocol, settings, versions"): self._provenance,
        }
        return self._each(made)

    @cached_property
    def _others(self) -> list[System]:
        """The systems that are drawn beside the baseline.

        Raises:
            LeftOut: If there are none.
        """
        found = [one for one in self.it.systems if one is not self.it.base]
        if not found:
            raise LeftOut("there is one system.")
        return found[:SHOWN]

    @cached_property
    def _drawn(self) -> list[System]:
        """The baseline and these, in their order."""
        chosen = {one.name for one in (self.it.base, *self._others)}
        return [one for one in self.it.systems if one.name in chosen]

    @cached_property
    def _more(self) -> list[str]:
        """That some systems are left out, if some are."""
        left = [one.name for one in self.it.systems if one not in self._drawn]
        said = f"The baseline and {SHOWN} others are drawn; in the tables alone: {', '.join(left)}."
        return [said] if left else []

    @cached_property
    def _read(self) -> dict[str, list[Scores]]:
        """The scores of the runs of the drawn systems with their posterior, which is read once."""
        return {one.name: [with_posterior(run) for run in one.runs] for one in self._drawn}

    def _figures(self, anchor: str, title: str) -> Section:
        it = self.it
        said = blocks([*it.table, "", *it.found.intervals, "", it.legend])
        if not it.found.figures:
            return Section(anchor, title, said)
        size = len(next(iter(it.base.seeds.values())).ids)  # the same of each
        groups = [Group(name, size, own["ua"]) for name, own in it.found.figures.items()]
        about = f"UA of each system{'' if groups[0].estimate.why else ' with its 95 % interval'}; folds are pooled."
        svg = draw_groups(self._stem("compare-ua"), groups, self._ua_axis)
        return Section(anchor, title, said, [self._drawing("compare-ua", about, svg)])

    def _differences(self, anchor: str, title: str) -> Section:
        found = self.it.found.differences
        if not (self._others and found):
            raise LeftOut("nothing can be drawn, see the figures above.")
        axis = f"{self.measures['ua'].title} minus that of {self.it.base.name}, points"
        ends = " with its 95 % interval" if not found[0].estimate.why else ""
        if ends and self.it.by == "speakers":  # intervals of clips are too narrow for a verdict
            ends += "; one that reaches over the dashed line does not tell the systems apart"
        about = f"UA of each system minus that of {self.it.base.name}{ends}."
        svg = draw_differences(self._stem("compare-differences"), {one.name: one.estimate for one in found}, axis)
        drawing = self._drawing("compare-differences", about, svg)
        return Section(anchor, title, blocks(self.it.found.tests), [drawing])

    def _speakers(self, anchor: str, title: str) -> Section:
        ua, others = self.measures["ua"], [one for one in self._others if one.name in self.it.found.figures]
        if not others:
            raise LeftOut("no system can be compared with the baseline, see the figures above.")
        try:
            every = {one.name: by_speaker(units_of([one]), ua.counted) for one in (self.it.base, *others)}
        except SertkError as error:
            raise LeftOut(error) from None
        base, made = self.it.base.name, []
        for number, name in enumerate((one.name for one in others), 1):
            change = [every[name][speaker] - value for speaker, value in every[base].items()]
            better, worse = sum(one > SAME for one in change), sum(one < -SAME for one in change)
            about = (
                f"UA of each of {len(change)} speakers, percent, the mean over seeds: above the dashed line {name} is "
                f"better than {base}. It is for {better} of them, worse for {worse} and the same for "
                f"{len(change) - better - worse}."
            )
            stem, titles = f"compare-speakers-{number}", (f"UA of {base}, percent", f"UA of {name}, percent")
            made.append(self._drawing(stem, about, draw_pair(self._stem(stem), every[base], every[name], titles)))
        return Section(anchor, title, blocks(self._more), made)

    def _recall(self, anchor: str, title: str) -> Section:
        groups, lacking, about = recalls(self._drawn, self.it.by)
        svg = draw_beside(self._stem("compare-recall"), groups, "recall, percent")
        said = [*blocks(self._more), *lacking]
        return Section(anchor, title, said, [self._drawing("compare-recall", about, svg)])

    def _listen(self, anchor: str, title: str) -> Section:
        base = self.it.base.name
        lists = {}
        for name in (one.name for one in self._others):
            lists[f"{name} is right, {base} is wrong"] = self._differing(name, right=True)
            lists[f"{base} is right, {name} is wrong"] = self._differing(name, right=False)
        said = f"At most {MOST} of each, first where both systems are sure. What both have right or wrong is not here."
        why = (
            [] if self.data else left_out("the sound. Give the prepared corpus: `sertk compare ... --data data/NAME`.")
        )
        return Section(anchor, title, [*blocks([said, *self._more]), *why], heard=lists)

    def _differing(self, name: str, *, right: bool) -> list[Heard]:
        """The utterances that a system has right and the baseline wrong, or the other way round."""
        base, other = self.it.base, next(one for one in self._others if one.name == name)
        theirs = {
            (run.fold, run.seed): (run, scores) for run, scores in zip(base.runs, self._read[base.name], strict=True)
        }
        every = [
            one
            for run, scores in zip(other.runs, self._read[name], strict=True)
            for one in differing(run, scores, *theirs[run.fold, run.seed], (name, base.name), right=right)
        ]
        kept = surest(every)
        return located(kept, self.data, self.place) if self.data else kept

    def _provenance(self, anchor: str, title: str) -> Section:
        return Section(anchor, title, [*blocks(self.it.facts), *self._settings()])

    def _settings(self) -> list[Block]:
        """The settings in which the systems differ."""
        try:
            known = {one.name: changed(read(path)) for one in self.it.systems if (path := config_of(one))}
        except SertkError as error:
            return left_out(f"the settings. {error}")
        lacking = [one.name for one in self.it.systems if one.name not in known]
        why = (
            left_out(f"the settings of {', '.join(lacking)}: no config.yaml lies beside the scores.") if lacking else []
        )
        names = dict.fromkeys(name for own in known.values() for name in own)
        rows = [
            [f"`{name}`", *(setting_text(own[name]) if name in own else "default" for own in known.values())]
            for name in names
            if any(own.get(name, ...) != next(iter(known.values())).get(name, ...) for own in known.values())
        ]
        table = blocks(["Settings in which the systems differ:", *markdown(["setting", *known], rows)]) if rows else []
        same = blocks(["The systems have the same settings."]) if not rows and len(known) > 1 else []
        return [*why, *table, *same]
