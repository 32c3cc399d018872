"""The pages of the papers name systems, sweeps, commands, classes and figures that exist."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

import sertk
from sertk.cli.app import app
from sertk.settings.packaged import egs

ROOT = Path(sertk.__file__).parents[1]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs/papers").glob("p?.md"))}
SYSTEMS = {path.stem for path in (ROOT / "sertk/settings/conf/systems").glob("*.yaml")}
SWEEPS = {f"{path.parts[-3]}/{path.stem}" for path in egs().glob("*/sweeps/*.yaml")}
PARTS = ["What the paper says", "Run it", "What was read into it", "What came out here", "Equations → code"]
FIGURE = re.compile(r"(?<![\w.])\d+\.\d+(?: ± \d+\.\d+)?(?!\w|\.\d)")
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")

pages = pytest.mark.parametrize("page", PAGES)


def spans(page: str) -> list[str]:
    """What stands in code font in the lines of a page, blocks left out."""
    return SPAN.findall(FENCE.sub("", PAGES[page]))


def commands(page: str) -> list[list[str]]:
    """The words of every command of sertk on a page, in lines and in blocks."""
    blocks = "".join(FENCE.findall(PAGES[page])).replace("\\\n", " ").splitlines()
    return [shlex.split(text) for text in spans(page) + blocks if text.startswith("sertk ")]


def home(name: str) -> str:
    """The page of a sweep or system."""
    stem = name.rpartition("/")[2]
    return "p4" if stem == "modalities" else stem.partition("-")[0]


def figures(text: str) -> set[str]:
    """The decimal figures of a text: means with their deviation, and each number."""
    whole = FIGURE.findall(text)
    return {number for figure in whole for number in (figure, *figure.split(" ± "))}


def test_there_is_a_page_for_each_paper_with_the_five_parts() -> None:
    assert list(PAGES) == ["p1", "p2", "p3", "p4", "p5"]
    for text in PAGES.values():
        assert re.findall(r"^## (.*)$", text, re.M) == PARTS


@pages
def test_every_sweep_of_a_paper_is_named_on_its_page_and_on_no_other(page: str) -> None:
    words = {word for text in [*spans(page), *map(shlex.join, commands(page))] for word in text.split()}
    assert words & SWEEPS == {name for name in SWEEPS if home(name) == page}


@pages
def test_every_system_that_is_named_exists_and_those_of_the_paper_are_all_there(page: str) -> None:
    words = {word for text in spans(page) for word in text.split() if "/" not in word}
    named = {word for word in words if re.fullmatch(r"(p\d|cnn|mini|text|whisper)-[a-z0-9-]+", word)}
    assert {name for name in SYSTEMS if home(name) == page} <= named
    # the sweep of a recipe that a line has named before is called without it
    assert named <= SYSTEMS | {name.rpartition("/")[2] for name in SWEEPS if home(name) == page}


@pages
def test_every_command_parses_and_runs_what_exists(page: str) -> None:
    group = typer.main.get_command(app)
    assert commands(page)
    for _, verb, *words in commands(page):
        with group.make_context("sertk", [verb]) as above:
            command = group.get_command(above, verb)  # type: ignore[attr-defined]
            assert command is not None, verb
            asked = command.make_context(verb, words, parent=above).params
        assert asked["name"] in SWEEPS if verb == "sweep" else (ROOT / asked["name"] / "recipe.yaml").is_file()
        assert asked.get("system") in {None, *SYSTEMS}


@pages
def test_every_file_and_class_that_is_named_exists(page: str) -> None:
    for text in spans(page):
        if text.startswith(("egs/", "sertk/")):
            assert (ROOT / text).exists(), text
        if re.fullmatch(r"[a-z_]+/p\d-[a-z0-9-]+|[a-z_]+/modalities", text):
            assert text in SWEEPS, text
        if text.startswith("sertk."):
            module, _, name = text.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name)), text


@pages
def test_every_figure_that_came_out_stands_in_the_published_results(page: str) -> None:
    part = PAGES[page].partition("## What came out here")[2].partition("\n## ")[0]
    files = [path for name in ("RESULTS", "SWEEPS") for path in egs().glob(f"*/{name}.md")]
    lines = [figures(line) for path in files for line in path.open()]
    for text in SPAN.sub("", FENCE.sub("", part)).splitlines():
        row = text.split("|")[2:]  # of a table, without the name of the row
        found = set(FIGURE.findall(" ".join(row) or text))
        for figure in found:
            beside = found - {figure} if row else found  # a row's figures are of one row there too
            assert any(figure in line and line & beside for line in lines), (figure, text)


@pages
def test_links_stay_inside_docs(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        assert target.startswith("http") or (ROOT / "docs/papers" / target).resolve().is_relative_to(ROOT / "docs")
        assert target.startswith("http") or (ROOT / "docs/papers" / target.partition("#")[0]).is_file(), target
