"""Several folds and seeds in one word of a command: `--fold 1,2`, `--seed 0-4`."""

from __future__ import annotations

from collections.abc import Sequence

from sertk.core import UsageError, nearest


def folds_of(text: str, known: Sequence[str]) -> list[str]:
    """The folds that a text names, each once, in its order.

    Args:
        text: Names with commas between them; `#n` is the n-th fold, `all` is every fold. A name may hold commas itself.
        known: The names of all folds.

    Raises:
        UsageError: Where one of them is no fold.
    """
    if text == "all" and "all" not in known:
        return list(known)
    parts, found = text.split(","), list[str]()
    while parts:
        names = [",".join(parts[:size]).strip() for size in range(len(parts), 0, -1)]
        name = next((one for one in names if one in known), names[-1])  # the longest: a name may hold commas
        parts = parts[name.count(",") + 1 :]
        place = name[1:] if name.startswith("#") and name not in known else ""
        if place.isdecimal() and 1 <= int(place) <= len(known):
            name = known[int(place) - 1]
        if name not in known:
            raise UsageError(f"no fold {name!r}{nearest(name, known)}, by position #1 to #{len(known)}, or all")
        found.append(name)
    return list(dict.fromkeys(found))


def seeds_of(text: str) -> list[int]:
    """The seeds that a text names, each once, in its order: `3`, `0-4` (4 too), `0,2,7-9`.

    Raises:
        UsageError: Where it is not of that form.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise UsageError(f"--seed {text!r}: {part!r} is no seed. Give numbers and ranges: 3, 0-4 or 0,2,7-9.")
        found += range(int(first), int(last) + 1)
    return list(dict.fromkeys(found))


def seeds_text(seeds: Sequence[str]) -> str:
    """Seeds in one word, as `seeds_of` reads it: neighbours that count up are a range."""
    runs: list[list[int]] = []
    for seed in map(int, seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
