"""Folds and seeds as a command line names several of them."""

from __future__ import annotations

import pytest

from sertk.core import UsageError
from sertk.settings.several import folds_of, seeds_of

KNOWN = ["Ses01", "DC", "#2", "a,b", "a"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("DC", ["DC"]),
        ("DC,Ses01,DC", ["DC", "Ses01"]),
        ("Ses01, DC", ["Ses01", "DC"]),
        ("all", KNOWN),
        ("#1,#5", ["Ses01", "a"]),
        ("#2", ["#2"]),  # a name goes before a position
        ("a,b", ["a,b"]),
        ("a,a,b,DC", ["a", "a,b", "DC"]),
    ],
)
def test_folds_go_by_names_positions_or_all(text: str, names: list[str]) -> None:
    assert folds_of(text, KNOWN) == names


def test_a_fold_may_be_called_all() -> None:
    assert folds_of("all", ["all", "none"]) == ["all"]


@pytest.mark.parametrize("text", ["", "b", "DC,", "#0", "#6", "DC,Ses02", "all,DC"])
def test_what_is_no_fold_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"no fold '.*by position #1 to #5, or all"):
        folds_of(text, KNOWN)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-4", [0, 1, 2, 3, 4]), ("7-9, 0,8,2", [7, 8, 9, 0, 2]), ("5-5", [5])]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "-1", "4-0", "0-", "a", "1,,2", "0-2-4", "1.5"])
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no seed\. Give numbers and ranges: 3, 0-4 or 0,2,7-9"):
        seeds_of(text)
