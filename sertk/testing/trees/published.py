"""The ids that published fold lists name, as the registered corpus has them."""

from __future__ import annotations

from sertk.core import Corpus, FoldTable
from sertk.corpus.folding import read_table
from sertk.plugins import Plugins


def published_ids(corpus: str) -> tuple[str, ...]:
    """The ids of EmoBox's list of a corpus.

    Raises:
        TypeError: Where the corpus has no such list.
    """
    factory: type[Corpus] = Plugins().factory("corpus", corpus)  # type: ignore[assignment]
    rule = factory.protocols["emobox"].test
    if not isinstance(rule, FoldTable):
        raise TypeError(f"protocol emobox of {corpus} is no published list")
    return read_table(rule.path).ids
