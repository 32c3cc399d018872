"""Transcripts from a file beside the audio, for models that read what is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sertk.console.progress import say
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import kaldi_lines, read_jsonl
from sertk.scoring.packed import Packed

NEXT = "Give Kaldi's ID TEXT lines in UTF-8, or a .jsonl whose lines have id and text."


def with_texts(utterances: Sequence[Utterance], path: Path) -> Sequence[Utterance]:
    """Utterances with the transcripts of a file; who is not in it keeps its own.

    Args:
        utterances: By the ids that their score lines have.
        path: Kaldi's `text`, or a .jsonl.

    Raises:
        SertkError: If it cannot be read, or an id comes twice.
        UsageError: If it has none of the utterances.
    """
    texts = _of_jsonl(path) if path.suffix == ".jsonl" else _of_kaldi(path)
    found = sum(one.id in texts for one in utterances)
    if utterances and not found:
        raise UsageError(
            f"{path} has {len(texts)} transcripts, and none of an utterance that is scored: its first id is "
            f"{next(iter(texts), None)!r}, theirs is {utterances[0].id!r}. Use the ids of the score lines."
        )
    say(f"{path}: transcripts of {found} of {len(utterances)} utterances")
    return Packed(replace(one, text=texts[one.id]) if one.id in texts else one for one in utterances)


def _of_jsonl(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, line in read_jsonl(path, NEXT):
        name, text = line.get("id"), line.get("text")
        if not isinstance(name, str) or "text" not in line or not isinstance(text, str | None):
            raise SertkError(f"{where}: no id and text. {NEXT}")
        _put(texts, name, text or "", where)
    return texts


def _of_kaldi(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, name, text in kaldi_lines(path, NEXT):
        if name:
            _put(texts, name, text, where)
    return texts


def _put(texts: dict[str, str], name: str, text: str, where: str) -> None:
    if name in texts:
        raise SertkError(f"{where}: id {name!r} comes twice. Ids must differ; rename one.")
    texts[name] = text
