"""The fold rules: utterances into train, dev and test.

Whatever is random is a rank by a hash of the utterance's id: the order in which utterances come changes nothing, and
one more moves at most the neighbours of the cuts.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from sertk.core import (
    PARTS,
    Crossed,
    Disjoint,
    FoldTable,
    Half,
    LeaveOneOut,
    Next,
    Protocol,
    RandomDev,
    RandomSplit,
    SertkError,
    Stratified,
    UsageError,
    Utterance,
    key,
)
from sertk.core.files import each_line

Kept = Mapping[str, Utterance]
COLUMNS = "It needs the column utterance, and test_folds, or part (train, dev, test) and maybe fold."


class Fold(NamedTuple):
    """Utterance ids of the three parts."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


class Lists(NamedTuple):
    """Published lists.

    Attributes:
        folds: Ids by part, by fold.
        whole: Whether all parts are given; where not, only `test` is.
        ids: Every id.
    """

    folds: Mapping[str, Mapping[str, tuple[str, ...]]]
    whole: bool
    ids: tuple[str, ...]


def names(protocol: Protocol) -> list[str] | None:
    """The folds of a protocol, in the order in which "#n" counts them; None where the corpus decides."""
    match protocol.test:
        case LeaveOneOut():
            return None
        case RandomSplit():
            return ["1"]
        case Disjoint() | Stratified():
            found = [str(n + 1) for n in range(protocol.test.k)]
        case Crossed(groups, texts):
            found = [f"{n + 1}-{m + 1}" for n in range(groups) for m in range(texts)]
        case FoldTable(path):
            found = list(read_table(path).folds)
        case groups:
            found = list(groups)
    return [name + half for name in found for half in "ab"] if isinstance(protocol.dev, Half) else found


def check_rules(protocol: Protocol) -> None:
    """Refuses numbers that no fold can be made of.

    Raises:
        UsageError: There.
    """
    test, dev = protocol.test, protocol.dev
    wrong = ""
    if isinstance(test, Disjoint | Stratified) and test.k < 2:
        wrong = f"k is {test.k}; there are at least 2 folds"
    elif isinstance(test, Crossed) and min(test) < 2:
        wrong = f"groups is {test.groups} and texts {test.texts}; there are at least 2 of each"
    elif isinstance(test, Crossed) and isinstance(dev, Half | Next):
        wrong = "test is crossed, where dev is a number of groups, groups by name, or a share"
    elif isinstance(test, RandomSplit) and not (test.train > 0 <= test.dev and test.train + test.dev < 100):
        wrong = f"train is {test.train} and dev {test.dev} percent; the test has what is left of 100"
    elif isinstance(dev, RandomDev) and not 0 < dev.percent < 100:
        wrong = f"dev is {dev.percent} percent of train; it is from 1 to 99"
    elif isinstance(dev, int) and dev < 0:
        wrong = f"dev is {dev} groups; it is at least 0"
    if wrong:
        raise UsageError(f"the protocol's {wrong}.")


def make_folds(protocol: Protocol, kept: Kept, labels: Mapping[str, str]) -> dict[str, Fold]:
    """The folds of a protocol that have a test here.

    Args:
        protocol: Its rules.
        kept: The utterances that it keeps, by id.
        labels: Their classes.

    Raises:
        SertkError: Where a rule cannot be met: groups unknown or too few, dev would take every training group, or no
            fold has a test here.
    """
    check_rules(protocol)
    folds = _folds(protocol, kept, labels)
    if not folds:
        raise SertkError("no fold has an utterance to test here. Complete the corpus, or correct the fold rule.")
    return folds


def _folds(protocol: Protocol, kept: Kept, labels: Mapping[str, str]) -> dict[str, Fold]:
    if isinstance(protocol.test, RandomSplit):
        return {"1": _cut(protocol.test, kept, labels)}
    if isinstance(protocol.test, FoldTable) and (lists := read_table(protocol.test.path)).whole:
        found = {name: Fold(*(_here(parts[part], kept) for part in PARTS)) for name, parts in lists.folds.items()}
        return {name: fold for name, fold in found.items() if fold.test}
    if isinstance(protocol.test, Crossed):
        return _crossed(protocol.test, protocol, kept, labels)
    held = {name: ids for name, ids in _held_out(protocol, kept, labels).items() if ids}
    if isinstance(protocol.dev, Half):
        return _halves(held, protocol, protocol.dev, kept, labels)
    return {name: _fold(name, held, protocol, kept, labels) for name in held}


def absent(protocol: Protocol, kept: Kept) -> list[dict[str, str]]:
    """{"id", "reason"} of what the fold rule names and the corpus lacks."""
    if isinstance(protocol.test, FoldTable):
        where = f"in {protocol.test.path.name}, not in this corpus folder"
        return [{"id": i, "reason": where} for i in read_table(protocol.test.path).ids if i not in kept]
    here = {_group(one, protocol) for one in kept.values()}
    dev = protocol.dev
    named = {"tested in": protocol.test, "dev of": dev if isinstance(dev, Mapping) else {"any": _listed(dev)}}
    return [
        {"id": f"{protocol.group} {group}", "reason": f"{what} fold {fold}, not in this corpus folder"}
        for what, rule in named.items()
        if isinstance(rule, Mapping)
        for fold, groups in rule.items()
        for group in groups
        if group not in here
    ]


def _listed(dev: object) -> Sequence[str]:
    """The groups of dev that are named, in the same way for every fold."""
    return dev if isinstance(dev, Sequence) and not isinstance(dev, str | tuple) else ()


def read_table(path: Path) -> Lists:
    """Reads published lists; see `FoldTable` for their form.

    Raises:
        SertkError: Where they cannot be read, or an id is in two parts of a fold.
    """
    lines = [f"{line}\n" for line in each_line(path, f"It is a fold table. {COLUMNS}")]
    try:
        rows = list(csv.DictReader(lines, delimiter="\t" if lines and "\t" in lines[0] else ","))
    except csv.Error as error:
        raise SertkError(f"fold table {path}: {error}. {COLUMNS}") from None
    for number, row in enumerate(rows, 2):
        if "utterance" not in row or not {"test_folds", "part"} & row.keys():
            raise SertkError(f"fold table {path} has the columns {', '.join(map(str, row))}. {COLUMNS}")
        if None in row.values() or None in row:
            raise SertkError(f"fold table {path}: row {number} has not as many cells as the header. Correct the row.")
    whole = bool(rows) and "part" in rows[0]
    places = [(row["utterance"], fold, part) for row in rows for fold, part in _places(row)]
    odd = next((part for _, _, part in places if part not in PARTS), None)
    if odd is not None or not places:
        raise SertkError(f"fold table {path}: {f'part {odd!r}' if places else 'no fold'}. {COLUMNS}")
    twice = [pair for pair, count in Counter((i, fold) for i, fold, _ in places).items() if count > 1]
    if twice:
        raise SertkError(f"fold table {path}: {twice[0][0]!r} comes twice in fold {twice[0][1]}. Keep one of the rows.")
    lists: dict[str, dict[str, list[str]]] = {}
    for i, fold, part in sorted(places, key=lambda place: (_natural(place[1]), place[0])):
        lists.setdefault(fold, {part: [] for part in PARTS})[part].append(i)
    folds = {fold: {part: tuple(ids) for part, ids in parts.items()} for fold, parts in lists.items()}
    return Lists(folds, whole, tuple(dict.fromkeys(row["utterance"] for row in rows)))


def _places(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """(fold, part) of a row."""
    if "part" in row:
        return [((row.get("fold") or "1").strip(), row["part"].strip())]
    return [(fold.strip(), "test") for fold in row["test_folds"].split(",") if fold.strip()]


def _natural(name: str) -> tuple[bool, int, str]:
    """Sorts 2 before 10, and numbers before names."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _here(ids: Iterable[str], kept: Kept) -> tuple[str, ...]:
    return tuple(i for i in ids if i in kept)


# --- what is held out ----------------------------------------------------------------------------------------------


def _held_out(protocol: Protocol, kept: Kept, labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The ids that a fold holds out of training, by fold."""
    match protocol.test:
        case FoldTable(path):
            return {name: _here(parts["test"], kept) for name, parts in read_table(path).folds.items()}
        case Stratified(k, seed):
            shares = _deal(kept, labels, k, f"stratified {seed}")
            return {str(n): tuple(share) for n, share in enumerate(shares, 1)}
        case LeaveOneOut():
            groups = {name: [name] for name in sorted(_groups(kept.values(), protocol), key=_natural)}
        case Disjoint(k):
            groups = _disjoint(k, _groups(kept.values(), protocol), protocol, labels)
        case _:
            groups = {name: list(own) for name, own in protocol.test.items()}  # type: ignore[union-attr]
    members = _groups(kept.values(), protocol)
    return {name: tuple(sorted(u.id for one in own for u in members.get(one, ()))) for name, own in groups.items()}


def _group(utterance: Utterance, protocol: Protocol) -> str | None:
    group: str | None = getattr(utterance, protocol.group)
    return group


def _groups(utterances: Iterable[Utterance], protocol: Protocol) -> dict[str, list[Utterance]]:
    """Utterances by group.

    Raises:
        SertkError: Where an utterance has none.
    """
    found: dict[str, list[Utterance]] = {}
    for one in utterances:
        group = _group(one, protocol)
        if group is None:
            raise SertkError(
                f"the protocol keeps each {protocol.group} together, and {one.id!r} has none. Choose a protocol that "
                f"does not ask for it, or name the {protocol.group} of every utterance."
            )
        found.setdefault(group, []).append(one)
    return found


def _disjoint(
    k: int, groups: Mapping[str, Sequence[Utterance]], protocol: Protocol, labels: Mapping[str, str]
) -> dict[str, list[str]]:
    """Gives each group, large ones first, to the fold that it unbalances least in classes, genders and size.

    Counts enter as powers of two, so that an utterance more hardly ever moves a group.
    """
    if len(groups) < k:
        raise SertkError(
            f"{k} folds of disjoint {protocol.group}s cannot be made of {len(groups)} {protocol.group}s "
            f"({', '.join(sorted(groups))}). Choose fewer folds, or leave-one-out."
        )
    weights = {name: _weights(own, labels) for name, own in groups.items()}
    total: Counter[tuple[str, str]] = Counter()
    for own in weights.values():
        total.update(own)
    loads: list[Counter[tuple[str, str]]] = [Counter() for _ in range(k)]
    folds: dict[str, list[str]] = {str(n + 1): [] for n in range(k)}
    size = ("size", "")
    for name in sorted(groups, key=lambda name: (-weights[name][size], key("disjoint", name))):
        own = weights[name]
        costs = [sum((2 * load[one] + by) * by / total[one] ** 2 for one, by in own.items()) for load in loads]
        best = costs.index(min(costs))
        loads[best].update(own)
        folds[str(best + 1)].append(name)
    return folds


def _weights(utterances: Sequence[Utterance], labels: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """What a group weighs, by class, by gender (1) and in all."""
    classes = Counter(labels[one.id] for one in utterances)
    found = Counter({("class", name): _power(count) for name, count in classes.items()})
    found.update({("gender", gender): 1 for gender in {one.gender or "unknown" for one in utterances}})
    found["size", ""] = _power(len(utterances))
    return found


def _power(count: int) -> int:
    return 1 << round(math.log2(count))


def _ranked(ids: Collection[str], labels: Mapping[str, str], what: str) -> dict[str, list[str]]:
    """Ids by class, both in a fixed order, the ids' a random one."""
    ranked: dict[str, list[str]] = {labels[i]: [] for i in sorted(ids, key=lambda i: labels[i])}
    for i in sorted(ids, key=lambda i: (key(what, i), i)):
        ranked[labels[i]].append(i)
    return ranked


def subset(ids: Sequence[str], labels: Mapping[str, str], share: float) -> tuple[str, ...]:
    """A share of each class, rounded to an utterance and at least one; in the order of the ids.

    It follows from the ids alone, so that runs of several seeds or settings have the same one, and a larger share holds
    a smaller one.

    Args:
        ids: Utterances.
        labels: Class by id.
        share: Above 0, at most 1.
    """
    chosen = {
        i for own in _ranked(ids, labels, "subset").values() for i in own[: max(1, math.floor(share * len(own) + 0.5))]
    }
    return tuple(i for i in ids if i in chosen)


def _deal(ids: Collection[str], labels: Mapping[str, str], k: int, what: str) -> list[list[str]]:
    """K shares of equal size, to one utterance, in all and in each class."""
    shares: list[list[str]] = [[] for _ in range(k)]
    turn = 0  # whose it is to get one more
    for own in _ranked(ids, labels, what).values():
        base, more = divmod(len(own), k)
        start = 0
        for n, share in enumerate(shares):
            size = base + ((n - turn) % k < more)
            share.extend(own[start : start + size])
            start += size
        turn = (turn + more) % k
    return [sorted(share) for share in shares]


def _cut(rule: RandomSplit, kept: Kept, labels: Mapping[str, str]) -> Fold:
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for own in _ranked(kept, labels, f"cut {rule.seed}").values():
        ends = (0, len(own) * rule.train // 100, len(own) * (rule.train + rule.dev) // 100, len(own))
        for part, start, end in zip(parts, ends, ends[1:], strict=False):
            part.extend(own[start:end])
    return Fold(*(tuple(sorted(part)) for part in parts))


def _crossed(rule: Crossed, protocol: Protocol, kept: Kept, labels: Mapping[str, str]) -> dict[str, Fold]:
    """Folds whose test shares neither a group nor a sentence with what is trained on."""
    sets = _disjoint(rule.groups, _groups(kept.values(), protocol), protocol, labels)
    place = _sentences(rule.texts, kept.values())
    folds: dict[str, Fold] = {}
    for (number, own), turn in product(sets.items(), range(rule.texts)):
        inside = {i: (_group(one, protocol) in own, place[i] == turn) for i, one in kept.items()}
        held = tuple(i for i, both in inside.items() if all(both))
        name = f"{number}-{turn + 1}"
        if held:
            rest = [i for i, both in inside.items() if not any(both)]
            dev = _dev(name, rest, protocol, kept, labels)
            folds[name] = Fold(tuple(i for i in rest if i not in dev), tuple(i for i in rest if i in dev), held)
    return folds


def _sentences(k: int, utterances: Collection[Utterance]) -> dict[str, int]:
    """The set of the sentence of each utterance, by id: sentences are dealt out by turns, in a random order.

    Raises:
        SertkError: Where an utterance has no text, or there are fewer sentences than sets.
    """
    silent = next((one.id for one in utterances if one.sentence is None), None)
    if silent is not None:
        raise SertkError(
            f"the protocol keeps each sentence together, and {silent!r} has no text. Choose another protocol, or give "
            "the utterances their texts."
        )
    ranked = sorted({str(one.sentence) for one in utterances}, key=lambda text: key("sentences", text))
    if len(ranked) < k:
        raise SertkError(f"{k} sets cannot be made of {len(ranked)} sentences. Choose fewer, or another protocol.")
    turn = {text: place % k for place, text in enumerate(ranked)}
    return {one.id: turn[str(one.sentence)] for one in utterances}


# --- dev and train -------------------------------------------------------------------------------------------------


def _fold(
    name: str, held: Mapping[str, tuple[str, ...]], protocol: Protocol, kept: Kept, labels: Mapping[str, str]
) -> Fold:
    rest = _rest(held[name], protocol, kept)
    if isinstance(protocol.dev, Next):
        dev = set(_next(name, held)) & set(rest)
        rest = [i for i in _rest((*held[name], *dev), protocol, kept) if i not in dev]
    else:
        dev = _dev(name, rest, protocol, kept, labels)
    return Fold(tuple(i for i in rest if i not in dev), tuple(i for i in kept if i in dev), held[name])


def _dev(name: str, rest: Sequence[str], protocol: Protocol, kept: Kept, labels: Mapping[str, str]) -> set[str]:
    """What of the training utterances is dev."""
    if isinstance(protocol.dev, RandomDev):
        ranked = _ranked(rest, labels, f"share {protocol.dev.seed} {name}")
        return {i for own in ranked.values() for i in own[: (len(own) * protocol.dev.percent + 50) // 100]}
    groups = _carve(name, [kept[i] for i in rest], protocol)
    return {i for i in rest if _group(kept[i], protocol) in groups}


def _rest(held: Collection[str], protocol: Protocol, kept: Kept) -> list[str]:
    """What may be trained on: what is not held out, nor of a group of it, unless the protocol says that groups may."""
    out = set(held)
    if isinstance(protocol.test, Stratified) or "train+test" in protocol.overlaps.get(protocol.group, ()):
        return [i for i in kept if i not in out]
    get = attrgetter(protocol.group)
    groups = {get(kept[i]) for i in out}
    return [i for i, one in kept.items() if get(one) not in groups]


def _next(name: str, held: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if len(held) < 3:
        raise SertkError(
            f"fold {name}: dev is what the next fold tests, and of {len(held)} folds none is left for train. "
            "Complete the corpus, or take another protocol."
        )
    order = list(held)
    return held[order[(order.index(name) + 1) % len(order)]]


def _halves(
    held: Mapping[str, tuple[str, ...]], protocol: Protocol, rule: Half, kept: Kept, labels: Mapping[str, str]
) -> dict[str, Fold]:
    folds: dict[str, Fold] = {}
    for name, ids in held.items():
        train = tuple(_rest(ids, protocol, kept))
        a, b = map(tuple, _deal(ids, labels, 2, f"half {rule.seed}"))
        folds |= {f"{name}a": Fold(train, b, a), f"{name}b": Fold(train, a, b)}
    return folds


def _carve(fold: str, utterances: Collection[Utterance], protocol: Protocol) -> set[str]:
    """The dev groups: in an order that only fold and group name decide, genders alternating."""
    dev = protocol.dev
    if not isinstance(dev, int):
        return set(dev.get(fold, ()) if isinstance(dev, Mapping) else dev)  # type: ignore[arg-type]
    found = {name: {one.gender or "" for one in own} for name, own in _groups(utterances, protocol).items()}
    if 0 < len(found) <= dev:
        raise SertkError(
            f"fold {fold}: dev takes {dev} {protocol.group}{'s' * (dev > 1)} of the {len(found)} beside the test, and "
            "none is left for train. Complete the corpus, or take a protocol with a smaller dev."
        )
    genders: dict[str, list[str]] = {}
    for group, sexes in found.items():
        # a session of both has no gender to alternate by
        genders.setdefault(next(iter(sexes)) if len(sexes) == 1 else "", []).append(group)
    for groups in genders.values():
        groups.sort(key=lambda group: key("dev", fold, group))
    ranked = sorted((place, gender, group) for gender, gs in genders.items() for place, group in enumerate(gs))
    return {group for _, _, group in ranked[:dev]}
