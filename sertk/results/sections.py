"""What the pages of `report` and `compare` are made of: their sections and drawings, and the template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sertk.core.files import write_text
from sertk.results.drawing import inline
from sertk.results.listen import Heard
from sertk.results.markup import Block, left_out, styled
from sertk.results.measures import Measures

TEMPLATE = Path(__file__).with_name("page.html.jinja")


class Drawing(NamedTuple):
    """A figure of the page.

    Attributes:
        name: Of its files in figures/.
        about: What it shows, in words.
        svg: As it stands in the page.
    """

    name: str
    about: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: Its id.
        title: Its heading.
        blocks: Tables, lists and sentences.
        drawings: Its figures.
        confusion: Classes and rows of the confusion matrix; empty in other sections.
        heard: Utterances to listen to, by heading.
    """

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    drawings: Sequence[Drawing] = ()
    confusion: Mapping[str, object] = field(default_factory=dict)
    heard: Mapping[str, Sequence[Heard]] = field(default_factory=dict)


class LeftOut(Exception):  # noqa: N818 - it is no error
    """Why a section has no content."""


@dataclass(frozen=True)
class Sections:
    """What the sections of every page need.

    Attributes:
        place: The folder of the page.
        measures: The metrics, that gave the figures.
    """

    place: Path
    measures: Measures

    def _each(self, made: Mapping[tuple[str, str], Callable[[str, str], Section]]) -> list[Section]:
        """Makes sections, by anchor and title. One that cannot be made says why."""
        return [self._or_why(*names, make) for names, make in made.items()]

    def _or_why(self, anchor: str, title: str, make: Callable[[str, str], Section]) -> Section:
        try:
            return make(anchor, title)
        except LeftOut as why:
            return Section(anchor, title, left_out(why))

    def _drawing(self, name: str, about: str, svg: str) -> Drawing:
        return Drawing(name, about, Markup(inline(svg, name)))  # noqa: S704 - matplotlib escapes its texts

    def _stem(self, name: str) -> Path:
        return self.place / "figures" / name

    @cached_property
    def _ua_axis(self) -> str:
        return f"{self.measures['ua'].title}, percent"


def write_sections(
    path: Path, title: str, subtitle: str, sections: Sequence[Section], *, command: str, text: str
) -> Path:
    """Writes a page.

    Args:
        path: Of the page.
        title: Its heading.
        subtitle: Below it.
        sections: Its content.
        command: That made it.
        text: The file beside it that says the same.

    Returns:
        The path.

    Raises:
        SertkError: If it cannot be written.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    words = {"title": title, "subtitle": styled(subtitle), "command": command, "text": text}
    write_text(path, template.render(sections=sections, **words).strip() + "\n")
    return path
