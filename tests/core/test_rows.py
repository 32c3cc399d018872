"""Columns of many rows."""

from array import array

import pytest
import torch

from sertk.core.rows import Chained, Chosen, Coded, Texts, coded, first_twice, numbers, repeated


def texts(*words: str) -> Texts:
    made = Texts()
    for word in words:
        made.append(word)
    return made


def test_texts_are_given_back_one_by_one_in_slices_and_from_the_end() -> None:
    made = texts("ä", "", "b c", "\udcff")
    assert list(made) == ["ä", "", "b c", "\udcff"]
    assert (made[-2], made[1:3]) == ("b c", ("", "b c"))
    assert made == ("ä", "", "b c", "\udcff")
    assert made != ("ä", "", "b c", "d")
    assert made != ("ä",)
    with pytest.raises(IndexError):
        made[4]


def test_an_item_that_comes_again_is_the_same_object() -> None:
    made = Coded[str | None]()
    for word in ("s1", None, "".join(["s", "1"])):
        made.append(word)
    assert made == ("s1", None, "s1")
    assert made[0] is made[2]


def test_rows_are_chosen_and_chained() -> None:
    made = texts("a", "b", "c")
    assert Chosen(made, numbers(torch.tensor([2, 0]))) == ("c", "a")
    assert Chosen(Chosen(made, range(1, 3)), [1]) == ("c",)
    joined = Chained([made, (), texts("d")])
    assert joined == ("a", "b", "c", "d")
    assert (joined[3], joined[-4]) == ("d", "a")
    assert Chained[str]([]) == ()


def test_items_are_numbered_whatever_holds_them() -> None:
    made = Coded[str | None]()
    for word in ("s1", None, "s1", "s2"):
        made.append(word)
    for items, codes, names in (
        (made, [0, 1, 0, 2], ["s1", None, "s2"]),
        (("s2", "s1", "s2"), [0, 1, 0], ["s2", "s1"]),
        (texts("b", "a", "b"), [0, 1, 0], ["b", "a"]),
        (Chosen(made, [3, 3, 1]), [2, 2, 1], ["s1", None, "s2"]),  # s1 keeps its number though it is not chosen
        (Chained([("s2", "s3"), made]), [0, 1, 2, 3, 2, 0], ["s2", "s3", "s1", None]),
        (Chained[str]([]), [], []),
        (Coded[str](), [], []),
    ):
        numbered, known = coded(items)
        assert (numbered.tolist(), known) == (codes, names)
        assert numbered.dtype == torch.int64


def test_an_id_that_comes_twice_is_named_where_it_comes_again() -> None:
    lines = [("1", "a"), ("2", "b"), ("3", "c"), ("4", "b"), ("5", "a")]
    hashes = array("q", (hash(name) for _, name in lines))
    assert repeated(hashes) == {hash("a"), hash("b")}
    assert first_twice(hashes, lambda: lines) == ("4", "b")
    assert first_twice(hashes[:3], lambda: pytest.fail("is not read again")) is None
    assert first_twice(array("q", [7, 7]), lambda: [("1", "a"), ("2", "b")]) is None  # two ids of one hash
    assert repeated(array("q")) == frozenset()
