"""A drawing in three formats, and as a part of a page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from matplotlib.figure import Figure

from sertk.results.drawing import draw, inline

LABEL = 'id="x" $a_1$ <b>'


def paint(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4])
    axes.set(title=LABEL)


def test_the_same_drawing_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / name, (2, 1.5), paint)
    for kind in ("png", "svg", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_in_a_page_a_drawing_has_ids_of_its_own_and_no_address_and_its_texts_are_kept(tmp_path: Path) -> None:
    svg = draw(tmp_path / "a", (2, 1.5), paint)
    root = ElementTree.fromstring(inline(svg, "own"))
    assert [one.text for one in root.iter("text") if one.text and "x" in one.text] == [LABEL]
    ids = [own for one in root.iter() if (own := one.get("id"))]
    assert ids
    assert all(own.startswith("own-") for own in ids)
    used = [value[1:] for one in root.iter() for name, value in one.items() if name == "href"]
    used += [value[5:-1] for one in root.iter() if (value := one.get("clip-path"))]
    assert used
    assert set(used) <= set(ids)
    assert "http" not in inline(svg, "own")
    assert {"width", "height"}.isdisjoint(root.keys())
    assert "currentColor" in inline(svg, "own")
