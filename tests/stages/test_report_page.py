"""report.html and compare.html: what stands in them, that they need nothing else, what is left out, how they look."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.core import SertkError, UsageError
from sertk.core.files import embeddings_file, json_bytes, write_json, write_jsonl
from sertk.results.drawing import FORMATS
from sertk.scoring.embeddings import write
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
    "embeddings": "Embeddings",
    "listen": "Listen",
    "audit": "Audit of the protocol",
    "provenance": "Protocol, settings, versions",
}
VOID = {"meta", "link", "input", "br", "img", "path", "use", "rect"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has the SVG alone of each drawing; that the other formats are written is seen elsewhere."""
    for one in ("pdf", "png"):
        monkeypatch.delitem(FORMATS, one)


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


def embedded(path: Path, lines: list[dict[str, object]], bundle: str = "b") -> None:
    """Score lines on disk with embeddings: of joy near (9, 0, 0, 0), of the next class (0, 9, 0, 0), and so on."""
    rows = []
    for number, one in enumerate(lines):
        row = [9.0 * (CLASSES[place : place + 1] == [one["label"]]) for place in range(4)]
        row[3] = number % 7 / 7
        rows.append((json_bytes(one, ""), struct.pack("<4f", *row)))
    path.write_bytes(b"".join(write(rows, embeddings_file(path), bundle)))


def rich(folder: Path, fewer: Mapping[int, int] = {}, epochs: int = 4321) -> Path:
    """A system with everything: two folds, seeds, speakers, durations, logs, settings, and embeddings of a run."""
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
    embedded(folder / "fold=0/seed=0/scores.jsonl", clips(0, 0, fewer))
    embedded(folder / "fold=0/seed=0/train.jsonl", clips(1, 0)[:30])
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
    part = {"utterances": 5, "classes": {"joy": 5}, "genders": {"female": 5}, "speakers": ["ann"]}
    shared = {"speaker": {}, "session": {}, "audio": {}, "text": {"train+test": ["it is", "eleven"]}}
    fold = {"shared": shared, "counts": {"train": {**part, "utterances": 77}, "test": part}}
    content = {"corpus": "c", "name": "p", "hash": "h", "stamp": "speaker-independent", "about": "Two folds."}
    content |= {"classes": ["joy"], "labels": {"1.0": "joy"}, "expected": {"joy": 3}, "audit": {"0": fold, "1": fold}}
    write_json(data / "protocols/p.json", {**content, "dropped": [{"id": "9", "reason": "it has no label"}]})
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
    # recall, speakers, duration, reliability, coverage, loss, score, t-SNE and PCA by distance and angle
    assert len(drawn) == 11
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
    names = ["confusion", "recall", "speakers", "duration", "reliability", "coverage", "loss", "score"]
    names += ["tsne", "tsne-angle", "pca", "pca-angle"]
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


def test_accuracy_is_told_where_the_model_abstains(system: Path) -> None:
    section = Page(system / "report.html").section("calibration")
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)]
    # surer is who comes later: of speakers 12 to 23, 25 and 27 of 72 clips of the two seeds are wrong, of all 46 and 50
    assert ["100 %", "100.0 %", "0.400000", "66.67", "66.67"] in rows
    assert ["50 %", "50.0 %", "0.640000", "63.89", "63.89"] in rows
    assert [row[0] for row in rows if row] == ["100 %", "90 %", "80 %", "70 %", "50 %"]
    assert "temperature" not in section
    assert "no utterance" not in section


def test_temperatures_and_classes_that_are_never_decided_are_told(tmp_path: Path) -> None:
    for fold, temperature in enumerate((1.5, None)):
        lines = clips(fold, 0)
        for one in lines:
            sure = 0.5 if one["label"] == CLASSES[2] else 0.9
            one["posterior"] = [sure if name == one["decision"] else (1 - sure) / 2 for name in CLASSES]
        path = run(tmp_path / "s", fold, 0, lines[:9]) / "metrics.json"
        about = json.loads(path.read_text())
        about["trained"] |= {} if temperature is None else {"temperature": temperature}
        write_json(path, about)
    (path,) = report([tmp_path / "s"])
    section = Page(path.with_name("report.html")).section("calibration")
    assert "temperature that divides the logits, mean of 2 runs (1.000 to 1.500): 1.250" in section
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)]
    # 12 of 18 are equally sure: half of all takes the 12, and 70 % takes all
    assert [row[:3] for row in rows if row][-2:] == [["70 %", "100.0 %", "0.500000"], ["50 %", "66.7 %", "0.900000"]]
    assert section.count("no utterance") == 1
    assert f"At 50 % no utterance of {CLASSES[2]} is decided, and UA is the mean of the other classes." in section


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


def test_embeddings_are_in_four_planes_of_train_and_test_coloured_by_class(system: Path) -> None:
    section = Page(system / "report.html").section("embeddings")
    assert section.count('<div class="drawing"') == 4
    for about in ("t-SNE by Euclidean distance.", "t-SNE by angle (each embedding at length 1).", "PCA by Euclidean"):
        assert f'aria-label="{about}' in section
    drawing = section.split('<div class="drawing"')[3]
    assert ">train (30)<" in drawing
    assert ">test (72)<" in drawing
    assert drawing.count("<use ") == 30 + 72 + 3  # a mark each, and three of the legend
    colors = {one for one in re.findall(r"fill: (#\w+)", drawing) if one != "#000000"}
    assert len(colors) == 3
    assert ">component 1, " in drawing
    assert "All are of one run (fold 0, seed 0)" in section
    assert "are drawn by chance" not in section


def test_embeddings_of_another_model_of_too_few_or_of_other_scores_are_left_out(tmp_path: Path) -> None:
    for fold in range(2):
        run(tmp_path / "s", fold, 0, clips(fold, 0))
    scores = tmp_path / "s/fold=1/seed=0/scores.jsonl"
    embedded(scores, clips(1, 0))
    embedded(scores.with_name("train.jsonl"), clips(0, 0), bundle="another")
    (path,) = report([tmp_path / "s"])
    section = Page(path.with_name("report.html")).section("embeddings")
    assert section.count("<svg") == 4
    assert "(fold 1, seed 0)" in section  # the first that has embeddings
    assert "Left out: the embeddings of the training part, which are of another model." in section
    scores.write_text(scores.read_text().replace('"seconds": 1.0', '"seconds": 1.5'))
    report([tmp_path / "s"])
    section = Page(path.with_name("report.html")).section("embeddings")
    assert "<svg" not in section
    assert "Left out:" in section
    assert "is of other scores than" in section


def test_what_is_not_known_is_told_and_not_passed_over(tmp_path: Path) -> None:
    bare = [{word: one[word] for word in ("id", "label", "decision", "posterior", "logits")} for one in clips(0, 0)]
    bare = [{**one, "speaker": None} for one in bare]
    run(tmp_path / "s", 0, 0, bare)
    (path,) = report([tmp_path / "s"])
    page = Page(path.with_name("report.html"))
    said = {anchor: page.section(anchor) for anchor in SECTIONS}
    assert "No intervals: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["figures"]
    assert "Left out: the intervals. &#39;0.0&#39;" in said["recall"]
    assert "<svg" in said["recall"]
    assert "Left out: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["speakers"]
    assert "Left out: &#39;0.0&#39; (fold 0, seed 0) has no speaker" in said["groups"]
    assert "has no speaker" in said["duration"]
    assert "Left out: no run has a log.jsonl" in said["training"]
    assert (
        "Left out: no embeddings lie beside the scores. <code>sertk score SYSTEM data/NAME --embeddings beside</code> "
        "keeps them." in said["embeddings"]
    )
    assert "Left out: the sound. Give the prepared corpus" in said["listen"]
    assert "Left out: Give the prepared corpus: <code>sertk report ... --data data/NAME" in said["audit"]
    assert "Annotators" not in page.text
    assert "intensity" not in page.text
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
    assert "that of dev is the negative log-probability of its labels" in page.section("training")
    assert "ledger.jsonl of the corpus has none" in page.section("provenance")


def test_of_a_run_that_lacks_the_utterances_are_counted_once_and_the_reason_is_told(tmp_path: Path) -> None:
    for fold, seed in ((0, 0), (0, 1), (1, 0)):
        run(tmp_path / "s", fold, seed, clips(fold, seed))
    (path,) = report([tmp_path / "s"])
    page = Page(path.with_name("report.html"))
    assert ">joy (48)<" in page.section("recall")  # 2 clips of each of 24 speakers, though seed 1 has half of them
    assert "lacks 1 run, the first fold 1, seed 1" in page.section("groups")


def test_one_class_of_one_speaker_has_no_groups_and_no_empty_table(tmp_path: Path) -> None:
    run(tmp_path / "s", 0, 0, [{**one, "seconds": 2.0} for one in clips(0, 0)[:1]])
    (path,) = report([tmp_path / "s"])
    page = Page(path.with_name("report.html"))
    assert "Left out: all utterances are of one class, gender, session, intensity and duration." in page.text
    assert "<table" not in page.section("groups")
    assert "UA of a group" not in path.read_text()


def test_scores_without_a_label_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "s", 0, 0, [{**one, "label": None} for one in clips(0, 0)])
    with pytest.raises(SertkError, match="has no utterance whose label is a class"):
        report([tmp_path / "s"])


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    write_json(data / "corpus.json", {"corpus": "d", "root": str(tmp_path)})
    run(tmp_path / "s", 0, 0, clips(0, 0))
    with pytest.raises(UsageError, match=r"data/c is d, and the scores are of c\."):
        report([tmp_path / "s"], data=data)
    assert not (tmp_path / "s/RESULTS.md").exists()


def test_the_audit_that_prepare_wrote_is_shown(system: Path) -> None:
    section = Page(system / "report.html").section("audit")
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section)]
    assert ["0", "train", "77", "5", "5", "0", "0", "ann"] in rows
    assert ["text", "train+test", "all", "2", "it is, eleven"] in rows
    assert ["joy", "1", "3", "-2"] in rows
    assert ["it has no label", "1", "9"] in rows
    assert "Two folds." in section
    assert "The protocol declares all that two parts share" in section


def test_an_audit_of_other_folds_is_left_out_and_the_counts_of_many_folds_too(tmp_path: Path) -> None:
    data, out = corpus(tmp_path), rich(tmp_path / "s")
    path = data / "protocols/p.json"
    content = json.loads(path.read_text())
    write_json(path, {**content, "audit": {str(number): content["audit"]["0"] for number in range(51)}})
    report([out], data=data)
    section = Page(out / "report.html").section("audit")
    assert "Left out: the counts of 51 folds, which <code>sertk audit</code> shows." in section
    assert "<td>it is, eleven</td>" in section
    write_json(path, {**content, "hash": "i"})
    report([out], data=data)
    section = Page(out / "report.html").section("audit")
    assert "Left out: " in section
    assert "p.json is of other folds (hash i) than the scores (hash h)." in section
    assert "<table" not in section


def test_a_broken_manifest_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    (data / "manifest.jsonl").write_text((data / "manifest.jsonl").read_text() + '{"schema": 1, "id": "x"}\n')
    run(tmp_path / "s", 0, 0, clips(0, 0))
    with pytest.raises(SertkError, match=r"manifest\.jsonl:145: not an utterance"):
        report([tmp_path / "s"], data=data)
    assert not (tmp_path / "s/RESULTS.md").exists()


def test_intensity_and_the_votes_of_annotators_are_shown_where_lines_have_them(tmp_path: Path) -> None:
    lines = [
        {**one, "intensity": ("normal", "strong")[row % 2], "votes": {str(one["label"]): 3}}
        for row, one in enumerate(clips(0, 0))
    ]
    run(tmp_path / "s", 0, 0, lines)
    (path,) = report([tmp_path / "s"])
    page = Page(path.with_name("report.html"))
    assert "<td>intensity strong</td><td>36</td>" in page.section("groups")
    assert "| intensity normal | 36 |" in path.read_text()
    whole = "100.0 (100.0 to 100.0)"  # nobody disagrees
    assert f"| a vote | {whole} | {whole} |" in path.read_text()
    assert f'<td>a vote</td><td class="words">{whole}</td><td class="words">{whole}</td>' in page.section("people")
    assert "The posterior against the votes of 72 utterances: cross-entropy" in page.section("people")


def test_excerpts_of_the_sound_are_in_the_page_if_asked_for(tmp_path: Path) -> None:
    data, out = corpus(tmp_path), rich(tmp_path / "s")
    root = tmp_path / "the corpus #1"
    wave = np.linspace(-0.5, 0.5, 4 * 44100)
    soundfile.write(root / "22.0.wav", np.stack([wave, wave], 1), 44100, subtype="FLOAT")  # of it 1.25 s from 2.5 s on
    (root / "23.0.wav").write_bytes(b"RIFF")
    report([out], data=data, embed=True)
    section = Page(out / "report.html").section("listen")
    assert "The page holds the first 6 s at most of 19 of 20 utterances." in section
    assert 'src="../' not in section
    assert section.count('<p class="left-out">No sound: 23.0') == 1
    sound = re.search(r'src="data:audio/flac;base64,([^"]+)" aria-label="22\.0"', section)
    assert sound
    found, rate = soundfile.read(io.BytesIO(base64.b64decode(sound[1])))
    assert (rate, found.shape) == (16000, (20000,))
    assert found[8000] == pytest.approx(-0.5 + 3 / 4, abs=1e-3)  # half a second later
    assert len((out / "report.html").read_text()) < 5_000_000


def test_long_and_many_excerpts_do_not_make_the_page_large(tmp_path: Path) -> None:
    data, out = corpus(tmp_path), rich(tmp_path / "s")
    facts = [json.loads(line) for line in (data / "audio.jsonl").read_text().splitlines()]
    write_jsonl(data / "audio.jsonl", [{**one, "seconds": 7.5, "start": 0.0, "asked": None} for one in facts])
    noise = np.random.default_rng(0).uniform(-1, 1, 120_000)
    for path in (tmp_path / "the corpus #1").iterdir():
        soundfile.write(path, noise, 16000)
    report([out], data=data, embed=True)
    section = Page(out / "report.html").section("listen")
    # 6 s of noise cannot be compressed: 192 kB, in base64 256 kB, of which 3.5 MB hold 13
    assert "The page holds the first 6 s at most of 13 of 20 utterances." in section
    assert section.count("No sound: the page would be too large: it has 3.5 MB for sound.") == 7
    assert len((out / "report.html").read_text()) < 5_000_000
    with pytest.raises(UsageError, match=r"--embed-audio needs the audio\. Give the prepared corpus: --data data/NAME"):
        report([out], embed=True)


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


def test_intervals_of_clips_give_no_verdict(pair: Path, tmp_path: Path) -> None:
    caption = "one that reaches over the dashed line does not tell the systems apart"
    assert caption in Page(pair / "compare.html").section("differences")
    compare(pair.parent / "exp/p/base", pair.parent / f"exp/p/{HOSTILE}", "--by", "utterances", "--page", tmp_path)
    section = Page(tmp_path / "compare.html").section("differences")
    assert "95 % interval" in section
    assert "apart" not in section


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
    bare = [{**one, "speaker": None} for one in clips(0, 0)]
    for name in ("x", "y"):
        run(tmp_path / name, 0, 0, bare)
    compare(tmp_path / "x", tmp_path / "y", "--page", tmp_path / "page")
    said = {anchor: Page(tmp_path / "page/compare.html").section(anchor) for anchor in PAIR}
    assert "No intervals, as x, the baseline, has none: &#39;0.0&#39; (fold 0, seed 0) has no" in said["figures"]
    assert "Left out: nothing can be drawn" in said["differences"]
    assert "Left out: no system can be compared with the baseline" in said["speakers"]
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
    assert found["cut"] == []  # a verdict is read without scrolling
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
  const cut = [...document.querySelectorAll("td")].filter(one => one.textContent.includes(" speakers: ")
    && one.getBoundingClientRect().right > innerWidth).map(one => one.textContent);
  document.getElementById("as-counts")?.click();
  const player = document.querySelector("audio");
  parent.postMessage(JSON.stringify({seconds: player.duration, inner: innerWidth,
    scroll: root.scrollWidth, errors, cells, wide, cut, chosen: seen(),
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
