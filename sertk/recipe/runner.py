"""A recipe: the stages of one corpus in order, each skipped while nothing that it depends on changed."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points, version
from os import W_OK, access
from pathlib import Path
from typing import Any, NamedTuple

from sertk.console.progress import console, say
from sertk.core import Corpus, FoldTable, Launcher, Protocol, SertkError, UsageError, nearest
from sertk.core.files import digest, egs, part_of, read_json, write_json
from sertk.corpus import folding, protocols
from sertk.corpus.features import Store
from sertk.modeling import build
from sertk.plugins import Plugins, split
from sertk.settings import merge as config
from sertk.settings.overrides import Choices
from sertk.stages.featurize import stores
from sertk.stages.prepare import title
from sertk.training import distributed, warm_start

STAGES = ("prepare", "featurize", "train", "score", "report")
STACK = ("sertk", "torch", "torchaudio", "speechbrain", "transformers", "soundfile", "numpy")
FEATURE_SETTINGS = ("audio", "inputs", "augment", "on_augment")


class Step(NamedTuple):
    """One stage command.

    Attributes:
        stage: Its name.
        words: The command, without `sertk`.
        stamp: Where its fingerprint is kept.
        settings: What of the settings it depends on.
        folder: A folder whose files it depends on, by name, size and time.
        needs: Files that earlier stages wrote.
        makes: Files that it writes.
        reads: What else it depends on, as data.
    """

    stage: str
    words: list[str]
    stamp: Path
    settings: Any
    needs: list[Path]
    makes: list[Path]
    folder: Path | None = None
    reads: Any = None


@dataclass(frozen=True)
class Ask:
    """What the user asked of `sertk recipe`."""

    first: str = "prepare"
    last: str = "report"
    folds: Sequence[str] = ()
    seeds: Sequence[str] = ()
    system: str | None = None
    root: Path | None = None
    work: Path | None = None
    tag: str | None = None
    jobs: int | None = None
    dry: bool = False
    force: bool = False
    allow_failed: bool = False
    publish: bool = False
    choices: Choices = field(default_factory=Choices)


def find(name: str) -> Path:
    """The recipe.yaml of a path, or of a packaged recipe's name.

    Raises:
        UsageError: Where there is none; the nearest name is proposed.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    known = {one.parent.name: one for one in sorted(egs().glob("*/recipe.yaml"))}
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if name in known:
        return known[name]
    raise UsageError(f"no recipe {name!r} (a folder with recipe.yaml, or a packaged name){nearest(path.name, known)}")


def home(folder: Path) -> Path:
    """Where a recipe's data and runs go: its own folder, or the current one where that is read-only or installed."""
    installed = folder.is_relative_to(Path(__file__).resolve().parents[1])  # an upgrade would take them away
    return folder if access(folder, W_OK) and not installed else Path()


def copy(recipe: Path, target: Path) -> None:
    """Copies a recipe's folder, to be changed.

    Raises:
        UsageError: Where the target exists.
    """
    if target.exists():
        raise UsageError(f"{target} exists already; give --copy a new folder.")
    # its results belong to the original, data and runs to a work folder
    shutil.copytree(recipe.parent, target, ignore=shutil.ignore_patterns("data", "exp", "corpus", "RESULTS.md"))


def stage_of(text: str) -> str:
    """A stage by number or name.

    Raises:
        UsageError: Where there is none.
    """
    if text.isdigit() and 1 <= int(text) <= len(STAGES):
        return STAGES[int(text) - 1]
    if text not in STAGES:
        raise UsageError(f"no stage {text!r}{nearest(text, STAGES)}, or 1 to {len(STAGES)}")
    return text


class Recipe:
    """A recipe with what the user asked of it.

    Args:
        path: recipe.yaml.
        ask: See `Ask`.

    Raises:
        UsageError: On unknown names, or without a corpus folder.
    """

    def __init__(self, path: Path, ask: Ask) -> None:
        # in full, so that the printed commands run from anywhere
        self._path, self._ask, self._plugins = path.resolve(), ask, Plugins()
        self._settings = config.resolve(config.load(ask.system, path, ask.choices.overrides()))
        for word in ("corpus", "protocol", "system"):
            if not self._settings[word]:
                raise UsageError(f"{path} names no {word}; write `{word}: NAME` in it.")
        self._corpus: Corpus = self._plugins.make("corpus", self._settings["corpus"])
        folder = self._path.parent
        self._work = (ask.work or home(folder)).resolve()
        self._data = self._work / "data" / title(self._corpus, split("corpus", self._settings["corpus"])[0])
        self._jobs = ask.jobs or self._settings["jobs"]
        self._check()

    def _check(self) -> None:
        """Tells what is wrong before the work and not after half of it."""
        if distributed.launched() > 1:
            raise UsageError("torchrun starts `sertk train` alone; `sertk recipe --dry-run` prints its command.")
        build.check(self._settings)
        warm_start.files(self._settings["train"]["init"])
        list(self._runs())
        named = [("loss", one) for one in (*self._settings["losses"], *self._ask.choices.losses())]
        named += [("augmentation", one) for one in self._settings["augment"]]
        named += [(kind, self._settings[kind]) for kind in ("backbone", "pooling")]
        for kind, spec in named:
            if isinstance(spec, str | Mapping):
                self._plugins.factory(kind, split(kind, spec)[0])

    def run(self) -> int:
        """Runs the stages asked for; gives the exit code of the first that fails, or 0."""
        stages = STAGES[STAGES.index(self._ask.first) : STAGES.index(self._ask.last) + 1]
        if not stages:
            raise UsageError(f"--stage {self._ask.first} comes after --stop-stage {self._ask.last}.")
        launcher: Launcher = self._plugins.make("launcher", "local")
        due = self._ask.force
        for stage in stages:
            if stage in ("train", "score", "report") and self._folds() is None:
                text = f"{stage}: the folds of {self._protocol()} follow from the corpus; prepare it first (--stage 1)."
                if not self._ask.dry:
                    raise SertkError(text)
                say(text)
                continue
            steps: list[Step] = list(getattr(self, f"_{stage}")())
            todo = [step for step in steps if due or not fresh(step)]
            due = due or (self._ask.dry and bool(todo))  # what follows a stage that will run cannot be judged yet
            code = self._stage(stage, steps, todo, launcher)
            if code:
                return code
        return 0

    def _stage(self, stage: str, steps: Sequence[Step], todo: Sequence[Step], launcher: Launcher) -> int:
        if len(todo) < len(steps):
            say(f"{stage}: {len(steps) - len(todo)} of {len(steps)} up to date, skipped")
        commands = [self._words(step) for step in todo]
        if self._ask.dry:
            for words in commands:
                sys.stdout.write(shlex.join(["sertk", *words]) + "\n")
            return 0
        for step, words in zip(todo, commands, strict=True):
            if "--force" not in words:  # a forced run takes its stamp away with its folder, when it begins
                step.stamp.unlink(missing_ok=True)
        before = [fingerprint(step) for step in todo]
        for words in commands:
            console.rule(f"{STAGES.index(stage) + 1} {stage}", align="left") if words is commands[0] else None
            say(shlex.join(["sertk", *words]))
        alone = stage in ("prepare", "featurize", "report")
        codes = launcher.run(
            [[sys.executable, "-m", "sertk", *words] for words in commands], 1 if alone else self._jobs
        )
        return self._finish(todo, before, codes)

    def _finish(self, steps: Sequence[Step], before: Sequence[dict[str, Any]], codes: Sequence[int]) -> int:
        worst = 0
        for step, read, code in zip(steps, before, codes, strict=True):
            if code == 3 and not self._ask.allow_failed:
                say(f"{step.stage}: some inputs failed, listed above. Mend them, or go on without: --allow-failed")
            if code == 0 or (code == 3 and self._ask.allow_failed):
                now = fingerprint(step) if step.folder else read  # prepare may have made the corpus itself
                write_json(step.stamp, {**now, "makes": _hashes(step.makes)})
            else:
                worst = worst or (code if code > 0 else 1)  # a signal is a negative code
        return worst

    def _words(self, step: Step) -> list[str]:
        """The command; a run that is complete but out of date (not of other settings) is told to begin anew."""
        if step.stage != "train":
            return step.words
        old = read_json(step.stamp, "") if step.stamp.exists() else None
        stale = old is not None and old["settings"] == fingerprint(step)["settings"]
        return [*step.words, "--force"] if self._ask.force or stale else step.words

    def _prepare(self) -> Iterable[Step]:
        root, file = self._root(), self._file()
        corpus, protocol = self._settings["corpus"], self._protocol()
        words = ["prepare", config.spell(corpus), "--root", str(root), "--out", str(self._data)]
        words += ["--protocol", str(file or protocol)]
        least = self._settings["audio"]["min_seconds"]
        words += ["--min-seconds", str(least), *self._nj()]
        stamp = self._data / f".prepare-{protocol}.json"
        settings = [corpus, str(file) if file else protocol, least]
        needs = [*([file] if file else []), *self._corpus.reads(root)]
        rule = self._rules().test
        needs += [rule.path] if isinstance(rule, FoldTable) else []
        yield Step("prepare", words, stamp, settings, needs, self._prepared(), root)

    def _root(self) -> Path:
        root = self._ask.root or self._settings["root"]
        if root is not None:
            return Path(root).resolve()
        if type(self._corpus).obtain is Corpus.obtain:
            raise UsageError(
                f"the corpus {self._data.name} must be obtained first; then give its folder: --root FOLDER."
            )
        return self._work / "corpus"

    def _prepared(self) -> list[Path]:
        protocol = f"protocols/{self._protocol()}.json"
        return [self._data / name for name in ("corpus.json", "manifest.jsonl", "audio.jsonl", protocol)]

    def _nj(self) -> list[str]:
        return ["--nj", str(self._jobs)]

    def _common(self) -> list[str]:
        root = ["--root", str(self._ask.root.resolve())] if self._ask.root else []
        return ["--system", self._settings["system"], "--config", str(self._path), *root, *self._ask.choices.words()]

    def _featurize(self) -> Iterable[Step]:
        settings = {name: self._settings[name] for name in FEATURE_SETTINGS}
        stamp = self._data / "feats" / f".featurize-{digest(settings, 8)}.json"
        words = ["featurize", str(self._data), *self._common(), *self._nj()]
        makes = [store.folder / "index.jsonl" for store in self._stores]
        yield Step("featurize", words, stamp, settings, self._prepared(), makes)

    @cached_property
    def _stores(self) -> list[Store]:
        """Of the cached features; none where only commands are printed and a checkpoint is not at hand."""
        try:
            return list(stores(self._data, self._settings, self._plugins).values())
        except SertkError as error:
            if not self._ask.dry or isinstance(error, UsageError):
                raise
            return []

    def _runs(self) -> Iterable[tuple[str, str, Path]]:
        """(fold, seed, folder) of each run; none where the corpus decides on the folds and is not prepared yet."""
        known = self._folds()
        if known is None:
            return
        asked = self._ask.folds or (known if self._settings["folds"] == "all" else map(str, self._settings["folds"]))
        seeds = list(map(str, self._settings["seeds"]))
        for fold in asked:
            for seed in self._ask.seeds or seeds:
                name, number = _pick(fold, known, "fold"), _pick(seed, seeds, "seed", closed=False)
                yield name, number, self._system() / f"fold={part_of(name)}" / f"seed={number}"

    def _folds(self) -> list[str] | None:
        """The folds by name; None where the corpus decides on them and is not prepared yet."""
        name = self._protocol()
        path = self._data / "protocols" / f"{name}.json"
        if path.exists():  # what is not here of the corpus has no fold
            return list(protocols.load(path).folds)
        return folding.names(self._rules())

    def _rules(self) -> Protocol:
        file = self._file()
        return protocols.from_file(file) if file else self._corpus.protocols[self._protocol()]

    def _file(self) -> Path | None:
        """The file that states the protocol, where it is not one of the corpus's; beside the recipe, or from here."""
        path = Path(self._settings["protocol"])
        if path.suffix not in protocols.YAML:
            return None
        beside = self._path.parent / path
        if not beside.is_file() and not path.is_file():
            raise UsageError(f"protocol {str(path)!r} is neither {beside.resolve()} nor {path.resolve()}.")
        return (beside if beside.is_file() else path).resolve()

    def _protocol(self) -> str:
        file = self._file()
        if file and file.stem in self._corpus.protocols:
            raise UsageError(f"corpus {self._data.name} has a protocol {file.stem!r} of its own; rename {file}.")
        if file:
            return file.stem
        name: str = self._settings["protocol"]
        if name not in self._corpus.protocols:
            raise UsageError(
                f"corpus {self._data.name} has no protocol {name!r}{nearest(name, self._corpus.protocols)}, "
                "or a .yaml file"
            )
        return name

    def _system(self) -> Path:
        tag = self._ask.tag or self._ask.choices.tag()
        system = Path(self._settings["system"]).stem
        return self._work / "exp" / self._protocol() / (f"{system}+{tag}" if tag else system)

    def _train(self) -> Iterable[Step]:
        settings = {
            name: value for name, value in self._settings.items() if name not in ("root", "jobs", "folds", "seeds")
        }
        settings["named"] = self._ask.choices.losses()
        reads = [[store.folder.name for store in self._stores], _sources(settings)]
        needs = [*self._prepared()[2:], *warm_start.files(self._settings["train"]["init"])]
        settings["train"] = {n: v for n, v in settings["train"].items() if f"train.{n}" not in config.COMPUTED_BY}
        for fold, seed, out in self._runs():
            place = ["--protocol", self._protocol(), "--fold", fold, "--seed", seed, "--out", str(out)]
            words = ["train", str(self._data), *self._common(), *place]
            yield Step("train", words, out / ".train.json", settings, needs, _bundle(out), reads=reads)

    def _score(self) -> Iterable[Step]:
        for _, _, out in self._runs():
            words = ["score", str(out / "model"), str(self._data), "--out", str(out / "scores.jsonl")]
            words += ["--root", str(self._ask.root.resolve())] if self._ask.root else []
            words += ["--batch", str(self._settings["score"]["batch"]), "--device", self._settings["train"]["device"]]
            makes = [out / "scores.jsonl", out / "metrics.json"]
            yield Step("score", words, out / ".score.json", [], [*self._prepared()[2:], *_bundle(out)], makes)

    def _command(self) -> str:
        """The command that makes these results again anywhere; what says where is left out, or a placeholder."""
        ask, inside = self._ask, self._path.is_relative_to(egs())
        words = [f"egs/{self._path.parent.name}/run.sh"] if inside else ["sertk", "recipe", str(self._path)]
        words += ["--root", "FOLDER"] if ask.root else []
        words += ["--system", _anywhere(self._settings["system"])]
        words += [word for fold in ask.folds for word in ("--fold", fold)]
        words += [word for seed in ask.seeds for word in ("--seed", seed)]
        words += ["--tag", ask.tag] if ask.tag else []
        chosen = replace(ask.choices, device=None, init=ask.choices.init and Path("BUNDLE"))
        return shlex.join([*words, *map(_anywhere, chosen.words())])

    def _report(self) -> Iterable[Step]:
        outs = [out for _, _, out in self._runs()]
        words = ["report", *map(str, outs), "--command", self._command()]
        words += ["--publish"] if self._ask.publish else []
        makes = [self._system() / "RESULTS.md"]
        needs = [out / "metrics.json" for out in outs]
        yield Step("report", words, self._system() / ".report.json", [self._ask.publish], needs, makes)


def _anywhere(word: str) -> str:
    """A word of a command without the places of this machine: checkpoint folders and absolute paths."""
    if Path(word).is_absolute():
        return Path(word).name
    return re.sub(r"(?<=source=)[^,]+", lambda found: "FOLDER" if Path(found[0]).is_dir() else found[0], word)


def _sources(settings: Mapping[str, Any]) -> dict[str, list[tuple[str, int, int]]]:
    """The files of checkpoints that the settings name by their place: one may be changed there."""
    found = (value for name, value in config.flat(settings).items() if name.endswith(".source"))
    return {value: _listing(Path(value)) for value in found if isinstance(value, str) and Path(value).is_dir()}


def _bundle(out: Path) -> list[Path]:
    return [out / "model" / "bundle.json", out / "model" / "model.safetensors"]


def _pick(text: str, known: Sequence[str], what: str, *, closed: bool = True) -> str:
    """A fold or seed by its name, or by position as "#n"."""
    if text in known:
        return text
    if text.startswith("#") and text[1:].isdigit() and 1 <= int(text[1:]) <= len(known):
        return known[int(text[1:]) - 1]
    if closed or not text.isdigit():
        raise UsageError(f"no {what} {text!r}{nearest(text, known)}, or by position #1 to #{len(known)}")
    return text


def fingerprint(step: Step) -> dict[str, Any]:
    """Hashes of what a step depends on: its settings, the installed versions, and what it reads."""
    guests = {f"{point.dist.name} {point.dist.version}" for point in entry_points(group="sertk") if point.dist}
    versions = [*(f"{name} {version(name)}" for name in STACK), *sorted(guests)]
    needs = [_hashes(step.needs), _listing(step.folder) if step.folder else [], step.reads]
    return {"settings": digest([step.settings]), "versions": digest(versions), "needs": digest(needs)}


def fresh(step: Step) -> bool:
    """Whether a step was done with the same settings, versions and inputs, and its outputs are as it left them."""
    if not step.stamp.exists():
        return False
    try:
        old = json.loads(step.stamp.read_text(encoding="utf-8"))
    except ValueError:
        return False
    now = fingerprint(step)
    return all(old.get(name) == value for name, value in now.items()) and old.get("makes") == _hashes(step.makes)


def _hashes(paths: Iterable[Path]) -> list[str]:
    # without their paths: a work folder may be moved
    return [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths]


def _listing(root: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below a folder: cheap to take, and it changes when the corpus does."""
    files = ((path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file())
    return [(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in files]
