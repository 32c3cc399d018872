"""A prepared corpus written as Kaldi data directories (https://kaldi-asr.org/doc/data_prep.html)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from os.path import normpath
from pathlib import Path, PurePosixPath

from sertk.console.progress import say
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.files import write_text
from sertk.corpus.prepared import Data

COMMANDS: Mapping[str, Callable[[str], str]] = {
    ".wav": str,
    ".flac": lambda path: f"flac -c -d -s {shlex.quote(path)} |",  # as Kaldi's own recipes do
}
GENDERS = {"female": "f", "male": "m"}

FILES = ("wav.scp", "segments", "utt2spk", "spk2utt", "spk2gender", "text", "utt2emo", "utt2dur")

Rows = Iterable[tuple[str, str]]


def write(data: Data, out: Path, protocol: str | None = None, fold: str | None = None) -> None:
    """Writes the whole corpus to `out`, or the parts of a fold to `out`/train, `out`/dev and `out`/test.

    An id that does not begin with its speaker is written SPEAKER-ID, as Kaldi's sorting wants it. `utt2emo` has the
    label, or the class of the protocol.

    Args:
        data: The prepared corpus.
        out: Folder, made where it is absent.
        protocol: Whose fold; the whole corpus where None.
        fold: By name or "#n"; the only one where None.

    Raises:
        SertkError: On audio that is neither WAV nor FLAC, and on names with blanks: Kaldi could not read them back.
        UsageError: Where the protocol has several folds and none is named.
    """
    names = _kaldi_ids(data.utterances.values())  # of the whole corpus, so that an utterance has one id wherever it is
    if protocol is None and fold is None:
        labels = {i: one.label for i, one in data.utterances.items() if one.label}
        _directory(data, list(data.utterances), names, labels, out)
        return
    folds = data.protocol(protocol)
    if fold is None and len(folds.folds) > 1:
        raise UsageError(f"protocol {folds.name!r} has {len(folds.folds)} folds; give --fold: {', '.join(folds.folds)}")
    for part, ids in folds.fold(fold or "#1")._asdict().items():
        if ids:
            _directory(data, ids, names, folds.labels, out / part)
            continue
        say(f"no {part} in fold {fold or next(iter(folds.folds))}: {out / part} is not written")
        for name in FILES:
            (out / part / name).unlink(missing_ok=True)  # an earlier call's


def _directory(data: Data, ids: Sequence[str], names: Mapping[str, str], labels: Mapping[str, str], out: Path) -> None:
    """Writes a data directory.

    Args:
        data: The prepared corpus.
        ids: The utterances to write.
        names: Kaldi's id by id.
        labels: By id.
        out: Folder.
    """
    utterances = [data.utterances[i] for i in ids]
    speakers: dict[str, list[str]] = {}
    for one in utterances:
        speakers.setdefault(one.speaker, []).append(names[one.id])
    files = {**_audio_rows(data, utterances, names), **_person_rows(utterances, names, speakers, out)}
    files["utt2emo"] = ((names[i], labels[i]) for i in ids if i in labels)
    files["utt2dur"] = ((names[one.id], f"{one.duration:.6f}") for one in utterances)
    for name, rows in files.items():
        # sorted by code point: the order of UTF-8 bytes, as C's
        lines = [f"{key} {value}".rstrip(" ") + "\n" for key, value in sorted(rows)]
        if lines:
            write_text(out / name, "".join(lines))
        else:
            (out / name).unlink(missing_ok=True)  # an earlier call's
    say(f"wrote {out}: {len(utterances)} utterances of {len(speakers)} speakers")


def _audio_rows(data: Data, utterances: Sequence[Utterance], names: Mapping[str, str]) -> dict[str, Rows]:
    """Where the audio of utterances is: a file for each, or stretches of recordings if any was cut."""
    paths = {one.path: _scp_value(data.root, one) for one in utterances}
    if not any(data.facts[one.id].start or data.facts[one.id].asked is not None for one in utterances):
        return {"wav.scp": [(names[one.id], paths[one.path]) for one in utterances], "segments": ()}
    recordings = _recordings(paths)
    return {
        "wav.scp": [(recordings[path], paths[path]) for path in recordings],
        "segments": [(names[one.id], _segment(one, recordings)) for one in utterances],
    }


def _person_rows(
    utterances: Sequence[Utterance], names: Mapping[str, str], speakers: Mapping[str, Sequence[str]], out: Path
) -> dict[str, Rows]:
    """Who speaks, and what is said."""
    genders = {one.speaker: GENDERS[one.gender] for one in utterances if one.gender}
    texts = {names[one.id]: " ".join(one.text.split()) for one in utterances if one.text is not None}
    return {
        "utt2spk": [(names[one.id], one.speaker) for one in utterances],
        "spk2utt": [(speaker, " ".join(sorted(own))) for speaker, own in speakers.items()],
        "spk2gender": _all(genders, speakers, out / "spk2gender"),
        "text": _all(texts, [names[one.id] for one in utterances], out / "text"),
    }


def _all(told: Mapping[str, str], wanted: Iterable[str], path: Path) -> Rows:
    """Kaldi takes this file for everybody or not at all."""
    lacking = [name for name in wanted if name not in told]
    if lacking and told:
        say(f"{path} is not written: {len(lacking)} have none, the first: {lacking[0]}")
    return () if lacking else told.items()


def _kaldi_ids(utterances: Iterable[Utterance]) -> dict[str, str]:
    """Kaldi's id by id: all as they are where that sorts them by speaker too, else all with the speaker before."""
    pairs = {one.id: one.speaker for one in utterances}
    for name in (*pairs, *pairs.values()):
        _one_word("the id or speaker", name, "Rename it in the list that was prepared.")
    if all(i.startswith(speaker) for i, speaker in pairs.items()) and _sorted(pairs.items()):
        return {i: i for i in pairs}
    names = {i: f"{speaker}-{i}" for i, speaker in pairs.items()}
    twice = [name for name, times in Counter(names.values()).items() if times > 1]
    if twice or not _sorted((names[i], speaker) for i, speaker in pairs.items()):
        raise SertkError(
            f"ids written SPEAKER-ID are not unique or not in the order of the speakers{': ' if twice else ''}"
            f"{', '.join(twice[:1])}. Name the speakers in letters and digits of one length, and prepare again."
        )
    return names


def _sorted(pairs: Iterable[tuple[str, str]]) -> bool:
    speakers = [speaker for _, speaker in sorted(pairs)]
    return speakers == sorted(speakers)


def _one_word(what: str, text: str, mend: str) -> None:
    if not text or text.split() != [text]:
        raise SertkError(f"{what} {text!r} holds a blank, and Kaldi separates by blanks. {mend}")


def _scp_value(root: Path, one: Utterance) -> str:
    """A line of wav.scp without its key."""
    path = normpath(Path(root).absolute() / one.path)
    suffix = PurePosixPath(one.path).suffix.lower()
    if suffix not in COMMANDS:
        raise SertkError(f"{path} is neither {' nor '.join(COMMANDS)}, which Kaldi's recipes read. Convert it.")
    _one_word("the path", path, "Link the folder under a name without blanks, and give that with --root.")
    return COMMANDS[suffix](path)


def _recordings(paths: Iterable[str]) -> dict[str, str]:
    """An id for each file: its path in one word."""
    names = {path: PurePosixPath(path).with_suffix("").as_posix().replace("/", "-") for path in paths}
    twice = [name for name, times in Counter(names.values()).items() if times > 1]
    if twice:
        raise SertkError(f"two files would be the recording {twice[0]}. Rename one, and prepare again.")
    return names


def _segment(one: Utterance, recordings: Mapping[str, str]) -> str:
    return f"{recordings[one.path]} {one.start:.6f} {one.start + (one.duration or 0.0):.6f}"
