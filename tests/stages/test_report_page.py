"""report.html and compare.html: what stands in them, that they need nothing else, what is left out, how they look."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import UsageError
from sertk.core.files import write_json, write_jsonl
from sertk.stages.report import report

HOSTILE = "<b>&\"'$x$"
CLASSES = ["joy", HOSTILE, "a_rather_long_name_of_a_class"]
SPEAKERS, CLIPS, SEEDS = 24, 6, 2
SECTIONS = {
    "figures": "Figures",
    "confusion": "Confusion matrix",
    "recall": "Recall by class",
    "speakers": "Speakers",
    "groups": "Groups",
    "duration": "Duration",
    "calibration": "Calibration",
    "training": "Training",
    "listen": "Listen",
    "provenance": "Protocol, settings, versions",
}
VOID = {"meta", "link", "input", "br", "img", "path", "use", "rect"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Reads a page: its tags by name, its ids, its texts; and that what is opened is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} comes twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [own[name] or "" for _, own in self.tags if name in own]

    def section(self, anchor: str) -> str:
        """The source of a section."""
        return self.source.partition(f'<section id="{anchor}"')[2].partition("</section>")[0]


def clips(fold: int, seed: int, fewer: Mapping[int, int] = {}) -> list[dict[str, object]]:
    """Score lines: each speaker has each class twice; speaker n is wrong in the first n % 5 clips, or in fewer."""
    made = []
    for speaker in range(fold * SPEAKERS // 2, (fold + 1) * SPEAKERS // 2):
        for clip in range(CLIPS):
            label, wrong = clip % 3, clip < (speaker + seed) % 5 - fewer.get(speaker, 0)
            decision = (label + wrong) % 3
            sure = 0.5 if fewer and speaker == 23 else 0.4 + 0.02 * speaker + 0.001 * clip
            posterior = [sure if number == decision else (1 - sure) / 2 for number in range(3)]
            made.append(
                {
                    "id": f"{speaker}.{clip}",
                    "label": CLASSES[label],
                    "decision": CLASSES[decision],
                    "posterior": posterior,
                    "logits": posterior,
                    "speaker": f"{HOSTILE}{speaker}",
                    "gender": ("female", "male")[speaker % 2],
                    "seconds": 1.0 + clip,
                }
            )
    return made


BETTER = {**dict.fromkeys(range(SPEAKERS), 1), 7: 0, 3: -1}
"""A system that has a clip more right of each speaker, but of speaker 7 as many and of speaker 3 one fewer."""


def run(folder: Path, fold: int, seed: int, lines: list[dict[str, object]]) -> Path:
    """A scored run on disk."""
    out = folder / f"fold={fold}/seed={seed}"
    write_jsonl(out / "scores.jsonl", lines)
    counts = [[sum((a, b) == (one["label"], one["decision"]) for one in lines) for b in CLASSES] for a in CLASSES]
    protocol = {"corpus": "c", "name": "p", "fold": str(fold), "hash": "h", "part": "test"}
    protocol |= {"stamp": "speaker-independent", "shares": {"text": ["train+test"]}}
    trained = {"corpus": "c", "protocol": "p", "fold": str(fold), "hash": "h", "system": "s", "settings": "x"}
    about = {"protocol": protocol, "trained": {**trained, "seed": seed}, "utterances": len(lines)}
    write_json(out / "metrics.json", {**about, "classes": CLASSES, "confusion": counts})
    return out


def rich(folder: Path, fewer: Mapping[int, int] = {}, epochs: int = 4321) -> Path:
    """A system with everything: two folds, seeds, speakers, durations, logs and settings."""
    for fold in range(2):
        for seed in range(SEEDS):
            out = run(folder, fold, seed, clips(fold, seed, fewer))
            write_jsonl(
                out / "log.jsonl",
                [
                    {"epoch": epoch, "train_loss": 2 / epoch, "dev_loss": 3 / epoch, "dev": 0.1 * epoch}
                    for epoch in range(1, 5 + seed)
                ],
            )
            (out / "config.yaml").write_text(
                "fold: '1'\njobs: 7\nbackbone: {name: <i>}\n"
                f"train: {{batch: 32, epochs: {epochs}, metric: {{name: ua}}}}\n"
            )
    return folder


def corpus(folder: Path) -> Path:
    """A prepared corpus with the files of all but one of the utterances, and a ledger of two looks."""
    root, data = folder / "the corpus #1", folder / "data/c"
    lines = [{"id": one["id"], "path": f"{one['id']}.wav"} for fold in range(2) for one in clips(fold, 0)]
    root.mkdir()
    for one in lines[:-1]:
        soundfile.write(root / one["path"], np.zeros(8000), 16000)
    facts = {"sha256": "0", "seconds": 1.0, "rate": 16000, "channels": 1, "size": 4, "mtime": 0, "silent": False}
    cut = {"start": 2.5, "asked": 1.25}
    write_json(data / "corpus.json", {"corpus": "c", "root": str(root)})
    write_jsonl(data / "manifest.jsonl", [{"schema": 1, **one, "speaker": "unknown", "label": "joy"} for one in lines])
    write_jsonl(
        data / "audio.jsonl",
        [{**one, **facts, **(cut if one["id"] == "22.0" else {"start": 0.0, "asked": None})} for one in lines],
    )
    looks = [{"hash": "h", "settings": name, "trained": "h"} for name in ("x", "y", "x")]
    write_jsonl(data / "ledger.jsonl", looks)
    return data


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported system with everything; its tests change nothing."""
    folder = tmp_path_factory.mktemp("page")
    data = corpus(folder)
    done = CliRunner().invoke(app, ["report", str(rich(folder / "exp/p/s")), "--data", str(data)])
    assert done.exit_code == 0, done.output
    return folder / "exp/p/s"


def test_the_page_has_every_section_and_is_one_file_that_needs_no_network(system: Path) -> None:
    page = Page(system / "report.html")
    titles = {own["id"]: own for tag, own in page.tags if tag == "section"}
    assert list(titles) == list(SECTIONS)
    assert all(title in page.text for title in SECTIONS.values())
    assert "Left out" not in page.text
    assert page.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//www|@import|url\((?!#)", page.source)
    links = {value for name in ("href", "src") for value in page.values(name)}
    files = [one for one in links if not one.startswith(("#", "data:,", "../"))]
    assert all((system / one).is_file() for one in files)
    assert len(page.source) < 5_000_000


def test_the_page_is_sound_html(system: Path) -> None:
    page = Page(system / "report.html")
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    named = [*page.values("for"), *page.values("aria-labelledby")]
    named += [one[1:] for one in page.values("href") if one.startswith("#")]
    named += re.findall(r"url\(#([^)]*)\)", page.source)
    assert set(named) <= set(ids)
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    drawn = [own for _, own in page.tags if own.get("role") == "img"]
    assert len(drawn) == 6  # recall, speakers, duration, reliability, loss, score
    assert all(own["aria-label"] for own in drawn)


def test_names_of_users_are_text_and_nothing_else(system: Path) -> None:
    page = Page(system / "report.html")
    assert not {"b", "i"} & {tag for tag, _ in page.tags}
    assert f"label {HOSTILE}" in page.text
    assert f"speaker {HOSTILE}23" in page.text
    assert page.text.count(f"{HOSTILE} (96)") == 0  # 24 speakers x 2 clips, of one seed
    assert f"{HOSTILE} (48)" in page.text  # in the drawing
    assert "backbone.name <i>" in page.text


def test_each_figure_is_written_for_papers_too(system: Path) -> None:
    heads = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    names = ("confusion", "recall", "speakers", "duration", "reliability", "loss", "score")
    assert {one.name for one in (system / "figures").iterdir()} == {f"{n}.{kind}" for n in names for kind in heads}
    for kind, head in heads.items():
        assert (system / f"figures/recall.{kind}").read_bytes().startswith(head)


def test_the_figures_are_those_of_the_text(system: Path) -> None:
    page, text = Page(system / "report.html"), (system / "RESULTS.md").read_text()
    for line in text.splitlines():
        if line.startswith(("- UA: pooled", "Intervals are of", "| pooled", "| gender female", "The speakers' UA")):
            assert " ".join(re.findall(r"[^|\s]+", line.removeprefix("- "))) in page.text, line
    # of joy are 24 x 2 clips and two seeds; wrong is clip 0 where (n + seed) % 5 > 0 and clip 3 where it is > 3:
    # 24 - 5 and 4 of seed 0, 24 - 4 and 5 of seed 1
    row = re.findall(r'<th scope="row">joy</th>(.*)', page.source)[0]
    assert re.findall(r'"count">(\d+)', row) == ["48", "48", "0"]
    assert re.findall(r'"percent">([\d.]+)', row) == ["50.0", "50.0", "0.0"]


def test_settings_that_differ_are_told_and_the_looks_at_the_test(system: Path) -> None:
    section = Page(system / "report.html").section("provenance")
    assert "<code>train.epochs</code></td><td>4321</td>" in section
    assert "train.batch" not in section  # at its default
    assert "jobs" not in section  # no part of what a run is
    said = (
        "looks at this test: at least 2 different settings have been scored on this test (ledger.jsonl of the corpus)"
    )
    assert said in section
    assert f"- {said}; copies of the corpus and deleted folders" in (system / "RESULTS.md").read_text()
    assert "speaker-independent (text shared by train+test), part test, hash <code>h</code>" in section


def test_the_surest_wrong_and_the_least_sure_right_decisions_can_be_heard(system: Path) -> None:
    section = Page(system / "report.html").section("listen")
    wrong, right = section.split("<h3>")[1:]
    # speakers 23, 22, 21 have 3 or 4, 2 or 3, 1 or 2 wrong clips by seed; each clip comes once
    ids = re.findall(r"<code>([\d.]+)</code>", wrong)
    assert ids[:7] == ["23.3", "23.2", "23.1", "23.0", "22.2", "22.1", "22.0"]
    assert len(ids) == len(re.findall("<li>", right)) == 10
    assert 'src="../../../the%20corpus%20%231/23.3.wav"' in wrong
    assert 'src="../../../the%20corpus%20%231/22.0.wav#t=2.500,3.750"' in wrong
    assert section.count('<audio controls preload="none"') == 20
    assert "0.86, label <strong>joy" in wrong  # 0.4 + 0.02 x 23 + 0.003
    assert (
        '<p class="small">&lt;b&gt;&amp;&#34;&#39;$x$ 0.86, joy 0.07, a_rather_long_name_of_a_class 0.07</p>' in wrong
    )


def test_what_is_not_known_is_told_and_not_passed_over(tmp_path: Path) -> None:
    bare = [{word: one[word] for word in ("id", "label", "decision", "posterior", "logits")} for one in clips(0, 0)]
    run(tmp_path / "s", 0, 0, bare)
    (path,) = report([tmp_path / "s"])
    page = Page(path.with_name("report.html"))
    said = {anchor: page.section(anchor) for anchor in SECTIONS}
    assert "No intervals: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["figures"]
    assert "Left out: the intervals. &#39;0.0&#39;" in said["recall"]
    assert "<svg" in said["recall"]
    assert "Left out: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["speakers"]
    assert "Left out: no speaker is known" in said["groups"]
    assert "has no speaker" in said["duration"]
    assert "Left out: no run has a log.jsonl" in said["training"]
    assert "Left out: the sound. Give the prepared corpus" in said["listen"]
    assert "<audio" not in page.source
    assert "Left out: the settings. No run has a config.yaml" in said["provenance"]
    assert "looks at this test" not in page.source


def test_few_speakers_a_missing_file_and_a_log_without_dev_are_told(tmp_path: Path) -> None:
    lines = [one for one in clips(1, 0) if str(one["id"]).startswith(("23", "22"))]
    out = run(tmp_path / "s", 1, 0, [{**one, "seconds": 2.0} for one in lines])
    write_jsonl(out / "log.jsonl", [{"epoch": 1, "train_loss": 1.5, "dev_loss": None, "dev": None}])
    data = corpus(tmp_path)
    (data / "ledger.jsonl").unlink()
    (path,) = report([tmp_path / "s"], data=data)
    page = Page(path.with_name("report.html"))
    assert "2 speakers are too few, at least 6 are needed" in page.section("recall")
    assert "all utterances are of one duration" in page.section("duration")
    assert "No sound: its file is not where it was prepared." in page.section("listen")  # 23.5
    assert "Left out: a dev score" in page.section("training")
    assert "ledger.jsonl of the corpus has none" in page.section("provenance")


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    write_json(data / "corpus.json", {"corpus": "d", "root": str(tmp_path)})
    run(tmp_path / "s", 0, 0, clips(0, 0))
    with pytest.raises(UsageError, match=r"data/c is d, and the scores are of c\."):
        report([tmp_path / "s"], data=data)
    assert not (tmp_path / "s/RESULTS.md").exists()


def test_the_corpus_adds_one_line_to_the_text(system: Path, tmp_path: Path) -> None:
    (path,) = report([rich(tmp_path / "s")])
    told = [line for line in (system / "RESULTS.md").read_text().splitlines() if not line.startswith("- looks")]
    assert told == path.read_text().splitlines()


# --- two systems -----------------------------------------------------------------------------------------------------


def compare(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, words)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two systems; its tests change nothing."""
    folder = tmp_path_factory.mktemp("pair")
    base, other = rich(folder / "exp/p/base"), rich(folder / f"exp/p/{HOSTILE}", BETTER, epochs=9)
    compare(base, other, "--page", folder / "page", "--data", corpus(folder))
    return folder / "page"


PAIR = ("figures", "differences", "speakers", "recall", "listen", "provenance")
DRAWN = ("compare-ua", "compare-differences", "compare-speakers-1", "compare-recall")


def test_the_page_of_two_systems_is_one_sound_file_beside_its_figures_and_its_text(pair: Path) -> None:
    page = Page(pair / "compare.html")
    assert tuple(own["id"] for tag, own in page.tags if tag == "section") == PAIR
    assert "Left out" not in page.text
    assert not {"script", "iframe", "object", "b", "i"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//www|@import|url\((?!#)", page.source)
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    links = {value for name in ("href", "src") for value in page.values(name)}
    assert all((pair / one).is_file() for one in links if not one.startswith(("#", "data:,", "../")))
    assert {one.name for one in pair.iterdir()} == {"compare.html", "compare.md", "figures"}
    kinds = ("png", "svg", "pdf")
    assert {one.name for one in (pair / "figures").iterdir()} == {f"{n}.{kind}" for n in DRAWN for kind in kinds}
    assert "Made by sertk compare" in page.text


def test_the_page_tells_the_difference_with_its_interval_and_the_verdict(pair: Path) -> None:
    page, text = Page(pair / "compare.html"), (pair / "compare.md").read_text()
    # of 48 clips of a class and a seed: 8, 4, 4 more are right in seed 0 and 9, 4, 4 in seed 1: 33 / (2 x 144)
    (row,) = re.findall(r"\+11\.5 UA, 95 % [\d.]+ to [\d.]+ by 24 speakers: apart", text)
    assert row in page.section("differences")
    assert row not in page.section("figures")
    assert "Holm&#39;s adjustment is over one difference" in page.section("differences")
    assert "| 95 % by 24 speakers |" in text
    assert "95 % by 24 speakers" in page.section("figures")


def test_each_speaker_is_better_or_worse_by_the_other_system(pair: Path) -> None:
    section = Page(pair / "compare.html").section("speakers")
    assert "It is for 22 of them, worse for 1 and the same for 1." in section
    named = [name for name in range(SPEAKERS) if f">&lt;b&gt;&amp;\"'$x${name}<" in section]
    assert len(named) == 3  # those farthest from the diagonal


def test_classes_stand_beside_each_other(pair: Path) -> None:
    section = Page(pair / "compare.html").section("recall")
    assert f"{HOSTILE} (48)".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in section
    assert "with its 95 % interval" in section
    assert ">base<" in section  # in the legend


def test_what_one_has_right_and_the_other_wrong_is_heard_first_where_both_are_sure(pair: Path) -> None:
    section = Page(pair / "compare.html").section("listen")
    better, worse = section.split("<h3>")[1:]
    assert better.startswith("&lt;b&gt;&amp;&#34;&#39;$x$ is right, base is wrong</h3>")
    # of speaker 23 the other system is sure by 0.5 alone: so 22 comes first, and 23 is not among the ten
    ids = ["22.2", "22.1", "21.1", "21.0", "20.0", "19.3", "18.3", "18.2", "17.2", "17.1"]
    assert re.findall(r"<code>([\d.]+)</code>", better) == ids
    assert re.findall(r"<code>([\d.]+)</code>", worse) == ["3.4", "3.3"]
    assert 'src="../the%20corpus%20%231/22.2.wav"' in better
    first = " ".join(re.sub(r"<[^>]*>", " ", better.partition("</li>")[0]).split())
    # clip 2 is of class 2, which base takes for joy
    long = CLASSES[2]
    assert f"{long} 0.84 by &lt;b&gt;&amp;&#34;&#39;$x$, label {long} {long} 0.84, joy 0.08" in first
    assert f"joy 0.84 by base joy 0.84, &lt;b&gt;&amp;&#34;&#39;$x$ 0.08, {long} 0.08" in first


def test_the_settings_in_which_systems_differ_and_the_command_are_told(pair: Path) -> None:
    section = Page(pair / "compare.html").section("provenance")
    assert "<td><code>train.epochs</code></td><td>4321</td><td>9</td>" in section
    assert "backbone" not in section
    assert "exp/p/base" in section
    assert f"--page {pair} --data" in section
    assert "versions: sertk" in section


def test_a_pair_of_unknown_speakers_and_of_few_says_what_is_left_out(tmp_path: Path) -> None:
    bare = [{word: value for word, value in one.items() if word != "speaker"} for one in clips(0, 0)]
    for name in ("x", "y"):
        run(tmp_path / name, 0, 0, bare)
    compare(tmp_path / "x", tmp_path / "y", "--page", tmp_path / "page")
    said = {anchor: Page(tmp_path / "page/compare.html").section(anchor) for anchor in PAIR}
    assert "No intervals: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["figures"]
    assert "Left out: nothing can be drawn" in said["differences"]
    assert "Left out: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["speakers"]
    assert "Left out: the intervals. &#39;0.0&#39;" in said["recall"]
    assert "<svg" in said["recall"]
    assert "Left out: the sound" in said["listen"]
    assert said["listen"].count("<p>There are none.</p>") == 2
    assert "Left out: the settings of x, y" in said["provenance"]
    few = [one for one in clips(1, 0) if str(one["id"]).startswith(("23", "22"))]
    for name, change in (("v", {}), ("w", {23: 1})):
        run(tmp_path / name, 1, 0, [one for one in clips(1, 0, change) if one["id"] in {own["id"] for own in few}])
    compare(tmp_path / "v", tmp_path / "w", "--page", tmp_path / "few")
    page = Page(tmp_path / "few/compare.html")
    assert "2 speakers are too few, at least 6 are needed" in page.section("figures")
    # speaker 23 has 3 of 6 clips wrong, then 2: clip 2 is of a class of two clips, so the class gains 1/2 and UA 1/6
    assert f"{HOSTILE}22 +0.0, {HOSTILE}23 +16.7" in (tmp_path / "few/compare.md").read_text()
    assert "95 % interval" not in page.section("differences")
    assert "<svg" in page.section("differences")


def test_one_system_alone_and_the_sound_without_a_page(tmp_path: Path) -> None:
    run(tmp_path / "x", 0, 0, clips(0, 0))
    compare(tmp_path / "x", "--page", tmp_path / "page")
    page = Page(tmp_path / "page/compare.html")
    assert all("Left out: there is one system." in page.section(one) for one in ("differences", "speakers", "listen"))
    data = corpus(tmp_path)
    assert "Give its folder too: --page FOLDER" in compare(tmp_path / "x", "--data", data, code=2)
    write_json(data / "corpus.json", {"corpus": "d", "root": str(tmp_path)})
    said = compare(tmp_path / "x", "--data", data, "--page", tmp_path / "other", code=2)
    assert "is d, and the scores are of c." in said
    assert not (tmp_path / "other").exists()


def test_many_systems_are_drawn_in_part_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sertk.results.pair_page.SHOWN", 2)
    for number in range(5):
        run(tmp_path / f"s{number}", 0, 0, clips(0, 0, {number: 1}))
    compare(*(tmp_path / f"s{number}" for number in range(5)), "--baseline", "s1", "--page", tmp_path / "page")
    page = Page(tmp_path / "page/compare.html")
    for anchor in ("speakers", "recall", "listen"):
        assert "The baseline and 2 others are drawn; in the tables alone: s3, s4." in page.section(anchor)
    assert page.section("speakers").count("<figure>") == 2
    assert page.section("listen").count("<h3>") == 4
    assert ">s4<" in page.section("differences")
    assert "--baseline s1" in page.section("provenance")


# --- how it looks ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow_or_error(system: Path, tmp_path: Path, width: int, dark: bool) -> None:
    found = shown(system / "report.html", tmp_path, width, dark=dark)
    check_look(found, width, dark=dark)
    assert found["cells"] == {"percent": "inline", "count": "none"}
    assert found["chosen"] == {"percent": "none", "count": "inline"}
    assert found["players"] == 20


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_two_systems_without_overflow_or_error(
    pair: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    found = shown(pair / "compare.html", tmp_path, width, dark=dark)
    check_look(found, width, dark=dark)
    assert found["players"] == 12


def check_look(found: Mapping[str, object], width: int, *, dark: bool) -> None:
    """Whether a page fits, has no error, plays its first file, and is light or dark."""
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["errors"] == []
    assert found["wide"] == []  # what sticks out without a box that scrolls
    assert found["seconds"] == 0.5  # the first of them has found its file
    light = sum(map(int, re.findall(r"\d+", str(found["ground"]))[:3])) > 382
    assert light is not dark
    assert found["ink"] == found["text"]  # drawings have the colour of the text


LOOK = """
<script>
const errors = []; addEventListener("error", event => errors.push(String(event.message || event.target.tagName)), true);
addEventListener("load", () => {
  const root = document.documentElement, style = one => getComputedStyle(one);
  const seen = () => Object.fromEntries(
    [...document.querySelectorAll("td .percent, td .count")].map(one => [one.className, style(one).display]));
  const cells = seen();
  const wide = [...document.querySelectorAll("main *")].filter(one => !one.closest(".scroll") && !one.closest("svg")
    && one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 80));
  document.getElementById("as-counts")?.click();
  const player = document.querySelector("audio");
  parent.postMessage(JSON.stringify({seconds: player.duration, inner: innerWidth,
    scroll: root.scrollWidth, errors, cells, wide, chosen: seen(),
    players: document.querySelectorAll("audio[src]").length, ground: style(document.body).backgroundColor,
    ink: style(document.querySelector("svg text")).fill, text: style(document.body).color}), "*");
});
</script>
"""


def shown(page: Path, folder: Path, width: int, *, dark: bool) -> dict[str, object]:
    """What a browser makes of the page in a frame of some width: a window of its own is never narrower than 500."""
    copy = page.with_name(f"look-{width}-{dark}.html")
    text = page.read_text().replace("<style>", f"{LOOK}<style>", 1)
    copy.write_text(text.replace('preload="none"', 'preload="metadata"', 1))  # then it is loaded when the page is
    frame = folder / "frame.html"
    frame.write_text(
        "<!DOCTYPE html><body style='margin:0'><pre id=found></pre><script>addEventListener('message', "
        "event => { document.getElementById('found').textContent = event.data })</script>"
        f"<iframe src='{copy.as_uri()}' style='border:0;width:{width}px;height:900px'></iframe>"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme, "--window-size=1400,900"]
    profile = f"--user-data-dir={folder / 'profile'}"
    made = [CHROMIUM, *words, profile, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(made, capture_output=True, text=True, timeout=120, check=True)
    copy.unlink()
    assert "CONSOLE" not in done.stderr
    found = re.search(r"<pre id=\"found\">(.*?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:500]
    answer: dict[str, object] = json.loads(found[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
    return answer
