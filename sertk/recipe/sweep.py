"""A sweep as recipes: one for each row at each point of its grid, their steps put together."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from sertk.console.progress import say
from sertk.core import SertkError, UsageError, nearest
from sertk.corpus.features import Store
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import YAML
from sertk.recipe import search as searching
from sertk.recipe.find import recipe_file
from sertk.recipe.freshness import Step
from sertk.recipe.plan import Ask, Plan, anywhere, seeds_in
from sertk.results.sweeps import Line
from sertk.settings import sweep as files
from sertk.settings.overrides import Choices
from sertk.settings.packaged import egs
from sertk.settings.schema import Component, Settings
from sertk.settings.sweep import Point, Sweep, words
from sertk.settings.values import value_text

STAGES = ("prepare", "featurize", "train", "score")


def sweep_files(name: str) -> list[Path]:
    """The files of a sweep: of its path, of RECIPE/NAME, or all recipes' of that NAME.

    Raises:
        UsageError: If there is no such sweep; the nearest name is proposed.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return [path]
    known = {f"{one.parents[1].name}/{one.stem}": one for one in sorted(egs().glob("*/sweeps/*.yaml"))}
    found = [one for word, one in known.items() if name in (word, one.stem)]
    if not found:
        raise UsageError(f"no sweep {name!r} (a YAML file, or RECIPE/NAME){nearest(name, known)}")
    return found


class SweepPlan:
    """A sweep with what the user asked of it, as steps. Nothing is run here.

    Args:
        path: The sweep's file.
        ask: What the user asked; its choices lie above the settings of every row.
        rows: The rows that are run; all where empty.
        recipe: Another recipe to run it over.

    Raises:
        UsageError: On what is wrong in the file or with a row's settings, with file and line, or a row of no name.
    """

    def __init__(self, path: Path, ask: Ask, rows: Sequence[str] = (), recipe: str | None = None) -> None:
        self.path, self.ask, self._rows, self._other = path.resolve(), ask, rows, recipe
        named = [*ask.choices.overrides(), *["losses"] * bool(ask.choices.loss)]
        if ask.choices.system or "system" in named:
            raise UsageError(
                "--system is an option of a recipe; the rows of a sweep name their systems. Choose rows with --row."
            )
        self.sweep: Sweep = files.load(path)
        own = self.path.parent / self.sweep.recipe
        chosen = {row: search for row, search in self.sweep.searched.items() if not rows or row in rows}
        varied = [*self.sweep.swept, *(name for one in chosen.values() for name in one.ranges)]
        twice = next((name for name in named for one in varied if files.same(name, one)), None)
        if twice:
            raise UsageError(f"{twice} is swept by {path}, and the command line sets it. Leave it out, or choose rows.")
        if recipe is None and not own.exists():
            place = files.place_of(path, "recipe") or f"{path}: "
            raise UsageError(f"{place}its recipe, {own}, is missing. Give `recipe: FILE` in it, or --recipe RECIPE.")
        self._recipe = recipe_file(recipe or str(own)).resolve()
        self._own = recipe_file(str(own)) if own.exists() else self._recipe  # a file outside of a recipe's folder
        self._stores: dict[str, list[Store]] = {}
        trained = files.rows_of(self.sweep, rows)
        self.bases = [
            (point, self._plan(point, self._ask(point))) for point in self.sweep.points if point.row in trained
        ]
        self.jobs = self.base.jobs
        self.searches = {
            point.row: searching.places(self.path, point, search, base, self.out)
            for point, base in self.bases
            if (search := self.sweep.rows[point.row].search)
        }
        self.plans = [
            (point, plan)
            for point, base in self.bases
            for plan in (self._found(point) if point.row in self.searches else [base])
        ]
        self._check_scoring()

    def _check_scoring(self) -> None:
        """Refuses rows that are the same runs and differ in how these are scored: the scores would be one row's.

        Raises:
            UsageError: There; it names the row.
        """
        first: dict[Path, list[str]] = {}
        for point, plan in self.plans:
            if first.setdefault(plan.system, plan.scoring) != plan.scoring:
                raise UsageError(
                    f"row {point.row!r} of {self.path.name} is the runs of a row above, scored in another way "
                    f"(score.*, train.device), and both write to {plan.system}. "
                    "Make two sweeps, each with its own --work."
                )

    def check_curves(self) -> None:
        """Refuses a cell over epochs of a row whose runs would measure nothing after them.

        Raises:
            UsageError: There.
        """
        title = next((title for title, cell in self.sweep.cells.items() if cell.epochs is not None), None)
        row = next((point.row for point, plan in self.bases if not plan.settings.train.curves), None)
        if title is not None and row is not None:
            raise UsageError(
                f"{files.place_of(self.path, f'cells.{title}')}cell {title!r} is over epochs, and row {row!r} has "
                "train.curves: false, so nothing is measured after each. Give settings: {train: {curves: true}}."
            )

    def again(self) -> SweepPlan:
        """The same sweep, with what its searches have found since."""
        return SweepPlan(self.path, self.ask, self._rows, self._other)

    @property
    def base(self) -> Plan:
        """The first of its recipes."""
        return self.bases[0][1]

    def steps(self, stage: str) -> list[Step] | None:
        """The steps of a stage, each once; None if they depend on a corpus that is not prepared yet.

        Raises:
            UsageError: Where two rows would write different files to one place.
        """
        found: dict[Path, Step] = {}
        for point, plan in self.bases if stage in ("prepare", "featurize") else self.plans:
            steps = self.steps_of(point, plan, stage)
            if steps is None:
                return None
            for step in steps:
                if found.setdefault(step.stamp, step).settings != step.settings:
                    raise UsageError(
                        f"row {point.row!r} of {self.path.name} needs {stage} with other settings than a row above, "
                        f"and both write to {step.stamp.parent}. Make two sweeps, each with its own --work."
                    )
        return list(found.values())

    def check_only(self) -> None:
        """Refuses cells of speakers, genders or sessions that the corpus has not, once it is prepared.

        Where less is here than is published they may be among what is missing, and it is said.

        Raises:
            UsageError: There.
        """
        only = [(title, *one) for title, cell in self.sweep.cells.items() for one in cell.only.items()]
        if not only:
            return
        data = [Data(folder) for folder in dict.fromkeys(plan.folds_file.parents[1] for _, plan in self.bases)]
        for title, what, values in only:
            known = {getattr(one, what) for own in data for one in own.utterances.values()} - {None, "unknown"}
            lacking = [value for value in values if value not in known]
            wrong = f"cell {title!r} is of {what} {', '.join(lacking)}, and no utterance of {self.corpus} is"
            if lacking and not any(one.partial for one in data):
                place = files.place_of(self.path, f"cells.{title}")
                raise UsageError(f"{place}{wrong}{nearest(lacking[0], known)}")
            if lacking:
                say(f"{wrong}, of which a part is missing here")

    def steps_of(self, point: Point, plan: Plan, stage: str) -> list[Step] | None:
        """The steps of a stage of one recipe; None if they depend on a corpus that is not prepared yet."""
        steps = plan.steps(stage)
        if steps and stage == "train" and point.row in self.searches:
            # where its search finds other settings a run is the same one, out of date, and is done again
            return [step._replace(settings=[point.row], reads=[step.reads, step.settings]) for step in steps]
        return steps

    @property
    def search_steps(self) -> list[Step]:
        """The steps of the searches; none of folds that are not known yet."""
        bases = {point.row: base for point, base in self.bases}
        every = [(place, bases[row]) for row, places in self.searches.items() for place in places]
        return [searching.step_of(self.path, place, base) for place, base in every]

    def every(self) -> list[Step]:
        """The steps of all stages that are known."""
        return [step for stage in STAGES for step in self.steps(stage) or ()]

    @property
    def out(self) -> Path:
        """The folder of the table."""
        return self.base.work / "exp" / "sweeps" / self.path.stem

    @property
    def files(self) -> list[Path]:
        """The plugin files of all rows, with the trusted ones of the recipe."""
        return list(dict.fromkeys(Path(file) for _, plan in self.bases for file in plan.settings.plugins))

    @property
    def corpus(self) -> str:
        """The title of the corpus."""
        return self.base.title

    @cached_property
    def lines(self) -> list[Line]:
        """The rows of the table, with the runs that each is made of."""
        made: dict[str, list[Line]] = {
            name: [Line(name, {}, None, (), "")] for name, row in self.sweep.rows.items() if not row.trained
        }
        for point, plan in self.bases:
            own = self.searches.get(point.row)
            system = plan.system.with_name(files.system_name(self.path, point.row)) if own is not None else plan.system
            line = Line(point.row, point.swept, system, tuple(plan.places), self._elsewhere(point, plan))
            made.setdefault(point.row, []).append(line)
        return [line for name in self.sweep.rows for line in made.get(name, ())]

    @property
    def notes(self) -> list[str]:
        """The settings of the runs that are not in the file."""
        plan = self.base
        asked = [anywhere(word) for word in (*self.ask.choices.words(), *self._words(work=False))]
        known, run = plan.folds or [], list(dict.fromkeys(fold for fold, _ in plan.places))
        folds = [f"folds {', '.join(run)} of the {len(known)} of {plan.protocol}"] if len(run) < len(known) else []
        return [*folds, *self._searched(), *([f"asked for with `{shlex.join(asked)}`"] if asked else [])]

    def _searched(self) -> Iterator[str]:
        """What there is to know of the searches, by row."""
        for point, base in self.bases:
            search, row = self.sweep.rows[point.row].search, point.row
            if search is not None:
                found = [plan for other, plan in self.plans if other.row == row]
                said = searching.notes(search, base, found, len(self.searches[row]))
                yield from (f"{row}: {note}" for note in said)

    def command(self) -> list[str]:
        """The words of the command that makes the table of the runs that are done."""
        work = ["--work", str(self.ask.work.resolve())] if self.ask.work else []
        plugin = [word for file in self.ask.choices.plugin for word in ("--plugin", str(file))]
        trust = ["--trust"] if self.ask.choices.trust else []
        return ["sweep", str(self.path), *self._words(), *work, *plugin, *trust, *self.ask.choices.words(), "--table"]

    def _words(self, *, work: bool = True) -> list[str]:
        recipe = ["--recipe", str(self._recipe) if work else self._recipe.parent.name] if self._other else []
        listed = (("row", self._rows), ("fold", self.ask.folds), ("seed", self.ask.seeds))
        return [*recipe, *(word for name, values in listed for one in values for word in (f"--{name}", one))]

    def _ask(self, point: Point) -> Ask:
        """What is asked of the runs of a point."""
        sweep, given, own = self.sweep, self.ask, list(map(str, self.sweep.seeds))
        return replace(
            given,
            folds=given.folds or sweep.folds,
            seeds=[seed for text in given.seeds or own for seed in seeds_in(text, own)] if own else given.seeds,
            parts=sweep.parts,
            choices=self._choices(point, given.choices),
        )

    def _found(self, point: Point) -> list[Plan]:
        """A recipe for each system file that the searches of a row have written."""
        asks = [searching.asked_of(one, self._ask(point)) for one in self.searches[point.row] if one.system.exists()]
        return [self._plan(point, ask) for ask in asks]

    def ends(self) -> list[tuple[Point, Plan]]:
        """Each searched row at both ends of each range, and with each choice."""
        return [
            (point, self._plan(point, self._ask(point._replace(swept={name: value}))))
            for point, _ in self.bases
            if (search := self.sweep.rows[point.row].search)
            for name, one in search.ranges.items()
            for value in one.ends
        ]

    def _plan(self, point: Point, ask: Ask) -> Plan:
        try:
            return Plan(self._recipe, ask, self._stores)
        except SertkError as error:
            raise type(error)(f"row {point.row!r} of {self.path.name}: {error}") from error

    def _choices(self, point: Point, above: Choices) -> Choices:
        """The settings of a row as options of a command, under what the user chose."""
        row = self.sweep.rows[point.row]
        layers = (words(self.sweep.settings), words(row.settings), dict(point.swept))
        own = _layered([*layers, above.overrides()])
        kept = {name: value for name, value in own.items() if name not in above.overrides()}
        texts = [f"{name}={value_text(value)}" for name, value in kept.items()]
        return replace(above, system=row.system, set=[*texts, *above.set])

    def _elsewhere(self, point: Point, plan: Plan) -> str:
        """How the runs of a point differ from the paper's: in corpus, protocol, encoder."""
        paper, trust = self.sweep.paper, self.ask.choices.trust
        plain = Choices(plugin=self.ask.choices.plugin, trust=trust)
        own = self._choices(point, plain).load(self._own)
        theirs = {
            "corpus": paper.corpus or _corpus(own),
            "protocol": paper.protocol or Path(own.protocol or "").stem,
            "encoder": _encoder(paper.backbone or own.backbone),
        }
        ours = {
            "corpus": _corpus(plan.settings),
            "protocol": plan.protocol,
            "encoder": _encoder(plan.settings.backbone),
        }
        other = [what for what, value in theirs.items() if value != ours[what]]
        if "corpus" in other and "protocol" in other:  # another corpus has its own protocols
            other.remove("protocol")
        return ", ".join(f"another {what}" for what in other)


def _corpus(settings: Settings) -> str:
    """What a corpus is called: a table's by its title, one of a file by the name of the file."""
    spec = settings.corpus or Component("")
    path = Path(spec.name)
    return str(spec.settings.get("title") or (path.stem if path.suffix in YAML else spec.name))


def _encoder(spec: Component) -> tuple[str, str]:
    """Name and checkpoint; a local copy of a checkpoint has the last part of its name."""
    return spec.name, Path(str(spec.settings.get("source"))).name


def _layered(layers: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Settings by dotted name, each layer over those before: a group that is given whole replaces its parts."""
    found: dict[str, object] = {}
    for layer in layers:
        for name, value in layer.items():
            found = {one: old for one, old in found.items() if one != name and not one.startswith(f"{name}.")}
            found[name] = value
    return found
