"""What `prepare` says to the user of a corpus and of its protocols, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sertk.core import PARTS, Utterance
from sertk.core.errors import some
from sertk.core.files import Document
from sertk.corpus.audit import lacking_classes, stamped
from sertk.corpus.protocols import COPIES, NAMED


def corpus_messages(
    corpus: str,
    counts: Mapping[str, Mapping[str, int]],
    failed: Sequence[Document],
    twins: Sequence[Sequence[str]],
    silent: Sequence[str],
    out: Path,
) -> list[str]:
    """What was found of a corpus: how much of what is published, twins, and files that cannot be used.

    Args:
        corpus: What it is called.
        counts: {"here", "published"} utterances by label.
        failed: {"id", "reason"} of what cannot be used.
        twins: Groups of ids that have the same samples.
        silent: Ids of digital silence.
        out: The prepared corpus.
    """
    here, published = (sum(count[which] for count in counts.values()) for which in ("here", "published"))
    labels = some((f"{label} {count['here']}" for label, count in counts.items()), 20)
    found = [f"{corpus}: {here} utterances here" + (f" of {published} published" if published else f": {labels}")]
    for label, count in counts.items():
        if published and count["here"] != count["published"]:
            found.append(f"  {label}: {_compared(count['here'], count['published'])}")
    if twins:
        more = f", and {len(twins) - 1} more such groups, see corpus.json" if len(twins) > 1 else ""
        found.append(f"  the same recording under several names: {some(twins[0], joint=' = ')}{more}")
    if silent:
        found.append(
            f"  {len(silent)} silent (all zeros, or channels that cancel), the first: {silent[0]}; see corpus.json. "
            "They are used: to leave them out, name them under `drop` in a protocol of your own"
        )
    if failed:
        path = out / "failed.jsonl"
        what = f"{len(failed)} file{'s' * (len(failed) > 1)} cannot be used"
        found.append(f"{what}, see {path}; the first: {failed[0]['reason']}")
    return found


def protocol_messages(name: str, content: Document) -> list[str]:
    """What a protocol holds: classes, folds, utterances, its stamp, and what it lacks.

    Args:
        name: Of the protocol.
        content: Of its file.
    """
    size = len(content["folds"])
    found = [
        f"protocol {name}: {len(content['classes'])} classes, {size} fold{'s' * (size > 1)}, "
        f"{len(content['labels'])} utterances kept, {len(content['dropped'])} dropped, {stamped(content)}, "
        f"hash {content['hash']}"
    ]
    for reason in (NAMED, *COPIES):
        left = [one.get("copies", one["id"]) for one in content["dropped"] if one["reason"] == reason]
        found += [f"  {len(left)} dropped: {reason}, the first: {left[0]}"] if left else []
    here = Counter(content["labels"].values())
    for label, published in content["expected"].items():
        if here[label] != published:
            found.append(f"  {label}: {_compared(here[label], published)}")
    absent = content["absent"]
    if absent:
        first = f"{absent[0]['id']} ({absent[0]['reason']})"
        found.append(f"  {len(absent)} that the folds name are not here, the first: {first}")
    counts = {fold: report["counts"] for fold, report in content["audit"].items()}
    for part in PARTS:
        names = [fold for fold, own in counts.items() if not own[part]["utterances"]]
        refused = ": cannot be trained" if part != "test" else ""
        found += [f"  no utterance in {part} of {_some_folds(names, list(counts))}{refused}"] if names else []
    for part, classes, folds in lacking_classes(content["audit"]):
        refused = ": cannot be trained" if part == "train" else ""
        found.append(f"  no {', '.join(classes)} in {part} of {_some_folds(folds, list(counts))}{refused}")
    return found


def case_messages(utterances: Iterable[Utterance]) -> list[str]:
    """Names of speakers and labels that differ in upper and lower case alone: they count as different."""
    names: dict[tuple[str, str], set[str]] = {}
    whole = list(utterances)
    for what in ("speaker", "label"):
        for one in whole:
            name = getattr(one, what) or ""
            names.setdefault((what, name.casefold()), set()).add(name)
    return [f"the {what}s {some(sorted(own))} count as different" for (what, _), own in names.items() if len(own) > 1]


def _some_folds(folds: Sequence[str], every: Sequence[str]) -> str:
    """Folds in few words: by their names, or as any but the others."""
    others = [name for name in every if name not in folds]
    if len(folds) == 1:
        return f"fold {folds[0]}"
    if len(others) < len(folds):
        return f"any fold but {', '.join(others)}" if others else "any fold"
    return f"folds {', '.join(folds)}"


def _compared(here: int, published: int) -> str:
    odd = here - published
    return f"{here} of {published}, " + (f"{-odd} missing" if odd < 0 else f"{odd} more than published")
