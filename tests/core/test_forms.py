"""Forms of documents: types as JSON means them, finite numbers, and what is wrong in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from sertk.core.errors import some
from sertk.core.forms import Form, as_annotated, fits, shown

FORM = Form(
    {"id": str, "values": list[float], "of": Form({"name": str}, {"age": int | None})}, {"votes": Mapping[str, int]}
)
RIGHT = {"id": "a", "values": [0.5, 1], "of": {"name": "b"}}


@pytest.mark.parametrize("more", [{}, {"votes": {"a": 1}}, {"else": [None]}, {"of": {"name": "b", "age": None}}])
def test_what_a_form_wants_is_right_whatever_else_there_is(more: dict[str, object]) -> None:
    assert FORM.fault({**RIGHT, **more}) == ""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"id": 3}, "id is 3; it must be text"),
        ({"values": [0.5, math.nan]}, "values is [0.5, nan]; it must be a list of numbers"),
        ({"values": [0.5, True]}, "values is [0.5, True]; it must be a list of numbers"),
        ({"values": [10**400]}, "it must be a list of numbers"),
        ({"values": 1.0}, "values is 1.0; it must be a list of numbers"),
        ({"votes": {"a": 0.5}}, "votes is {'a': 0.5}; it must be a mapping of names to whole numbers"),
        ({"of": {}}, "of: it lacks name"),
        ({"of": {"name": "b", "age": "3"}}, "of: age is '3'; it must be a whole number or null"),
        ({"of": []}, "of: it is [], and not an object"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(wrong: dict[str, object], says: str) -> None:
    assert says in FORM.fault({**RIGHT, **wrong})


def test_what_is_lacking_is_told() -> None:
    assert FORM.fault({"id": "a"}) == "it lacks values, of"
    assert FORM.fault([RIGHT]).endswith("and not an object")


def test_numbers_whose_sum_is_beyond_all_floats_are_numbers() -> None:
    assert fits([1.7e308, 1.7e308], list[float])
    assert not fits([1.7e308, math.inf], list[float])


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (2, float, 2.0),
        (2, int, 2),
        (2, float | None, 2.0),
        (2, float | int, 2),
        (None, float | None, None),
        ([1, 0.5], Sequence[float], [1.0, 0.5]),
        ((5, -5), tuple[float, ...] | None, (5.0, -5.0)),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ([1, 2], list[int], [1, 2]),
        (True, bool | float, True),
        ("3", str | float, "3"),
    ],
)
def test_a_whole_number_becomes_a_float_where_the_annotation_says_float(
    value: object, hint: object, wanted: object
) -> None:
    assert repr(as_annotated(value, hint)) == repr(wanted)  # 2 == 2.0, but they read differently


def test_values_and_lists_are_cut_where_they_are_long() -> None:
    assert shown([[10**5000]]) == shown(10**5000)
    assert len(shown("x" * 1000)) == 83
    assert shown(10**5000) == "a value that is too large to show"
    assert some(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert some(["a", "b"], joint=" = ") == "a = b"
    assert some([]) == ""
