"""One drawing in three formats, for slides, papers and pages; and its SVG as a part of an HTML page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sertk.core.files import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1a1c21"
"""Of text and lines; in a page it is the colour of the page's text, which is light on a dark ground."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text is text: it can be searched, and has the font of the page
    "svg.hashsalt": "sertk",  # the same drawing is the same file
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 11,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
}
FORMATS = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""What each drawing is written as, and without which date."""
_TAG = re.compile(r"<[^>]*>")
_NAMES = re.compile(r"""(\sid="|href="#|url\(#)""")
Paint = Callable[["Figure"], None]
"""Draws on a matplotlib Figure."""


def draw(stem: Path, size: tuple[float, float], paint: Paint) -> str:
    """Draws once and writes STEM.png, STEM.svg and STEM.pdf.

    Args:
        stem: The path of the files without their suffix.
        size: Width and height, inches.
        paint: Draws.

    Returns:
        The SVG.

    Raises:
        SertkError: If a file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it has done its work; again for each format it costs most of the time
        made = {}
        for kind, undated in FORMATS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, transparent=kind == "svg", metadata=undated)
            made[kind] = buffer.getvalue()
            with writing(stem.parent / f"{stem.name}.{kind}") as file:
                file.write(made[kind])
    return made["svg"].decode()


def inline(svg: str, name: str) -> str:
    """A drawing's SVG as it may stand in an HTML page beside others.

    Args:
        svg: Of `draw`.
        name: Put before its ids, so that no two drawings share one.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    return _TAG.sub(lambda tag: _tag(tag[0], name), body).strip()


def _tag(tag: str, name: str) -> str:
    """A tag with ids of its own, in the colour and font of the page, without what HTML knows by itself."""
    if tag.startswith("<svg"):
        tag = re.sub(r' (xmlns(:xlink)?|version|width|height)="[^"]*"', "", tag)
        tag = tag.replace("<svg", '<svg aria-hidden="true" focusable="false"')
    tag = re.sub(r"font-family: [^;\"]*;?", "", tag.replace("xlink:href", "href").replace(INK, "currentColor"))
    return _NAMES.sub(rf"\g<1>{name}-", tag)
