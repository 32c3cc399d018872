"""A call with nothing to do answers without torch, in the ordinary words; after any change it goes the ordinary way."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from sertk.builtin.launchers import Local
from sertk.cli.app import app
from sertk.recipe import look, quick, runner
from sertk.testing import tone_corpus

WORDS = ("recipe", "recipe", "--root", "corpus", "--work", "work", "--trust")
STAGES = ("prepare", "featurize", "train", "score", "report")
RUN, DATA = "work/exp/mine/own/fold=1/seed=0", "work/data/ravdess"
PLUGIN = """
from sertk.builtin.features.spectral import Mel
from sertk.hookspecs import hookimpl


class Placed(Mel):
    places = ("source", "other")

    def __init__(self, rate: int, source: str | None = None, other: str | None = None) -> None:
        super().__init__(rate, n_mels=40)

    def portable(self):
        return {"source": None, "other": None}


@hookimpl
def sertk_features():
    return {"placed": Placed}
"""
MINE = """
labels: {neutral: neutral, happiness: happiness, sadness: sadness}
test: {rule: stratified, k: 2}
dev: {rule: share, percent: 25}
overlaps: {speaker: [train+dev, train+test, dev+test], text: [train+dev, train+test, dev+test]}
"""
OWN = """
inputs: {mel: {name: placed, source: checkpoint, other: nobody/nothing}}
backbone: {name: cnn_transformer, channels: [4, 8], pools: [[2, 2], [2, 2]], token_pool: [5, 1], layers: 1, ffn: 8}
pooling: {name: mean}
losses: [{name: ce}]
train: {batch: 16, epochs: 1, threads: 1}
"""


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where a recipe ran; of everything that a plan reads there is one."""
    folder = tmp_path_factory.mktemp("quick") / "world"
    for name in ("recipe", "code", "checkpoint", "hub/models--nobody--nothing/refs"):
        (folder / name).mkdir(parents=True)
    tone_corpus(folder / "tones", speakers=6, per_class=2, emotions=("neutral", "happiness", "sadness"), seconds=0.2)
    (folder / "corpus").symlink_to("tones")
    (folder / "recipe/recipe.yaml").write_text(
        "corpus: ravdess\nprotocol: mine.yaml\nsystem: recipe/own.yaml\n"
        "folds: ['1']\nseeds: [0]\nplugins: [placed.py]\n"
    )
    (folder / "recipe/mine.yaml").write_text(MINE)
    (folder / "recipe/own.yaml").write_text(OWN)
    for name in ("code/placed.py", "code/other.py"):
        (folder / name).write_text(PLUGIN)
    (folder / "recipe/placed.py").symlink_to("../code/placed.py")
    (folder / "checkpoint/config.json").write_text("{}")
    (folder / "hub/models--nobody--nothing/refs/main").write_text("0" * 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = cli(*WORDS)
        assert done.exit_code == 0, done.output
    return Path(shutil.copytree(folder, folder.with_name("kept"), symlinks=True))


@pytest.fixture
def world(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the recipe ran, as it was then; the test is in it, as a process that begins now."""
    folder = kept.with_name("world")
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    begin(monkeypatch)
    return folder


def begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after this is after the process began, by the clock of the file system too."""
    monkeypatch.setattr(quick, "BEGAN", time.time_ns())
    time.sleep(0.02)


def said(result: Result) -> list[str]:
    """The lines without the time of day."""
    return [line.split(" ", 2)[2] for line in result.stderr.splitlines()]


@pytest.fixture
def ordinary(world: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Leaves a record; then tells whether a call goes the ordinary way."""
    first = cli(*WORDS)
    assert first.exit_code == 0, first.output
    assert said(first) == [f"{stage}: 1 of 1 up to date, skipped" for stage in STAGES]
    asked: list[object] = []

    def noted(*words: object) -> int:
        asked.append(words)
        return 0

    def ask(*more: object) -> bool:
        asked.clear()
        done = cli(*WORDS, *more)
        assert done.exit_code == 0, done.output
        assert bool(asked) or said(done) == said(first)
        return bool(asked)

    monkeypatch.setattr(runner, "run", noted)
    return ask


def test_the_second_call_imports_no_torch_and_says_what_the_first_said(world: Path) -> None:
    assert cli(*WORDS, "--dry-run").stdout == ""
    program = [sys.executable, "-X", "importtime", "-m", "sertk", *WORDS]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    lines = []
    for torch in (True, False):
        done = subprocess.run(program, capture_output=True, text=True, check=True, env=env)
        imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
        assert ("torch" in imported) is torch
        assert torch or not imported & {"numpy", "sertk.core", "sertk.plugins", "speechbrain", "transformers"}
        lines.append([one.split(" ", 2)[2] for one in done.stderr.splitlines() if "up to date" in one])
    assert lines[0] == lines[1] == [f"{stage}: 1 of 1 up to date, skipped" for stage in STAGES]


def test_a_call_that_did_something_leaves_a_record_too(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree("work/exp")
    assert cli(*WORDS, "--stop-stage", 4).exit_code == 0
    monkeypatch.setattr(runner, "run", None)
    again = cli(*WORDS, "--stop-stage", 4)
    assert again.exit_code == 0, again.output
    assert said(again) == [f"{stage}: 1 of 1 up to date, skipped" for stage in STAGES[:4]]


def edit(name: str, old: str = "", new: str = "# \n") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def add(name: str) -> Callable[[Path], object]:
    def made(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("new")

    return made


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def touch(pattern: str) -> Callable[[Path], object]:
    return lambda folder: os.utime(next(iter(sorted(folder.glob(pattern)))))


def lead_elsewhere(name: str, target: str) -> Callable[[Path], object]:
    def led(folder: Path) -> None:
        if not (folder / target).exists():
            shutil.copytree(folder / name, folder / target)  # of the same names, sizes and times
        (folder / name).unlink()
        (folder / name).symlink_to((folder / target).resolve())

    return led


CHANGES = {
    "another fold": edit("recipe/recipe.yaml", "['1']", "['2']"),
    "another seed": edit("recipe/recipe.yaml", "[0]", "[1]"),
    "the system": edit("recipe/own.yaml"),
    "the protocol": edit("recipe/mine.yaml"),
    "a plugin file": edit("code/placed.py"),
    "a plugin file's link": lead_elsewhere("recipe/placed.py", "code/other.py"),
    "audio": touch("tones/*/*.wav"),
    "an audio file more": add("tones/Actor_01/new.wav"),
    "an audio file less": lambda folder: next(folder.glob("tones/*/*.wav")).unlink(),
    "the corpus' link": lead_elsewhere("corpus", "elsewhere"),
    "a checkpoint": edit("checkpoint/config.json", "{}", "{ }"),
    "a file more of a checkpoint": add("checkpoint/model.safetensors"),
    "a checkpoint's name as a folder here": add("nobody/nothing/config.json"),
    "a checkpoint's copy of the hub": edit("hub/models--nobody--nothing/refs/main", "0", "1"),
    "what is known of the corpus": touch(f"{DATA}/corpus.json"),
    "the folds": touch(f"{DATA}/protocols/mine.json"),
    "the manifest": edit(f"{DATA}/manifest.jsonl", "{", " {"),
    "a stamp": drop(f"{RUN}/.score.json"),
    "the features": touch(f"{DATA}/feats/*/index.jsonl"),
    "the model": touch(f"{RUN}/model/model.safetensors"),
    "the scores": edit(f"{RUN}/scores.jsonl", "}", "} "),
    "the metrics": drop(f"{RUN}/metrics.json"),
    "the results": drop("work/exp/mine/own/RESULTS.md"),
    "the record": lambda folder: next(folder.glob("work/exp/.nothing-*")).write_text("{"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_goes_the_ordinary_way(world: Path, ordinary: Callable[..., bool], change: str) -> None:
    assert not ordinary()
    CHANGES[change](world)
    assert ordinary()


@pytest.mark.parametrize(
    "more",
    [
        ("--seed", 1),
        ("--fold", "#2"),
        ("--tag", "x"),
        ("--stage", 3),
        ("--stop-stage", 3),
        ("--set", "train.batch=8"),
        ("--device", "cpu"),
        ("--force",),
        ("--dry-run",),
        ("--publish",),
    ],
)
def test_other_options_go_the_ordinary_way(ordinary: Callable[..., bool], more: tuple[object, ...]) -> None:
    assert not ordinary()
    assert ordinary(*more)


@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "RANK"])
def test_variables_that_matter_go_the_ordinary_way(
    ordinary: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("NOBODYS_BUSINESS", "1")
    assert not ordinary()
    monkeypatch.setenv(name, "7")
    assert ordinary()


def test_another_working_folder_goes_the_ordinary_way(
    world: Path, ordinary: Callable[..., bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("recipe", "work"):
        (tmp_path / name).symlink_to(world / name)
    monkeypatch.chdir(tmp_path)  # where `--root corpus` is nothing
    assert ordinary()


def test_an_upgraded_torch_goes_the_ordinary_way(
    ordinary: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(look, "version", lambda name: "99.0" if name == "torch" else real(name))
    assert ordinary()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_new_guest_and_a_new_version_of_one_go_the_ordinary_way(
    world: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, version: str
) -> None:
    site = world / "site"
    site.mkdir()

    def install(number: str) -> None:
        shutil.rmtree(site)
        about = site / f"guest-{number}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: guest\nVersion: {number}\n")
        (about / "entry_points.txt").write_text("[sertk]\nguest = guest_of_sertk\n")
        (site / "guest_of_sertk.py").write_text(
            "from sertk.hookspecs import hookimpl\n@hookimpl\ndef sertk_metrics():\n    return {}\n"
        )
        look.guests.cache_clear()

    monkeypatch.syspath_prepend(site)
    if version != "1.2":
        install("1.2")
        begin(monkeypatch)
    monkeypatch.setattr("sertk.recipe.freshness._versions", lambda: json.loads(first.read_text())["versions"])
    first = world / RUN / ".train.json"
    ordinary = request.getfixturevalue("ordinary")
    assert not ordinary()
    install(version)
    assert ordinary()
    look.guests.cache_clear()


def test_edited_code_of_sertk_goes_the_ordinary_way(
    world: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    module = ModuleType("sertk.nothing")
    module.__file__ = str(world / "nothing.py")
    (world / "nothing.py").write_text("A = 1\n")
    monkeypatch.setitem(sys.modules, "sertk.nothing", module)
    begin(monkeypatch)
    ordinary = request.getfixturevalue("ordinary")
    assert not ordinary()
    (world / "nothing.py").write_text("A = 2\n")
    assert ordinary()


@pytest.mark.parametrize("name", [f"{RUN}/model/README", "work/exp/note", "recipe/README.md", f"{RUN}/log.jsonl"])
def test_what_nothing_depends_on_is_no_change(world: Path, ordinary: Callable[..., bool], name: str) -> None:
    add(name)(world)
    assert not ordinary()


@pytest.mark.parametrize("name", ["recipe/recipe.yaml", "recipe/own.yaml", "code/placed.py", "checkpoint/config.json"])
def test_a_call_while_which_an_input_was_changed_leaves_no_record(world: Path, name: str) -> None:
    os.utime(world / name)
    assert cli(*WORDS).exit_code == 0
    assert not list(world.glob("work/exp/.nothing-*"))


def test_a_call_while_which_what_a_stage_read_was_changed_leaves_no_record(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Local._run

    def meddle(self: Local, commands: list[list[str]]) -> list[int]:
        edit(f"{DATA}/audio.jsonl", "{", " {")(world)
        return run(self, commands)

    monkeypatch.setattr("sertk.builtin.launchers.Local._run", meddle)
    drop("work/exp/mine/own/RESULTS.md")(world)
    assert cli(*WORDS).exit_code == 0
    assert (world / "work/exp/mine/own/RESULTS.md").is_file()
    assert not list(world.glob("work/exp/.nothing-*"))


def test_a_folder_that_takes_no_record_is_no_fault(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sertk.core.files.tempfile.mkstemp", refuse)
    assert cli(*WORDS).exit_code == 0
    assert not list(world.glob("work/exp/.nothing-*"))


def test_our_own_commands_do_not_look_for_those_of_guests(
    ordinary: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sertk.cli.group.entry_points", None)
    assert not ordinary()


def test_a_listing_is_by_names_sizes_and_times_in_the_order_of_paths(tmp_path: Path) -> None:
    for name, text in (("a-b/x", "1"), ("a/b/x", "22"), ("a/z", "333"), (".hidden", "4444"), ("b", "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, ns=(0, 1000 + len(text)))
    (tmp_path / "link").symlink_to("a/z")
    (tmp_path / "loop").symlink_to("a")
    (tmp_path / "nowhere").symlink_to("gone")
    assert look.listing(tmp_path) == [
        (".hidden", 4, 1004),
        ("a/b/x", 2, 1002),
        ("a/z", 3, 1003),
        ("a-b/x", 1, 1001),
        ("b", 0, 1000),
        ("link", 3, 1003),
    ]
    assert look.listing(tmp_path / "none") == []
