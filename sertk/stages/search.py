"""The search of a row of a sweep: trials of settings, compared on dev -> a system file with the best of them."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from sertk.console.progress import say
from sertk.core import SertkError, UsageError
from sertk.core.errors import some
from sertk.core.files import digest, part_of, sentence, write_text
from sertk.corpus.prepared import Data
from sertk.corpus.protocols import Folds
from sertk.plugins import Plugins
from sertk.results.measures import Measure
from sertk.settings import merge
from sertk.settings.overrides import Choices
from sertk.settings.plain import difference, identity, plain, run_part
from sertk.settings.schema import Component, Searched, Settings
from sertk.settings.several import folds_of
from sertk.settings.sweep import Search
from sertk.settings.values import value_text
from sertk.training import distributed
from sertk.training.assemble import Shared, share
from sertk.training.loss import with_losses
from sertk.training.run import make_runs
from sertk.training.run_folder import PrunedError
from sertk.training.study import Study, Trial, check, clear

WAIT = 1.0
"""Seconds between two looks whether the trials of other processes have ended."""


@dataclass(frozen=True)
class Asked:
    """What is searched.

    Attributes:
        choices: Options of the system before the search.
        config: The recipe.
        protocol: By name; None for the only one.
        data: A prepared and featurized corpus.
        search: The ranges, and how they are searched.
        name: Of the system file.
        folds: The folds whose dev is looked at, see `folds_of`.
        seed: Of the runs.
    """

    choices: Choices
    config: Path | None
    protocol: str | None
    data: Data
    search: Search
    name: str
    folds: str
    seed: int

    @property
    def overrides(self) -> dict[str, object]:
        """What of the command line lies above a system."""
        return {} if self.protocol is None else {"protocol": self.protocol}

    def settings(self, words: Sequence[str] = ()) -> Settings:
        """The settings with some values, as `--set` takes them; the losses that the command line names are in them."""
        loaded = replace(self.choices, set=[*self.choices.set, *words]).load(self.config, self.overrides)
        return with_losses(self.plugins, loaded, self.choices.losses())[0]

    @cached_property
    def base(self) -> Settings:
        """The settings before the search."""
        return self.settings()

    @cached_property
    def plugins(self) -> Plugins:
        """The registry."""
        return Plugins(files=self.choices.load(self.config, self.overrides).plugins)

    @cached_property
    def folds_table(self) -> Folds:
        """The protocol."""
        return self.data.protocol(self.base.protocol)

    @cached_property
    def chosen(self) -> list[str]:
        """The folds whose dev is looked at, by name."""
        return folds_of(self.folds, list(self.folds_table.folds))

    @cached_property
    def stands(self) -> dict[str, object] | None:
        """The settings before the search as the study has them; None where they lie outside of the ranges."""
        known, found = identity(self.base), dict[str, object]()
        for name, one in self.search.ranges.items():
            texts = map(value_text, one.choices)
            same = [text for text in texts if not difference(self.settings([f"{name}={text}"]), self.base)]
            value = same[0] if same else known.get(name)
            if not same and (one.choices or not one.holds(value)):
                return None
            found[name] = value
        return found


def search(asked: Asked, out: Path, *, force: bool = False) -> Path:
    """Tries settings until all trials are done, together with any other process that does the same.

    Args:
        asked: What is searched.
        out: The folder of the search.
        force: Delete an earlier search there.

    Returns:
        The system file.

    Raises:
        UsageError: On a search that cannot be made.
        SertkError: Where no trial was completed, or the folder holds another search.
    """
    if distributed.launched() > 1:
        raise UsageError("a search shares its trials among processes by itself; start it without torchrun.")
    check(asked.search)
    _check_system(asked)
    if force:
        clear(out)
    measure = Measure(asked.plugins, asked.base.train.metric)
    study, trials = Study(out, asked.search, measure.better), Trials(asked)
    study.claim(_about(asked))
    say(f"search on dev of fold {', '.join(asked.chosen)}: {asked.search.trials} trials, in {out}")
    while True:
        trial = study.begin(asked.stands)
        if trial is not None:
            _try(study, trial, trials, measure)
        elif study.counts["RUNNING"]:
            time.sleep(WAIT)
        else:
            return _write(asked, out, study, measure)


def _try(study: Study, trial: Trial, trials: Trials, measure: Measure) -> None:
    """Tries settings; whatever ends the trial ends only that."""
    name = trial.folder.name
    say(f"{name}: {', '.join(trial.words)}")
    try:
        score = trials.score(trial)
        result: float | PrunedError | str = score
        say(f"{name}: dev {measure.text(score)}")
    except PrunedError as why:
        result = why
        say(f"{name}: pruned, {why}")
    except Exception as error:  # a trial can fail in any way
        result = sentence(error)
        say(f"{name} failed: {result}")
    study.end(trial, result)
    for run in trial.folder.glob("fold=*/seed=*"):
        shutil.rmtree(run / "checkpoints", ignore_errors=True)


class Trials:
    """Trains trials; what they share is read once.

    Args:
        asked: What is searched.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked, self._kept = asked, ("", dict[str, Shared]())

    def score(self, trial: Trial) -> float:
        """The dev score of a trial, the mean of the folds.

        Raises:
            PrunedError: Where the study says that it is not worth going on.
            SertkError: On settings that do not go together, and whatever else ends a run.
        """
        asked, settings, done = self._asked, self._asked.settings(trial.words), list[float]()
        places = [(fold, asked.seed) for fold in asked.chosen]
        runs = make_runs(asked.plugins, settings, asked.data, asked.folds_table, places, self._shared)

        def watch(epoch: int, score: float) -> None:
            # of several folds: the mean of those that are done and of this one so far
            trial.report(len(done) * settings.train.epochs + epoch, statistics.fmean([*done, score]))

        for run, (fold, seed) in zip(runs, places, strict=True):
            done.append(run.dev_score(trial.folder / f"fold={part_of(fold)}" / f"seed={seed}", watch))
        return statistics.fmean(done)

    def _shared(self, computed: Settings) -> Shared:
        """What the runs share, read again where a trial reads other features than the one before."""
        s = computed
        key = digest([plain(one) for one in (s.audio, s.inputs, s.augment, s.on_augment, s.train.init)])
        before, kept = self._kept
        if key != before:
            asked = self._asked
            kept = {key: share(asked.plugins, computed, asked.data, asked.folds_table, asked.chosen)}
            self._kept = key, kept
        return kept[key]


def _about(asked: Asked) -> dict[str, object]:
    """What must be the same when a search goes on; it may be asked for more trials."""
    how: dict[str, object] = plain(asked.search)
    del how["trials"]
    return {
        "settings": digest(identity(asked.base)),
        **how,
        "searched folds": asked.chosen,
        "seed of the runs": asked.seed,
        "protocol": asked.folds_table.hash,
    }


def _write(asked: Asked, out: Path, study: Study, measure: Measure) -> Path:
    """Writes the system file, and the trials as a table.

    Raises:
        SertkError: Where no trial was completed.
    """
    counts, best = study.counts, study.best()
    write_text(out / "trials.csv", study.table())
    if best is None:
        raise SertkError(
            f"none of the {counts.total()} trials in {out} was completed: {some(dict.fromkeys(study.errors), 2, '; ')} "
            "Change what is searched, and begin again with --force."
        )
    values, score = best
    stood = study.score_of(asked.stands) if asked.stands is not None else None
    searched = replace(
        _searched(asked),
        trials=counts.total(),
        pruned=counts["PRUNED"],
        failed=counts["FAIL"],
        metric=asked.base.train.metric.name,
        dev=score,
        stands=stood,
    )
    path = out / f"{asked.name}.yaml"
    found = asked.settings([f"{name}={text}" for name, text in values.items()])
    write_text(path, _system_text(found, searched, values, measure))
    before = "" if stood is None else f", with the settings before the search {measure.text(stood)}"
    say(f"wrote {path}: dev {asked.base.train.metric.name} {measure.text(score)}{before}")
    return path


def _searched(asked: Asked) -> Searched:
    """What the system file says of the search, without what came of it."""
    folds, utterances = asked.folds_table, asked.data.utterances
    heard = {utterances[i].known_speaker or "" for name in asked.chosen for i in _looked_at(folds, name)}
    return Searched(
        corpus=folds.corpus,
        protocol=folds.name,
        folds=tuple(asked.chosen),
        nested=asked.search.nested,
        speakers=tuple(sorted(heard)),
        ranges={name: str(one) for name, one in asked.search.ranges.items()},
        study=digest([identity(asked.base), plain(asked.search), asked.seed]),
    )


def _looked_at(folds: Folds, name: str) -> Sequence[str]:
    fold = folds.fold(name)
    return [*fold.train, *fold.dev]


def _system_text(settings: Settings, searched: Searched, values: Mapping[str, str], measure: Measure) -> str:
    """A system file: the settings that are not at their defaults, and what was searched."""
    where = ", ".join(searched.folds)
    found = [f"#   {name}: {value}, of {searched.ranges[name]}" for name, value in values.items()]
    stood = "" if searched.stands is None else f" (before the search {measure.text(searched.stands)})"
    head = [
        f"# Found by a search of sertk: the best of {searched.trials} trials ({searched.pruned} pruned, "
        f"{searched.failed} failed)",
        f"# on dev of fold {where} of {searched.corpus} / {searched.protocol}, by {searched.metric}: "
        f"{measure.text(searched.dev)}{stood}. That figure was chosen for being high;",
        "# only a test says how good the settings are.",
        *found,
    ]
    return "\n".join([*head, merge.dumped({**_not_default(settings), "searched": plain(searched)})])


def _not_default(settings: Settings) -> dict[str, object]:
    """The settings that are part of a run and not at their defaults; of a group those alone."""
    defaults, found = run_part(Settings()), dict[str, object]()
    for name, value in run_part(settings).items():
        standard = getattr(Settings(), name)
        if value == defaults[name]:
            continue
        group = is_dataclass(standard) and not isinstance(standard, Component)
        found[name] = {w: one for w, one in value.items() if one != defaults[name][w]} if group else value
    return found


def _check_system(asked: Asked) -> None:
    """Refuses a recipe that would override what the search finds.

    Raises:
        UsageError: There.
    """
    first = [f"{name}={value_text(one.ends[0])}" for name, one in asked.search.ranges.items()]
    last = [f"{name}={value_text(one.ends[-1])}" for name, one in asked.search.ranges.items()]
    for words in (first, last):
        settings = asked.settings(words)
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{asked.name}.yaml"  # a recipe may have settings for systems of that name
            write_text(path, merge.dumped(_not_default(settings)))
            own, trust = list(asked.choices.plugin), asked.choices.trust
            given = merge.load(str(path), asked.config, asked.overrides, plugins=own, trust=trust)
        odd = next(iter(difference(given, settings)), None)
        if odd is not None:
            raise UsageError(
                f"{given.at(odd)}{odd} is set there for all systems, so a system file could not change it. "
                "Set it for the system of the row alone, under `systems` or in the row."
            )
