"""The fold rules by property: disjoint, complete, the same in any order, and steady when an utterance is added."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sertk.core import (
    PAIRS,
    AuxTask,
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
)
from sertk.corpus.folding import Fold, names, read_table, subset
from sertk.corpus.protocols import from_file, make

RANDOM = dict.fromkeys(("speaker", "session", "text"), PAIRS)


def utterance(speaker: int, label: str, take: int) -> Utterance:
    """Speakers of odd numbers are male; two speakers a session."""
    name = f"s{speaker}_{label}_{take}"
    gender = "male" if speaker % 2 else "female"
    return Utterance(name, f"{name}.wav", f"s{speaker}", label, gender=gender, session=f"d{speaker // 2}")


# {speaker: {label: how many}}: 4 to 9 speakers, each with some of three labels
Counts = dict[int, dict[str, int]]
corpora: st.SearchStrategy[Counts] = st.dictionaries(
    st.integers(0, 20),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1),
    min_size=6,
    max_size=9,
)


def utterances(counts: Counts) -> list[Utterance]:
    return [
        utterance(speaker, label, take)
        for speaker, labels in counts.items()
        for label, count in labels.items()
        for take in range(count)
    ]


def folds_of(protocol: Protocol, corpus: Sequence[Utterance]) -> dict[str, Fold]:
    return dict(make("toy", "p", protocol, corpus).folds.folds)


def speakers(ids: Sequence[str]) -> set[str]:
    return {i.split("_")[0] for i in ids}


def part_of(folds: dict[str, Fold]) -> dict[tuple[str, str], int]:
    """The part (0 train, 1 dev, 2 test) of each id in each fold."""
    return {(name, i): n for name, fold in folds.items() for n, part in enumerate(fold) for i in part}


GROUPED = {
    "one out": Protocol(None, LeaveOneOut(), dev=1),
    "one out, next": Protocol(None, LeaveOneOut(), dev=Next()),
    "disjoint": Protocol(None, Disjoint(3), dev=1),
    "disjoint, next": Protocol(None, Disjoint(3), dev=Next()),
}
DEALT = {
    "stratified": Protocol(None, Stratified(3), dev=RandomDev(10), overlaps=RANDOM),
    "cut": Protocol(None, RandomSplit(80, 10), overlaps=RANDOM),
    "one out, share": Protocol(None, LeaveOneOut(), dev=RandomDev(10), overlaps={"speaker": ["train+dev"]}),
    "one out, half": Protocol(None, LeaveOneOut(), dev=Half(), overlaps={"speaker": ["dev+test"]}),
}
EVERY = GROUPED | DEALT


@pytest.mark.parametrize("rule", EVERY)
@given(counts=corpora, seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_parts_are_disjoint_complete_and_the_same_in_any_order(rule: str, counts: Counts, seed: int) -> None:
    corpus = utterances(counts)
    folds = folds_of(EVERY[rule], corpus)
    for fold in folds.values():
        held = [i for part in fold for i in part]
        assert len(held) == len(set(held))
        assert sorted(held) == sorted(u.id for u in corpus)
    tested = Counter(i for fold in folds.values() for i in fold.test)
    if rule != "cut":
        assert tested == dict.fromkeys([u.id for u in corpus], 1)  # each once
    random.Random(seed).shuffle(corpus)
    assert folds_of(EVERY[rule], corpus) == folds


@pytest.mark.parametrize("rule", GROUPED)
@given(counts=corpora)
@settings(max_examples=30, deadline=None)
def test_grouped_parts_share_no_speaker(rule: str, counts: Counts) -> None:
    for train, dev, test in folds_of(GROUPED[rule], utterances(counts)).values():
        held = [speakers(part) for part in (train, dev, test)]
        assert all(held)
        assert sum(map(len, held)) == len(counts)  # disjoint, for all are there


@pytest.mark.parametrize("rule", ["one out", "one out, next"])
@given(counts=corpora, pick=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_one_more_utterance_of_a_speaker_moves_no_other(rule: str, counts: Counts, pick: int) -> None:
    before = part_of(folds_of(EVERY[rule], utterances(counts)))
    more = utterance(sorted(counts)[pick % len(counts)], "abc"[pick % 3], 99)
    after = part_of(folds_of(EVERY[rule], [*utterances(counts), more]))
    assert {place: n for place, n in after.items() if place[1] != more.id} == before


@given(counts=corpora, pick=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_one_more_utterance_moves_no_speaker_to_another_disjoint_fold_while_counts_keep_their_power_of_two(
    counts: Counts, pick: int
) -> None:
    # 6 and 7 and 8 are all nearest to 8, and 23 to 45 speakers' utterances in all to 32
    steady = {speaker: dict.fromkeys("abc", 6) for speaker in counts}
    before = folds_of(GROUPED["disjoint"], utterances(steady))
    more = utterance(sorted(counts)[pick % len(counts)], "abc"[pick % 3], 99)
    after = folds_of(GROUPED["disjoint"], [*utterances(steady), more])
    assert [speakers(fold.test) for fold in after.values()] == [speakers(fold.test) for fold in before.values()]


@pytest.mark.parametrize(("rule", "cuts"), [("stratified", 2), ("cut", 2), ("one out, half", 1)])
@given(counts=corpora, pick=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_one_more_utterance_moves_at_most_the_neighbours_of_the_cuts(
    rule: str, cuts: int, counts: Counts, pick: int
) -> None:
    corpus = utterances(counts)
    more = utterance(sorted(counts)[pick % len(counts)], "abc"[pick % 3], 99)

    def tests(corpus: Sequence[Utterance]) -> dict[str, str]:
        return {i: name for name, fold in folds_of(EVERY[rule], corpus).items() for i in fold.test}

    before, after = tests(corpus), tests([*corpus, more])
    moved = [u.id for u in corpus if before.get(u.id) != after.get(u.id)]
    by_class = Counter(i.split("_")[1] for i in moved)
    held = 1 if rule != "one out, half" else len(counts)
    assert all(count <= cuts * held for count in by_class.values())


@given(counts=corpora, k=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_stratified_folds_are_equal_to_one_utterance_in_all_and_in_each_class(counts: Counts, k: int) -> None:
    folds = folds_of(Protocol(None, Stratified(k), dev=0, overlaps=RANDOM), utterances(counts))
    tests = [folds[str(n + 1)].test if str(n + 1) in folds else () for n in range(k)]
    for label in ("", "_a_", "_b_", "_c_"):
        sizes = [sum(label in i for i in test) for test in tests]
        assert max(sizes) - min(sizes) <= 1


def test_disjoint_folds_are_balanced_by_class_and_gender() -> None:
    # ten speakers of each gender; the first four hold all of class c
    counts = {n: {"a": 8, "b": 8} | ({"c": 8} if n < 4 else {}) for n in range(20)}
    folds = folds_of(Protocol(None, Disjoint(4), dev=Next()), utterances(counts))
    for fold in folds.values():
        assert Counter(i.split("_")[1] for i in fold.test) == {"a": 40, "b": 40, "c": 8}
        males = sum(int(speaker[1:]) % 2 for speaker in speakers(fold.test))
        assert males in (2, 3)


def test_disjoint_folds_have_as_much_of_each_class_where_groups_are_of_one_size() -> None:
    counts = {n: {"a" if n < 8 else "b": 8} for n in range(0, 16, 2)}  # four women of each class
    for fold in folds_of(Protocol(None, Disjoint(4), dev=0), utterances(counts)).values():
        assert Counter(i.split("_")[1] for i in fold.test) == {"a": 8, "b": 8}


def test_the_largest_group_is_dealt_first() -> None:
    # 32, then four of 8: the fold of 32 gets one more, for its speakers are few. Dealt last it joins two: 48 and 16
    folds = folds_of(
        Protocol(None, Disjoint(2), dev=0), utterances({0: {"a": 32}} | {n: {"a": 8} for n in (2, 4, 6, 8)})
    )
    assert sorted(len(fold.test) for fold in folds.values()) == [24, 40]


def test_more_disjoint_folds_than_speakers_is_an_error() -> None:
    with pytest.raises(SertkError, match=r"5 folds of disjoint speakers cannot be made of 3 speakers \(s0, s1, s2\)"):
        folds_of(Protocol(None, Disjoint(5), dev=0), utterances({n: {"a": 1} for n in range(3)}))


def spoken(speaker: int, sentence: int, label: str) -> Utterance:
    one = utterance(speaker, label, sentence)
    return replace(one, text=f"Sentence {sentence}!" if speaker % 3 else f"sentence {sentence}")


@given(st.integers(2, 4), st.integers(2, 3), st.integers(3, 7))
@settings(max_examples=20, deadline=None)
def test_crossed_folds_test_speakers_and_sentences_that_were_not_heard(groups: int, texts: int, count: int) -> None:
    corpus = [spoken(n, m, label) for n in range(9) for m in range(count) for label in "ab"]
    folds = folds_of(Protocol(None, Crossed(groups, texts), dev=1), corpus)
    assert list(folds) == [f"{n + 1}-{m + 1}" for n in range(groups) for m in range(texts)]
    assert Counter(i for fold in folds.values() for i in fold.test) == Counter(one.id for one in corpus)
    said = {one.id: one.sentence for one in corpus}
    for fold in folds.values():
        heard = (*fold.train, *fold.dev)
        assert not speakers(fold.test) & speakers(heard)
        assert not {said[i] for i in fold.test} & {said[i] for i in heard}
        assert not speakers(fold.train) & speakers(fold.dev)
        # all that may be heard is: the other speakers on the other sentences
        others = len({said[i] for i in said} - {said[i] for i in fold.test})
        assert len(heard) == (9 - len(speakers(fold.test))) * others * 2


def test_crossed_folds_need_the_texts_and_enough_of_them() -> None:
    silent = [utterance(n, "a", m) for n in range(4) for m in range(2)]
    with pytest.raises(SertkError, match="'s0_a_0' has no text"):
        folds_of(Protocol(None, Crossed(2, 2), dev=0), silent)
    coded = [replace(one, aux={"sentence": "s1"}) for one in silent]  # a code is a sentence
    with pytest.raises(SertkError, match="2 sets cannot be made of 1 sentences"):
        folds_of(Protocol(None, Crossed(2, 2), dev=0), coded)


@pytest.mark.parametrize("dev", [Half(), Next()])
def test_crossed_folds_have_no_next_and_no_half(dev: Half | Next) -> None:
    with pytest.raises(UsageError, match="test is crossed, where dev is"):
        folds_of(Protocol(None, Crossed(2, 2), dev=dev), [spoken(1, 1, "a")])


def test_a_cut_takes_the_whole_numbers_below_the_shares_of_each_class() -> None:
    # int(0.8 * 23) = 18, int(0.9 * 23) = 20; int(0.8 * 7) = 5, int(0.9 * 7) = 6
    fold = folds_of(Protocol(None, RandomSplit(80, 10), overlaps=RANDOM), utterances({1: {"a": 23, "b": 7}}))["1"]
    assert [Counter(i.split("_")[1] for i in part) for part in fold] == [
        {"a": 18, "b": 5},
        {"a": 2, "b": 1},
        {"a": 3, "b": 1},
    ]


def test_another_seed_is_another_cut() -> None:
    corpus = utterances({1: {"a": 40}})
    cuts = [folds_of(Protocol(None, RandomSplit(seed=seed), overlaps=RANDOM), corpus)["1"] for seed in (0, 1)]
    assert cuts[0] != cuts[1]
    assert [len(part) for part in cuts[0]] == [len(part) for part in cuts[1]] == [32, 4, 4]


SHARED = {"speaker": ["train+dev"]}


@pytest.mark.parametrize(
    ("percent", "sizes", "dev"),
    [
        (10, (4, 5, 14, 15), (0, 1, 1, 2)),  # 0.4, 0.5, 1.4 and 1.5: halves are rounded up
        (50, (1, 2, 3, 5), (1, 1, 2, 3)),  # 0.5, 1, 1.5 and 2.5
        (33, (3, 2, 1, 50), (1, 1, 0, 17)),  # 0.99, 0.66, 0.33 and 16.5
    ],
)
def test_a_share_of_dev_is_rounded_for_each_class(percent: int, sizes: tuple[int, ...], dev: tuple[int, ...]) -> None:
    protocol = Protocol(None, {"x": ["s0"]}, dev=RandomDev(percent), overlaps=SHARED)
    fold = folds_of(protocol, utterances({0: {"a": 2}, 1: dict(zip("abcd", sizes, strict=True))}))["x"]
    counts = Counter(i.split("_")[1] for i in fold.dev)
    assert tuple(counts[label] for label in "abcd") == dev
    assert len(fold.train) == sum(sizes) - sum(dev)


def test_dev_is_drawn_anew_for_every_fold_and_seed() -> None:
    corpus = utterances({0: {"a": 2}, 1: {"a": 40}})

    def dev(fold: str, seed: int) -> tuple[str, ...]:
        test = {"x": ["s0"], "y": ["s0"]}
        return folds_of(Protocol(None, test, dev=RandomDev(25, seed), overlaps=SHARED), corpus)[fold].dev

    drawn = {dev("x", 0), dev("y", 0), dev("x", 1), dev("x", 2)}
    assert [len(one) for one in drawn] == [10] * 4
    assert dev("x", 0) == dev("x", 0)


@pytest.mark.parametrize("rule", ["stratified", "half", "cut"])
def test_what_is_random_follows_the_seed_and_not_the_alphabet(rule: str) -> None:
    corpus = utterances({0: {"a": 40}, 1: {"a": 40}})

    def tested(seed: int) -> tuple[str, ...]:
        protocol = {
            "stratified": Protocol(None, Stratified(2, seed), dev=0, overlaps=RANDOM),
            "half": Protocol(None, LeaveOneOut(), dev=Half(seed), overlaps=RANDOM),
            "cut": Protocol(None, RandomSplit(50, 0, seed), overlaps=RANDOM),
        }[rule]
        return next(iter(folds_of(protocol, corpus).values())).test

    assert len({tested(seed) for seed in range(3)}) == 3
    ids = sorted(one.id for one in corpus)
    for seed in range(3):
        size = len(tested(seed))
        assert tested(seed) not in (tuple(ids[:size]), tuple(ids[-size:]))


def test_a_subset_is_a_share_of_each_class_in_order_and_at_least_one_utterance() -> None:
    ids = [f"{label}{n}" for label, count in (("b", 25), ("a", 40), ("c", 3)) for n in range(count)]
    labels = {i: i[0] for i in ids}
    kept = subset(ids, labels, 0.1)
    assert Counter(map(labels.get, kept)) == {"b": 3, "a": 4, "c": 1}  # 2.5, 4 and 0.3
    assert list(kept) == [i for i in ids if i in kept]
    assert kept[:3] != ("b0", "b1", "b2")
    assert {*subset(ids[::-1], labels, 0.1)} == {*kept}
    assert subset(ids, labels, 1.0) == tuple(ids)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_larger_subset_holds_a_smaller_one(classes: list[str], one: float, other: float) -> None:
    labels = {f"u{n}": label for n, label in enumerate(classes)}
    small, large = (subset(list(labels), labels, share) for share in sorted((one, other)))
    assert {*small} <= {*large}
    assert {labels[i] for i in small} == {*classes}


def test_halves_are_swapped_and_never_trained_on() -> None:
    protocol = Protocol(None, {"1": ["d0"], "2": ["d1"], "3": ["d2"]}, dev=Half(), group="session")
    assert names(protocol) == ["1a", "1b", "2a", "2b", "3a", "3b"]
    folds = folds_of(protocol, utterances({n: {"a": 5, "b": 3} for n in range(6)}))
    for name in "123":
        a, b = folds[f"{name}a"], folds[f"{name}b"]
        assert (a.train, a.dev, a.test) == (b.train, b.test, b.dev)
        assert len(a.dev) == len(a.test) == 8
        assert Counter(i.split("_")[1] for i in a.test) == {"a": 5, "b": 3}
        assert not speakers(a.train) & speakers((*a.dev, *a.test))


def test_the_next_speaker_is_dev_and_the_first_follows_the_last() -> None:
    folds = folds_of(Protocol(None, LeaveOneOut(), dev=Next()), utterances({n: {"a": 2} for n in (2, 10, 4)}))
    assert {name: speakers(fold.dev).pop() for name, fold in folds.items()} == {"s10": "s2", "s2": "s4", "s4": "s10"}


def test_numbers_are_folds_in_their_own_order() -> None:
    corpus = [replace(one, speaker=one.speaker[1:]) for one in utterances({n: {"a": 1} for n in (2, 10, 1)})]
    assert list(folds_of(Protocol(None, LeaveOneOut(), dev=0), corpus)) == ["1", "2", "10"]


def test_a_session_of_both_genders_is_of_a_kind_of_its_own() -> None:
    # sessions d0 and d1 of a woman and a man, d2 and d3 of a woman, d4 of a man; d5 to d8, of both, are tested
    speakers_of = {0: "01", 1: "23", 2: "4", 3: "6", 4: "9", 5: "ab", 6: "cd", 7: "ef", 8: "gh"}
    corpus = [
        replace(utterance(place, "a", 0), id=f"d{session}_{one}", session=f"d{session}", gender=gender)
        for session, own in speakers_of.items()
        for place, one in enumerate(own)
        for gender in ["male" if place or one == "9" else "female"]
    ]
    test = {f"d{n}": [f"d{n}"] for n in range(5, 9)}
    overlaps = {"speaker": PAIRS}
    rest = [one for one in corpus if one.session in ("d0", "d1", "d2", "d3", "d4")]
    for name in test:
        tested = [one for one in corpus if one.session == name]
        protocol = Protocol(None, {name: [name]}, dev=3, group="session", overlaps=overlaps)
        fold = folds_of(protocol, [*rest, *tested])[name]
        sessions = {i.split("_")[0] for i in fold.dev}
        assert [len(sessions & kind) for kind in ({"d0", "d1"}, {"d2", "d3"}, {"d4"})] == [1, 1, 1]


def test_dev_may_be_named_for_each_fold() -> None:
    protocol = Protocol(None, {"x": ["s0"], "y": ["s1"]}, dev={"x": ["s2"], "y": ["s0"]})
    folds = folds_of(protocol, utterances({n: {"a": 2} for n in range(4)}))
    assert {name: [speakers(part) for part in fold] for name, fold in folds.items()} == {
        "x": [{"s1", "s3"}, {"s2"}, {"s0"}],
        "y": [{"s2", "s3"}, {"s0"}, {"s1"}],
    }


def test_a_group_that_is_not_known_is_an_error() -> None:
    corpus = [replace(utterance(1, "a", 1), session=None), utterance(2, "a", 1)]
    with pytest.raises(SertkError, match="'s1_a_1' has none"):
        folds_of(Protocol(None, LeaveOneOut(), group="session", dev=0), corpus)


def test_no_fold_with_a_test_is_an_error(tmp_path: Path) -> None:
    corpus = utterances({n: {"a": 2} for n in range(4)})
    only_train = written(tmp_path / "t.tsv", "utterance\tpart\ns1_a_0\ttrain\n")
    for test in ({"x": ["nobody"]}, FoldTable(only_train)):
        with pytest.raises(SertkError, match="no fold has an utterance to test here"):
            folds_of(Protocol(None, test, dev=0), corpus)


def test_groups_of_dev_that_are_not_here_are_told() -> None:
    corpus = utterances({n: {"a": 2} for n in range(4)})
    for dev in (["s1", "s9"], {"x": ["s1", "s9"]}):
        (told,) = make("toy", "p", Protocol(None, {"x": ["s0"]}, dev=dev), corpus).absent
        assert told["id"] == "speaker s9"
        assert told["reason"].startswith("dev of fold")


def test_fold_names_that_are_numbers_are_text(tmp_path: Path) -> None:
    text = "labels: null\ntest: {2: [s2], 10: [s1]}\ndev: {2: [s1], 10: [s2]}\n"
    protocol = from_file(written(tmp_path / "p.yaml", text))
    assert (protocol.test, protocol.dev) == ({"2": ["s2"], "10": ["s1"]}, {"2": ["s1"], "10": ["s2"]})


def test_a_fold_whose_name_looks_like_a_place_is_found_by_its_name() -> None:
    corpus = [replace(one, speaker=f"#{one.speaker[1:]}") for one in utterances({n: {"a": 1} for n in (1, 2, 10)})]
    folds = make("toy", "p", Protocol(None, LeaveOneOut(), dev=0), corpus).folds
    assert folds.name_of("#2") == "#2"


def test_two_folds_leave_nothing_to_train_on_where_the_next_is_dev() -> None:
    with pytest.raises(SertkError, match="of 2 folds none is left for train"):
        folds_of(Protocol(None, LeaveOneOut(), dev=Next()), utterances({1: {"a": 1}, 2: {"a": 1}}))


# --- lists ---------------------------------------------------------------------------------------------------------


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_whole_lists_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = "utterance,part,fold\ns1_a_0,train,2\ns2_a_0,dev,2\ns3_a_0,test,2\ns1_a_0,test,10\ns9_a_0,train,10\n"
    path = written(tmp_path / "lists.csv", rows)
    corpus = utterances({n: {"a": 1} for n in range(5)})
    made = make("toy", "p", Protocol(None, FoldTable(path)), corpus)
    assert names(Protocol(None, FoldTable(path))) == list(made.folds.folds) == ["2", "10"]
    assert dict(made.folds.folds) == {
        "2": Fold(("s1_a_0",), ("s2_a_0",), ("s3_a_0",)),
        "10": Fold((), (), ("s1_a_0",)),
    }
    assert {one["id"]: one["reason"] for one in made.dropped} == {
        "s0_a_0": "not in lists.csv",
        "s4_a_0": "not in lists.csv",
    }
    assert made.absent == [{"id": "s9_a_0", "reason": "in lists.csv, not in this corpus folder"}]


def test_an_empty_test_fold_is_trained_on_and_several_are_tested_in_each(tmp_path: Path) -> None:
    path = written(tmp_path / "t.tsv", "utterance\ttest_folds\ns1_a_0\t1,2\ns2_a_0\t\ns3_a_0\t2\n")
    protocol = Protocol(None, FoldTable(path), dev=0, overlaps=RANDOM)
    folds = folds_of(protocol, utterances({n: {"a": 1} for n in range(1, 4)}))
    assert folds == {
        "1": Fold(("s2_a_0", "s3_a_0"), (), ("s1_a_0",)),
        "2": Fold(("s2_a_0",), (), ("s1_a_0", "s3_a_0")),
    }


def test_speakers_of_what_the_next_fold_tests_are_not_trained_on(tmp_path: Path) -> None:
    # b is tested in folds 2 and 3: where fold 2 is dev, what fold 3 tests of b is in no part
    rows = ["utterance,test_folds", "sA_a_0,1", "sB_a_0,2", "sB_a_1,3", "sC_a_0,3", "sD_a_0,"]
    path = written(tmp_path / "t.csv", "\n".join(rows))
    corpus = [replace(utterance(0, "a", 0), id=i, speaker=i[:2]) for i in (row.split(",")[0] for row in rows[1:])]
    made = make("toy", "p", Protocol(None, FoldTable(path), dev=Next()), corpus)
    assert made.folds.folds["1"] == Fold(("sC_a_0", "sD_a_0"), ("sB_a_0",), ("sA_a_0",))


@pytest.mark.parametrize(
    ("overlaps", "trained"),
    [
        ({}, False),
        ({"speaker": ["train+dev", "dev+test"]}, False),
        ({"session": ["train+test"], "text": ["train+test"]}, False),
        ({"speaker": ["train+test"]}, True),
    ],
)
def test_a_tested_speakers_other_utterances_are_trained_on_only_where_train_and_test_may_share_speakers(
    tmp_path: Path, overlaps: dict[str, list[str]], trained: bool
) -> None:
    path = written(tmp_path / "t.csv", "utterance,test_folds\ns1_a_0,1\ns1_a_1,\ns2_a_0,\n")
    protocol = Protocol(None, FoldTable(path), dev=0, overlaps=overlaps)
    train = folds_of(protocol, utterances({1: {"a": 2}, 2: {"a": 1}}))["1"].train
    assert train == (("s1_a_1", "s2_a_0") if trained else ("s2_a_0",))


def test_a_stratified_fold_is_of_utterances_whoever_speaks() -> None:
    # that speakers are shared is for the audit to refuse; they are not dropped in silence
    corpus = utterances({1: {"a": 4}, 2: {"a": 4}})
    for fold in folds_of(Protocol(None, Stratified(2), dev=0), corpus).values():
        assert (len(fold.train), len(fold.test)) == (4, 4)


def test_blanks_and_a_byte_order_mark_are_no_part_of_a_list(tmp_path: Path) -> None:
    folds = read_table(written(tmp_path / "t.csv", '\ufeffutterance,test_folds\na,"1, 2 "\nb, 2\n')).folds
    assert {name: parts["test"] for name, parts in folds.items()} == {"1": ("a",), "2": ("a", "b")}
    folds = read_table(written(tmp_path / "p.csv", "utterance,part,fold\na, dev , x \nb,test,\n")).folds
    assert {name: dict(parts) for name, parts in folds.items()} == {
        "1": {"train": (), "dev": (), "test": ("b",)},
        "x": {"train": (), "dev": ("a",), "test": ()},
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("utterance\tpart\na\tvalid\n", "part 'valid'.*train, dev, test"),
        ("utterance\tpart\na\ttrain\na\ttest\n", "'a' comes twice in fold 1"),
        ("utterance\ttest_folds\na\t\n", "no fold"),
        ("utterance\ttest_folds\n", "no fold"),
        ("utterance\ttest_folds\na\n", "row 2 has not as many cells as the header"),
        ("utterance,test_folds\na,1,2\n", "row 2 has not as many cells"),
        ("id\tfold\na\t1\n", "has the columns id, fold"),
    ],
)
def test_lists_that_say_nothing_clear_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SertkError, match=says):
        read_table(written(tmp_path / "t.tsv", text))


# --- protocols in files --------------------------------------------------------------------------------------------


def test_a_protocol_may_be_a_file(tmp_path: Path) -> None:
    written(tmp_path / "lists.tsv", "utterance\ttest_folds\ns1_a_0\t1\n")
    rules = {
        "test: {rule: leave_one_out}\ndev: {rule: next}": (LeaveOneOut(), Next()),
        "test: {rule: disjoint, k: 5}\ndev: 3": (Disjoint(5), 3),
        "test: {rule: stratified, k: 4, seed: 7}\ndev: {rule: share, percent: 20}": (Stratified(4, 7), RandomDev(20)),
        "test: {rule: cut, train: 70, dev: 15}": (RandomSplit(70, 15), 2),
        "test: {rule: crossed, groups: 3, texts: 2}": (Crossed(3, 2), 2),
        "test: {x: [s1, s2]}\ndev: {rule: half}": ({"x": ["s1", "s2"]}, Half()),
        "test: {rule: table, path: lists.tsv}\ndev: [s3]": (FoldTable(tmp_path / "lists.tsv"), ["s3"]),
    }
    for text, (test, dev) in rules.items():
        read = from_file(
            written(tmp_path / "p.yaml", f"labels: {{a: anger}}\n{text}\noverlaps: {{text: [train+test]}}\n")
        )
        assert read == Protocol({"a": "anger"}, test, dev, overlaps={"text": ["train+test"]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: {a: b}", "has no 'test'"),
        ("labels: {a: b}\ntest: {rule: disjont, k: 5}", "did you mean 'disjoint'"),
        ("labels: {a: b}\ntest: {rule: disjoint, n: 5}", "takes no n: 5; it takes k: int"),
        ("labels: {a: b}\ntest: {rule: disjoint}", "needs k, as in .rule: disjoint, k:"),
        ("labels: {a: b}\ntest: {rule: disjoint, k: five}", "takes no k: 'five'"),
        ("labels: {a: b}\ntest: {x: s1}", "test is"),
        ("labels: {a: b}\ntest: {x: [s1]}\ndevs: 3", "did you mean 'dev'"),
        ("labels: {a: b}\ntest: {x: [s1]}\noverlaps: {speakers: [train+test]}", "did you mean 'speaker'"),
        ("labels: {a: b}\ntest: {x: [s1]}\noverlaps: {speaker: [test+train]}", "overlaps is"),
        ("labels: {a: b}\ntest: {x: [s1]}\ngroup: sentence", "group is 'sentence'; it takes speaker or session"),
        (
            "labels: {a: b}\ntest: {x: [s1]}\nduplicates: keep",
            "duplicates is 'keep'; it takes keep_first, drop_all or e",
        ),
        ("labels: {a: b}\ntest: {x: [s1]}\ndrop: utt1", "drop is 'utt1'; it takes .id, "),
        ("labels: {a: 1}\ntest: {x: [s1]}", "it takes {label: class}, both text"),
        ("labels: {a: b}\ntest: {rule: disjoint, k: 0}", "k is 0; there are at least 2 folds"),
        ("labels: {a: b}\ntest: {rule: disjoint, k: 1}", "k is 1; there are at least 2 folds"),
        ("labels: {a: b}\ntest: {rule: stratified, k: 1}", "k is 1; there are at least 2 folds"),
        ("labels: {a: b}\ntest: {rule: cut, train: 90, dev: 20}", "train is 90 and dev 20 percent"),
        ("labels: {a: b}\ntest: {rule: cut, train: 90, dev: 10}", "train is 90 and dev 10 percent"),
        ("labels: {a: b}\ntest: {rule: cut, train: 0, dev: 10}", "train is 0 and dev 10 percent"),
        ("labels: {a: b}\ntest: {x: [s1]}\ndev: {rule: share, percent: 100}", "dev is 100 percent"),
        ("labels: {a: b}\ntest: {x: [s1]}\ndev: {rule: share, percent: 0}", "dev is 0 percent"),
        ("labels: {a: b}\ntest: {x: [s1]}\ndev: {rule: share, percent: 200}", "dev is 200 percent"),
        ("labels: {a: b}\ntest: {x: [s1]}\ndev: -1", "dev is -1 groups"),
        ("labels: {a: b}\ntest: {rule: crossed, groups: 1, texts: 2}", "groups is 1 and texts 2"),
        ("labels: {a: b}\ntest: {x: [s1]}\naux: {age: [20, 40]}", "aux is"),
        (
            "labels: {a: b}\ntest: {x: [s1]}\naux: {age: {edges: [40, 20]}}",
            "aux 'age' has the edges .40, 20.; they rise",
        ),
        ("labels: {a: b}\ntest: {x: [s1]}\naux: {age: {edge: [40]}}", "aux 'age' is .*; it takes .name: "),
        ("labels: {a: b}\ntest: {x: [s1]}\naux: {age: {edges: []}}", "aux 'age' is"),
        ("labels: {a: b}\ntest: {x: [s1]}\naux: {age: {edges: [old]}}", "aux 'age' is"),
    ],
)
def test_a_file_that_is_no_protocol_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        from_file(written(tmp_path / "p.yaml", text))


def test_a_file_may_drop_ids_and_copies_in_letters_of_any_system(tmp_path: Path) -> None:
    text = "labels: {a: b}\ntest: {x: [s1]}\ndrop: [bo\u0308se, u2]\nduplicates: drop_all\n"
    read = from_file(written(tmp_path / "p.yaml", text))
    assert (read.drop, read.duplicates) == (["b\u00f6se", "u2"], "drop_all")


def test_a_file_may_state_auxiliary_tasks(tmp_path: Path) -> None:
    text = "labels: {a: b}\ntest: {x: [s1]}\naux: {age: {edges: [20, 40.5]}, style: {classes: [read, free]}}\n"
    read = from_file(written(tmp_path / "p.yaml", text))
    assert read.aux == {"age": AuxTask(edges=(20, 40.5)), "style": AuxTask(classes=("read", "free"))}


def test_folds_have_names_before_the_corpus_is_read_but_where_it_decides() -> None:
    assert names(Protocol(None, LeaveOneOut())) is None
    assert names(Protocol(None, Stratified(3))) == ["1", "2", "3"]
    assert names(Protocol(None, Crossed(2, 2))) == ["1-1", "1-2", "2-1", "2-2"]
    assert names(Protocol(None, RandomSplit())) == ["1"]
