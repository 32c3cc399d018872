"""Every system over every recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import sertk
from sertk.settings import merge

EGS = Path(sertk.__file__).parents[1] / "egs"


@pytest.mark.parametrize("recipe", sorted(EGS.glob("*/recipe.yaml")), ids=lambda path: path.parent.name)
def test_every_system_is_read_over_a_recipe_and_says_itself_again(recipe: Path, tmp_path: Path) -> None:
    for name in merge.systems():
        read = replace(merge.load(name, recipe), fold="1")
        merge.dump(read, tmp_path / "saved.yaml")
        assert merge.load(None, tmp_path / "saved.yaml") == read
