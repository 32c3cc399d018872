"""Small corpora of nobody in particular: a folder for each class, a list, and a Kaldi data directory."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

from sertk.core.files import Document, Record
from sertk.testing.trees.audio import clip

SPEAKERS: Final[Mapping[str, str]] = {"ann": "f", "ben": "m", "cleo": "f", "dan": "m", "eve": "f", "fred": "m"}
EMOTIONS: Final = ("anger", "happiness", "neutral", "sadness")
TEXTS: Final = ("It is eleven o'clock.", "Mina olen täällä, nyt.")


def rows(takes: int = 2, speakers: Mapping[str, str] = SPEAKERS, emotions: Sequence[str] = EMOTIONS) -> list[Record]:
    """A row an utterance: id, path, speaker, gender, session (two speakers), label, text, take."""
    chosen = product(enumerate(speakers.items()), emotions, range(takes))
    return [
        {
            "id": f"{speaker}_{emotion}_{take + 1}",
            "path": f"{speaker}/{emotion}_{take + 1}.wav",
            "speaker": speaker,
            "gender": gender,
            "session": str(number // 2 + 1),
            "label": emotion,
            "text": TEXTS[take % len(TEXTS)],
            "take": take + 1,
        }
        for (number, (speaker, gender)), emotion, take in chosen
    ]


def folders(folder: Path, *, seconds: float = 0.005, takes: int = 2) -> Path:
    """A folder for each class: anger/ann_1.wav."""
    for seed, row in enumerate(rows(takes)):
        clip(folder / row["label"] / f"{row['speaker']}_{row['take']}.wav", seed, seconds)
    return folder


def table(folder: Path, *, seconds: float = 0.005, takes: int = 2, name: str = "list.csv") -> Path:
    """A folder for each speaker, and a CSV with a row an utterance."""
    content = rows(takes)
    for seed, row in enumerate(content):
        clip(folder / row["path"], seed, seconds)
    write_csv(folder / name, content)
    return folder


def write_csv(path: Path, content: Sequence[Document]) -> None:
    """Writes rows under the names of the first one's columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, list(content[0]))
        lines.writeheader()
        lines.writerows(content)


def kaldi(folder: Path, *, seconds: float = 0.005, takes: int = 2, cut: bool = False) -> Path:
    """A Kaldi data directory, its audio below it in wav/; `cut`: a recording for each speaker, with `segments`."""
    content = sorted(rows(takes), key=lambda row: str(row["id"]))
    for name, lines in _files(folder, content, seconds, cut=cut).items():
        text = "".join(f"{key} {value}\n" for key, value in sorted(lines))
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return folder


def _files(folder: Path, content: Sequence[Document], seconds: float, *, cut: bool) -> dict[str, list[tuple[str, str]]]:
    """(key, value) by file; writes the audio."""
    own = {speaker: [row for row in content if row["speaker"] == speaker] for speaker in SPEAKERS}
    names = list(own) if cut else [row["id"] for row in content]
    for seed, name in enumerate(names):
        clip(folder / "wav" / f"{name}.wav", seed, seconds * (len(own[name]) if cut else 1))
    cuts = [
        (row["id"], f"{speaker} {n * seconds:.6f} {(n + 1) * seconds:.6f}")
        for speaker, rows_ in own.items()
        for n, row in enumerate(rows_)
    ]
    files = {
        "wav.scp": [(name, str((folder / "wav" / f"{name}.wav").absolute())) for name in names],
        "utt2spk": [(row["id"], row["speaker"]) for row in content],
        "spk2utt": [(speaker, " ".join(row["id"] for row in rows_)) for speaker, rows_ in own.items()],
        "spk2gender": list(SPEAKERS.items()),
        "text": [(row["id"], row["text"]) for row in content],
        "utt2emo": [(row["id"], row["label"]) for row in content],
    }
    return {**files, "segments": cuts} if cut else files
