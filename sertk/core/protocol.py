"""A protocol: label map, filter and fold rule, as data that a corpus names and a file can state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sertk.core.task import AUX, AuxTask

PARTS: Final = ("train", "dev", "test")
OVERLAPS: Final = ("speaker", "session", "text", "audio")
PAIRS: Final = ("train+dev", "train+test", "dev+test")


class LeaveOneOut(NamedTuple):
    """Each group is tested once, in a fold of its name."""


class Disjoint(NamedTuple):
    """`k` folds "1" to "k" that share no group, balanced by class and gender."""

    k: int


class Stratified(NamedTuple):
    """`k` folds "1" to "k" of utterances at random, each class cut into k equal shares."""

    k: int
    seed: int = 0


class RandomSplit(NamedTuple):
    """One fold "1" of utterances at random: percents of each class for train and dev, the rest for test (P1 4.1)."""

    train: int = 80
    dev: int = 10
    seed: int = 0


class Crossed(NamedTuple):
    """Folds "1-1" to "g-t" of `groups` disjoint sets of groups by `texts` sets of sentences.

    A fold tests the groups of a set on the sentences of a set, and trains on the others' other sentences, so that
    neither was heard. What is left, the groups on other sentences and the sentences by others, is in no part of it.
    """

    groups: int
    texts: int


class FoldTable(NamedTuple):
    """Published lists, a TSV or CSV with a row an utterance and the column `utterance`.

    Beside it `test_folds`, the folds that test it (several with commas; empty: it is only trained on), or `part`
    (train, dev or test) and, where there are several folds, `fold`: the lists are then taken as they are.
    """

    path: Path


class RandomDev(NamedTuple):
    """Dev is so many percent of each class of the training utterances at random: speakers are shared."""

    percent: int = 10
    seed: int = 0


class Half(NamedTuple):
    """Each fold becomes two, `a` and `b`: a random half of each class of the held-out is tested, the other is dev."""

    seed: int = 0


class Next(NamedTuple):
    """Dev is what the next fold tests; the last fold's is what the first tests."""


Groups = Mapping[str, Sequence[str]]
Test = Groups | LeaveOneOut | Disjoint | Crossed | Stratified | RandomSplit | FoldTable
Duplicates = Literal["keep_first", "drop_all", "error"]
Dev = int | Sequence[str] | Groups | RandomDev | Half | Next


@dataclass(frozen=True)
class Protocol:
    """Label map + filter + fold rule, as data.

    Attributes:
        labels: Class by corpus label; an utterance with another is dropped, with that reason. None: labels as they are.
        test: The fold rule: the test groups by fold name, or one of the rules of this module.
        dev: What of the training utterances becomes dev: so many groups, genders alternating; the groups by name, for
            all folds or by fold; or a rule of this module. Not asked where the fold rule gives dev itself.
        group: The field whose values stay together.
        keep: Allowed values of fields (of `aux`, or of the utterance); others are dropped, and reported.
        drop: Ids of utterances that it does not keep.
        duplicates: What becomes of recordings that it would keep under several ids: "keep_first" keeps the first in
            the order of ids, "drop_all" none, "error" refuses them. None keeps them; what two parts share is an error.
        overlaps: Which of `OVERLAPS` the parts may share, with the `PAIRS` that may. What is shared stamps the scores;
            what is shared and not declared here is an error.
        published: Utterances by class as the source of the protocol counts them; empty where it does not.
        aux: What else may be learned of an utterance: fields of its `aux`, or its own, by name. A loss asks for one.
        about: One sentence with the source.
    """

    labels: Mapping[str, str] | None
    test: Test
    dev: Dev = 2
    group: Literal["speaker", "session"] = "speaker"
    keep: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drop: Sequence[str] = ()
    duplicates: Duplicates | None = None
    overlaps: Mapping[str, Sequence[str]] = field(default_factory=dict)
    published: Mapping[str, int] = field(default_factory=dict)
    aux: Mapping[str, AuxTask] = field(default_factory=lambda: AUX)
    about: str = ""
