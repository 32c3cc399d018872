"""A recipe as steps: which commands there are, what each depends on and what it writes. Nothing is run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

from sertk.core import AuxTask, Corpus, FoldTable, Protocol, SertkError, UsageError, nearest
from sertk.core.files import beside, digest, embeddings_file, part_of, read_json, scores_file
from sertk.corpus import folding, protocols, readers
from sertk.corpus.features import Store, reads_of, stores
from sertk.corpus.prepared import CORPUS, title_of
from sertk.modeling.build import with_frozen
from sertk.plugins import Plugins, file_hash
from sertk.recipe.find import home
from sertk.recipe.freshness import Step
from sertk.recipe.look import facts_of, hub_copy, listing
from sertk.settings.merge import sources
from sertk.settings.overrides import Choices, tag_of
from sertk.settings.packaged import egs
from sertk.settings.plain import identity, plain, run_part
from sertk.settings.schema import Component, Settings
from sertk.settings.several import folds_of, seeds_of
from sertk.settings.values import component_text
from sertk.training import initial
from sertk.training.loss import with_losses

STAGES = ("prepare", "featurize", "train", "score", "report")
READS = {
    "featurize": ("prepare",),
    "train": ("prepare", "featurize"),
    "score": ("prepare", "train"),
    "report": ("score",),
}
"""The stages whose files a stage reads."""
LACKS = {
    "prepare": "the corpus is not prepared",
    "featurize": "the features are not computed",
    "train": "a run is not trained",
    "score": "a run is not scored",
}


@dataclass(frozen=True)
class Ask:
    """What the user asked of `sertk recipe`."""

    first: str = "prepare"
    last: str = "report"
    folds: Sequence[str] = ()
    seeds: Sequence[str] = ()
    root: Path | None = None
    work: Path | None = None
    tag: str | None = None
    jobs: int | None = None
    dry: bool = False
    force: bool = False
    allow_failed: bool = False
    publish: bool = False
    parts: Sequence[str] = ("test",)
    launcher: str | None = None
    choices: Choices = field(default_factory=Choices)


def stage_of(text: str) -> str:
    """A stage by number or name.

    Raises:
        UsageError: If there is no such stage.
    """
    if text.isdigit() and 1 <= int(text) <= len(STAGES):
        return STAGES[int(text) - 1]
    if text not in STAGES:
        raise UsageError(f"no stage {text!r}{nearest(text, STAGES)}, or 1 to {len(STAGES)}")
    return text


class Plan:
    """A recipe with what the user asked of it, as steps.

    Args:
        path: recipe.yaml.
        ask: See `Ask`.
        known: Stores by what they depend on, which several plans share: to make one an encoder is read.

    Raises:
        UsageError: On unknown names and settings, or without a corpus folder.
    """

    def __init__(self, path: Path, ask: Ask, known: dict[str, list[Store]] | None = None) -> None:
        self._known = {} if known is None else known
        # in full, so that the printed commands run from anywhere
        self._path, self.ask = path.resolve(), ask
        given, named = ask.choices.load(path), ask.choices.losses()
        for word, value in (("corpus", given.corpus), ("protocol", given.protocol), ("system", given.system)):
            if not value:
                raise UsageError(f"{path} names no {word}; write `{word}: NAME` in it.")
        self.plugins = Plugins(files=given.plugins)
        for word, given_one in (("fold", given.fold), ("seed", given.seed)):
            if given_one:
                place, instead = given.at(word), f"--{word}, or {word}s"
                raise UsageError(f"{place}{word} is a setting of one run, and a recipe makes many. Give {instead}.")
        self.settings, _ = with_losses(self.plugins, given, named)
        with given.located("corpus"):
            self._stated = readers.file_of(self._spec, self._path.parent)
            self._corpus = readers.reader(self.plugins, self._spec, self._path.parent)
        self.work = (ask.work or home(self._path.parent)).resolve()
        self.title = title_of(self._corpus, self._spec.name)
        self._data = self.work / "data" / self.title
        self.jobs = ask.jobs or self.settings.jobs
        if ask.tag is not None and (part_of(ask.tag) != ask.tag or ask.tag in ("", ".", "..")):
            raise UsageError(
                rf"--tag {ask.tag!r} is the name of a folder. It has none of / \ % and is not empty, . or .."
            )
        with given.located("train.init"):
            initial.files(self.settings.train.init)
        list(self._runs())

    @property
    def _own(self) -> bool:
        """Whether the recipe's folder is the user's to write in; results of an installed one go to the work folder."""
        return home(self._path.parent) == self._path.parent

    @property
    def _spec(self) -> Component:
        return self.settings.corpus or Component("")

    @cached_property
    def computed(self) -> Settings:
        """The settings, with a frozen backbone turned into a feature."""
        return with_frozen(self.plugins, self.settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, where the protocol states them."""
        labels = self._rules().labels
        return tuple(sorted(set(labels.values()))) if labels else ()

    @property
    def aux(self) -> Mapping[str, AuxTask]:
        """The auxiliary tasks of the protocol."""
        return self._rules().aux

    def steps(self, stage: str) -> list[Step] | None:
        """The steps of a stage; None if they depend on a corpus that is not prepared yet."""
        if stage in ("train", "score", "report") and self._folds() is None:
            return None
        made: Iterator[Step] = getattr(self, f"_{stage}")()
        return list(made)

    def check_before(self, stage: str) -> None:
        """Refuses a stage whose inputs are not there yet.

        Raises:
            SertkError: There; it says which command comes first.
        """
        for earlier in READS.get(stage, ()):
            steps = self.steps(earlier) if earlier != "prepare" else None  # the steps of prepare need the corpus folder
            made = self._prepared() if steps is None else [path for step in steps for path in step.makes]
            lacking = next((path for path in made if not path.exists()), None)
            if lacking:
                self.check_before(earlier)
                recipe = self._path.parent if self._path.name == "recipe.yaml" else self._path
                words = shlex.join(["sertk", "recipe", str(recipe), "--stage", str(STAGES.index(earlier) + 1)])
                raise SertkError(
                    f"{LACKS[earlier]}: {lacking} is missing. Run `{words} ...` first, with the same options."
                )

    def _prepare(self) -> Iterator[Step]:
        root, file, audio = self._root(), self._file(), self.settings.audio
        mine = self._spec.name not in readers.named() and self._stated  # the user's own file, wherever it is run
        words = ["prepare", str(mine or component_text(self._spec.name, self._spec.settings)), "--root", str(root)]
        words += ["--out", str(self._data), "--protocol", str(file or self.protocol)]
        words += ["--min-seconds", str(audio.min_seconds), *["--ffmpeg"] * audio.ffmpeg, *self._nj(), *self._files()]
        stamp = self._data / f".prepare-{self.protocol}.json"
        settings = [plain(self._spec), str(file) if file else self.protocol, audio.min_seconds]
        settings += ["ffmpeg"] * audio.ffmpeg
        rule = self._rules().test
        lists = [rule.path] if isinstance(rule, FoldTable) else []
        needs = [*filter(None, (file, self._stated)), *self._corpus.reads(root), *lists]
        needs += map(Path, self.settings.plugins)
        ours = [one for one in (self._data, self.work / "exp") if one.is_relative_to(root)]
        yield Step("prepare", words, stamp, settings, needs, self._prepared(), root, without=ours)

    def _root(self) -> Path:
        root = self.ask.root or self.settings.root
        if root is not None:
            return Path(root).resolve()
        if type(self._corpus).obtain is Corpus.obtain:
            raise UsageError(f"the corpus {self.title} must be obtained first; then give its folder: --root FOLDER.")
        return self.work / "corpus"

    def _prepared(self) -> list[Path]:
        return [*(self._data / name for name in ("corpus.json", "manifest.jsonl", "audio.jsonl")), self.folds_file]

    def _learned(self) -> list[Path]:
        """What training reads of a prepared corpus: of the manifest transcripts, speakers and auxiliary labels."""
        texts = any(reads_of(self.plugins, one) == "text" for one in self.settings.inputs.values())
        own = {one.name: self.plugins.entry("loss", one.name).distribution == "sertk" for one in self.settings.losses}
        labels = "aux" in own or not all(own.values())  # which labels a loss reads is known when it is made
        return self._prepared()[1 if texts or labels or self.computed.by_speaker else 2 :]

    def notes(self) -> list[str]:
        """What the corpus's reading found that the user should know, as `prepare` wrote it down."""
        found: list[str] = read_json(self._data / "corpus.json", "Run `sertk prepare`.", CORPUS).get("notes") or []
        return found

    def _nj(self) -> list[str]:
        return ["--nj", str(self.jobs)]

    def _files(self) -> list[str]:
        """The plugin files: a command that names them is the user's consent to run them."""
        return [word for file in self.settings.plugins for word in ("--plugin", file)]

    def _common(self) -> list[str]:
        root = ["--root", str(self.ask.root.resolve())] if self.ask.root else []
        system = ["--system", str(self.settings.system), "--config", str(self._path)]
        return [*system, *root, *self._files(), *self.ask.choices.words()]

    def _featurize(self) -> Iterator[Step]:
        s = self.computed
        settings = [run_part(s.audio), *map(plain, (s.inputs, s.augment, s.on_augment))]
        stamp = self._data / "feats" / f".featurize-{digest(settings, 8)}.json"
        words = ["featurize", str(self._data), *self._common(), *self._nj()]
        makes = [store.folder / "index.jsonl" for store in self._stores]
        yield Step("featurize", words, stamp, settings, self._prepared(), makes)

    @cached_property
    def _stores(self) -> list[Store]:
        """The cached features; empty if only commands are printed and a checkpoint is not on this machine."""
        s = self.computed
        depends = (s.audio, s.inputs, s.augment, s.on_augment, s.plugins)
        key = digest([str(self._data), *map(plain, depends)])
        try:
            if key not in self._known:
                self._known[key] = list(stores(self._data, s, self.plugins).values())
            return self._known[key]
        except SertkError as error:
            if not self.ask.dry or isinstance(error, UsageError):
                raise
            return []

    @property
    def places(self) -> list[tuple[str, str]]:
        """(fold, seed) of each run; none where the corpus decides on the folds and is not prepared yet."""
        return [(fold, seed) for fold, seed, _ in self._runs()]

    @property
    def folds(self) -> list[str] | None:
        """All folds of the protocol by name; None where the corpus decides on them and is not prepared yet."""
        return self._folds()

    def _runs(self) -> Iterator[tuple[str, str, Path]]:
        """(fold, seed, folder) of each run; none where the corpus decides on the folds and is not prepared yet."""
        known = self._folds()
        if known is None:
            return
        folds = [name for text in self.ask.folds or self.settings.folds for name in folds_of(text, known)]
        own = list(map(str, self.settings.seeds))
        seeds = [seed for text in self.ask.seeds or own for seed in seeds_in(text, own)]
        for fold, seed in product(dict.fromkeys(folds), dict.fromkeys(seeds)):
            yield fold, seed, self.system / f"fold={part_of(fold)}" / f"seed={seed}"

    @property
    def folds_file(self) -> Path:
        """Where the folds of the prepared corpus are."""
        return self._data / "protocols" / f"{self.protocol}.json"

    def _folds(self) -> list[str] | None:
        """The folds by name; None where the corpus decides on them and is not prepared yet."""
        if facts := facts_of(self.folds_file):  # utterances that are missing here have no fold
            return list(_folds_in(self.folds_file, facts))
        return folding.names(self._rules())

    def _rules(self) -> Protocol:
        file = self._file()
        return protocols.from_file(file) if file else self._corpus.protocols[self.protocol]

    def _file(self) -> Path | None:
        """The file of a protocol that the corpus does not have: beside the recipe, or relative to here."""
        path = Path(self.settings.protocol or "")
        if path.suffix not in protocols.YAML:
            return None
        beside = self._path.parent / path
        if not beside.is_file() and not path.is_file():
            raise UsageError(
                f"protocol {str(path)!r} was not found: there is neither {beside.resolve()} nor {path.resolve()}."
            )
        return (beside if beside.is_file() else path).resolve()

    @property
    def protocol(self) -> str:
        """The name of the protocol.

        Raises:
            UsageError: Where the corpus has none of that name, or a file states one of the corpus's.
        """
        file, known = self._file(), self._corpus.protocols
        if file and file.stem in known:
            raise UsageError(f"corpus {self.title} has a protocol {file.stem!r} of its own; rename {file}.")
        if file:
            return file.stem
        name = self.settings.protocol or ""
        if name not in known:
            place = self.settings.at("protocol")
            raise UsageError(
                f"{place}corpus {self.title} has no protocol {name!r}{nearest(name, known)}, or a .yaml file"
            )
        return name

    @cached_property
    def system(self) -> Path:
        """The folder of the system's runs: its name, and a tag where the command line makes another of it."""
        tag = self.ask.tag or self._tag()
        name = Path(self.settings.system or "").stem
        return self.work / "exp" / self.protocol / (f"{name}+{tag}" if tag else name)

    def _tag(self) -> str:
        choices = Choices(system=self.settings.system, plugin=self.ask.choices.plugin, trust=True)
        return tag_of(self.settings, choices.load(self._path))

    def _train(self) -> Iterator[Step]:
        reads: list[object] = [[store.folder.name for store in self._stores], self._places()]
        reads += [[file_hash(one) for one in self.settings.plugins]] if self.settings.plugins else []
        needs = [*self._learned(), *initial.files(self.settings.train.init)]
        settings = identity(self.settings, "run", "which")  # fold and seed are in a run's folder
        plain_words = ["train", str(self._data), *self._common(), "--protocol", self.protocol]
        several = [*plain_words, "--out", str(self.system)]
        for fold, seed, out in self._runs():
            words = [*plain_words, "--fold", fold, "--seed", seed, "--out", str(out)]
            stamp, makes, run = out / ".train.json", [out / "model"], (fold, seed)
            yield Step("train", words, stamp, settings, needs, makes, reads=reads, run=run, together=several)

    def _places(self) -> dict[str, list[tuple[str, int, int]]]:
        """The files of checkpoints that the settings name by folder: somebody may change them."""
        return {place: listing(Path(place)) for place in self._checkpoints() if Path(place).is_dir()}

    def _checkpoints(self) -> list[str]:
        specs = [("feature", one) for one in self.settings.inputs.values()]
        both = (*specs, ("backbone", self.settings.backbone))
        return [place for kind, one in both for place in self.plugins.places(kind, one)]

    def inputs(self) -> list[Path]:
        """The files and folders that this was made of, by the names that were given; each may be a link.

        What is named as on a hub is looked for on this machine alone.
        """
        s, checkpoints = self.settings, self._checkpoints()
        rule, root = Path(s.protocol or ""), self.ask.root or s.root
        names = [*sources(str(s.system), self._path), *s.plugins, *checkpoints, *([root] if root else [])]
        names += [rule, self._path.parent / rule] if rule.suffix in protocols.YAML else []
        return [*map(Path, names), *map(hub_copy, checkpoints), *initial.files(s.train.init)]

    @property
    def scoring(self) -> list[str]:
        """The words of `sertk score` that say how runs are scored."""
        s = self.settings
        root = ["--root", str(self.ask.root.resolve())] if self.ask.root else []
        how = [*root, "--batch", str(s.score.batch), "--device", s.train.device, "--from", s.score.inputs]
        how += ["--workers", str(s.score.workers), *["--embeddings", "beside"] * s.score.embeddings]
        return [*how, *self._files()]

    def _score(self) -> Iterator[Step]:
        s, scoring, prepared = self.settings, self.scoring, self._prepared()[1:]
        for part, (fold, seed, out) in product(self.ask.parts, list(self._runs())):
            scores = out / scores_file(part)
            own = [] if part == "test" else ["--part", part]
            several = ["score", str(self.system), str(self._data), *own, *scoring]
            # as a run and not as a bundle: then it is written down why a run failed
            words = [*several, "--fold", fold, "--seed", seed]
            makes = [scores, beside(scores, "metrics", ".json"), *[embeddings_file(scores)] * s.score.embeddings]
            # a score line has speaker, gender and votes of the manifest, and a plugin file may offer metrics
            needs = [*prepared, out / "model", *map(Path, s.plugins)]
            stamp = out / (".score.json" if part == "test" else f".score-{part}.json")
            yield Step("score", words, stamp, [], needs, makes, run=(fold, seed), together=several)

    def _command(self) -> str:
        """The command that makes these results again, where the recipe is: from the repository, or from its folder.

        It has no path of this machine: what says where is left out, or a placeholder.
        """
        ask, folder = self.ask, self._path.parent
        words = ["sertk", "recipe", self._path.name]
        if folder.is_relative_to(egs()):
            script = self._own and (folder / "run.sh").exists()  # which a copy has not
            words = [f"egs/{folder.name}/run.sh"] if script else ["sertk", "recipe", folder.name]
        words += ["--root", "FOLDER"] if ask.root else []
        words += ["--system", self._from_here(Path(str(self.settings.system)))]
        words += [word for fold in ask.folds for word in ("--fold", fold)]
        words += [word for seed in ask.seeds for word in ("--seed", seed)]
        words += ["--tag", ask.tag] if ask.tag else []
        words += [word for file in ask.choices.plugin for word in ("--plugin", self._from_here(file))]
        words += ["--trust"] if len(self.settings.plugins) > len(ask.choices.plugin) else []
        chosen = replace(ask.choices, device=None, init=ask.choices.init and Path("BUNDLE"))
        return shlex.join([*words, *map(anywhere, chosen.words())])

    def _from_here(self, file: Path) -> str:
        """A file as the recipe's folder sees it: the path from there, or the name of one that lies elsewhere."""
        folder, full = self._path.parent, file.resolve()
        inside = file.suffix and full.is_relative_to(folder)  # a system by name has none
        return full.relative_to(folder).as_posix() if inside else file.name

    def _report(self) -> Iterator[Step]:
        outs = [out for _, _, out in self._runs()]
        words = ["report", *map(str, outs), "--data", str(self._data), *self._files(), "--command", self._command()]
        results = (self._path.parent if self._own else self.work) / "RESULTS.md"
        words += ["--publish", str(results)] * self.ask.publish
        makes = [self.system / "RESULTS.md", *[results] * self.ask.publish]
        scored = [out / name for out in outs for name in ("metrics.json", scores_file("test"))]
        needs = [*self._prepared(), *scored, *map(Path, self.settings.plugins)]
        yield Step("report", words, self.system / ".report.json", [self.ask.publish], needs, makes)


@lru_cache  # all plans of a sweep ask, several times each
def _folds_in(path: Path, _facts: str) -> tuple[str, ...]:
    """The folds of a protocol file; what it looks like from outside tells whether it is another."""
    return tuple(protocols.load(path).folds)


def anywhere(word: str) -> str:
    """A word of a command without the places of this machine: folders that settings name, and absolute paths."""
    word = re.sub(r"(?<==)[^,=]+", lambda found: "FOLDER" if Path(found[0]).is_dir() else found[0], word)
    # at the start of a value, of text as of YAML; the second slash of https:// is no start
    absolute = r"(?<![^\s=:,\[\]{}\"'])/(?!/)[^,=\[\]{}\"']+"
    return re.sub(absolute, lambda found: "FOLDER" if Path(found[0]).is_dir() else Path(found[0]).name, word)


def seeds_in(text: str, known: Sequence[str]) -> list[str]:
    """The seeds that a text names, or as "#n" the n-th of those that are known."""
    if not text.startswith("#"):
        return list(map(str, seeds_of(text)))
    place = text[1:]
    if not (place.isdecimal() and 1 <= int(place) <= len(known)):
        raise UsageError(f"no seed {text!r}. Give numbers and ranges (3, 0-4), or by position #1 to #{len(known)}.")
    return [known[int(place) - 1]]
