"""Whose recordings are scored, and how a system that is normalised by speaker gets to know the speakers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sertk.console.progress import say, track
from sertk.core import SertkError, UsageError, Utterance
from sertk.core.errors import some
from sertk.core.files import Record, digest, kaldi_lines
from sertk.core.utterance import speaker_search
from sertk.modeling import bundle
from sertk.modeling.speakers import Totals
from sertk.scoring.inputs import Inputs, find_inputs
from sertk.scoring.packed import Packed
from sertk.scoring.scorer import WINDOW, Scorer

MOST = 4e9
"""Bytes that the sums of all speakers may take."""


class Named(NamedTuple):
    """How the speakers of inputs are found out, where their manifest does not say them.

    Attributes:
        pattern: A regular expression, searched in the id; its first group is the speaker.
        file: Kaldi's utt2spk.
    """

    pattern: str | None = None
    file: Path | None = None

    def of(self, utterances: Sequence[Utterance]) -> Sequence[Utterance]:
        """Utterances with their speakers; who is not found keeps the speaker of the manifest.

        Raises:
            SertkError: Where the file cannot be read.
            UsageError: Where the expression is none, has no group, or both are given, or no utterance is found.
        """
        if self.pattern is not None and self.file is not None:
            raise UsageError("--speaker-of and --utt2spk both say who speaks. Give one of them.")
        if self.pattern is None and self.file is None:
            return utterances
        what = f"--utt2spk {self.file}" if self.file else f"--speaker-of {self.pattern!r}"
        search = _of_file(self.file).get if self.file else speaker_search("--speaker-of", self.pattern or "")
        made = Packed(replace(one, speaker=search(one.id) or one.speaker) for one in utterances)
        count = sum(search(one.id) is not None for one in utterances)
        if utterances and not count:
            raise UsageError(
                f"{what} finds the speaker of none of {len(utterances)} ids, such as {utterances[0].id!r}."
            )
        say(f"{what}: the speakers of {count} of {len(utterances)} utterances")
        return made


def _of_file(path: Path) -> dict[str, str]:
    found = dict[str, str]()
    for where, name, speaker in kaldi_lines(path, "Give Kaldi's ID SPEAKER lines in UTF-8."):
        if name in found or (name and not speaker):
            raise SertkError(
                f"{where}: {name!r} {'comes twice' if name in found else 'has no speaker'}. Mend the line."
            )
        if name:
            found[name] = speaker
    return found


def enrolled_in(place: str, opened: bundle.Opened, named: Named) -> Inputs:
    """The recordings that speakers are enrolled with.

    Raises:
        UsageError: Where the bundle is not normalised by speaker, or a prepared corpus is given.
        SertkError: Where they cannot be read.
    """
    if not opened.settings.by_speaker:
        raise UsageError(f"--enrol is for systems with normalize: speaker, and {opened.folder} is none. Leave it out.")
    if (Path(place) / "corpus.json").exists():
        raise UsageError(f"--enrol {place} is a prepared corpus. Give a manifest with the utterances to enrol.")
    lost: list[Record] = []
    found = find_inputs([place], opened.about, lost)
    if lost:
        say(f"--enrol: {len(lost)} inputs cannot be read; the first: {lost[0]['reason']}")
    return replace(found, utterances=named.of(found.utterances))


def refuse_for(model: Path, options: Mapping[str, object]) -> None:
    """Refuses options that do not go with a system that is normalised by speaker.

    Raises:
        UsageError: With the first of them that is given.
    """
    for word, value in options.items():
        if value is not None:
            raise UsageError(
                f"{word} does not go with {model}: its inputs are normalised by speaker, with statistics of all "
                "whole recordings of each speaker. Leave it out, or take a system without normalize: speaker."
            )


class Heard(NamedTuple):
    """What is known of the speakers of a scoring.

    Attributes:
        totals: Their statistics.
        stamp: What metrics.json says: how, n of the speakers that are scored, the shrinkage, utterances without any.
        key: A digest of the statistics, for what was scored with them.
    """

    totals: Totals
    stamp: Record
    key: str


def hear(scorer: Scorer, scored: Inputs, enrolled: Inputs | None, batch: int, workers: int = 0) -> Heard:
    """Adds up what each speaker's utterances are like, in one pass over them.

    Args:
        scorer: Reads what the speakers are heard in.
        scored: What will be scored.
        enrolled: Other recordings of the same speakers; None hears them in what is scored.
        batch: Utterances at once.
        workers: Threads that read audio ahead.

    Raises:
        UsageError: Where there are too many speakers, or a recording is scored and enrolled.
    """
    if enrolled is not None:
        _check_disjoint(scored, enrolled)
    source, settings = enrolled or scored, scorer.bundle.settings
    utterances = Counter(one.known_speaker for one in scored.utterances)
    names = sorted(name for name in utterances if name is not None)
    normalized = scorer.bundle.model.normalize
    size = len(names) * sum(2 * len(normalized[name].mean) + 1 for name in normalized.keys() & settings.by_speaker) * 8
    if size > MOST:
        raise UsageError(
            f"the statistics of {len(names)} speakers take {size / 1e9:.1f} GB, and {MOST / 1e9:.0f} GB at most. Score "
            "the recordings of fewer speakers at once."
        )
    totals = Totals(names, settings.speakers.shrink)
    listened = Packed(one for one in source.utterances if one.known_speaker in utterances) if enrolled else None
    chosen = source.utterances if listened is None else listened
    lost: list[Record] = []
    windows = scorer.moments(chosen, source.root, batch, lost, workers)
    for heard, found in track(windows, -(-len(chosen) // WINDOW), "windows of speakers"):
        totals.add([one.known_speaker for one in heard], found)
    if lost:
        say(f"{len(lost)} of {len(chosen)} inputs count in no speaker's statistics; the first: {lost[0]['reason']}")
    counts = dict(zip(names, totals.counts(names).tolist(), strict=True))
    without = utterances[None] + sum(utterances[name] for name in names if not counts[name])
    if without:
        say(
            f"{without} of {len(scored.utterances)} utterances have no speaker that is known"
            + f"{' from --enrol' * (enrolled is not None)}: they have the statistics of training alone"
        )
    met = [count for count in counts.values() if count]
    stamp: Record = {
        "how": "disjoint" if enrolled else "transductive",
        "n": [min(met, default=0), max(met, default=0)],
        "shrink": settings.speakers.shrink,
        "without": without,
    }
    key = hashlib.sha256(digest([names, stamp]).encode())
    for own in totals.sums.values():
        key.update(own.numpy().data)
    return Heard(totals, stamp, key.hexdigest()[:16])


def _check_disjoint(scored: Inputs, enrolled: Inputs) -> None:
    """Refuses recordings that are scored and enrolled.

    Raises:
        UsageError: Naming the first of them.
    """
    stretches = dict[Path, list[tuple[float, float]]]()
    for one in enrolled.utterances:
        stretches.setdefault((enrolled.root / one.path).resolve(), []).append(_stretch(one))
    both = [
        one.id
        for one in scored.utterances
        for first, last in stretches.get((scored.root / one.path).resolve(), ())
        if first < _stretch(one)[1] and _stretch(one)[0] < last
    ]
    if both:
        raise UsageError(
            f"{len(both)} recordings are scored, and --enrol has them too, such as {some(both[:1])}: they would not be "
            "disjoint. Leave them out of one, or leave out --enrol to hear the speakers in what is scored."
        )


def _stretch(one: Utterance) -> tuple[float, float]:
    """Where an utterance begins and ends in its file, s."""
    return one.start, float("inf") if one.duration is None else one.start + one.duration
