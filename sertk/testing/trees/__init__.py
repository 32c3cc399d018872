"""Generated corpora in their official layouts: names, label files and transcripts, with a few milliseconds of audio."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from sertk.core import UsageError, nearest

CORPORA: Final = ("emodb", "fesc", "iemocap", "msp_improv", "ravdess", "ravdess_savee_tess", "savee", "tess")


def official(corpus: str, folder: Path, **settings: object) -> Path:
    """Writes a corpus in its official layout, with just as many utterances of each kind as are published.

    Args:
        corpus: One of `CORPORA`; of FESC, whose counts are not public, a small one.
        folder: Where to; made where it is absent.
        settings: Of `write` in `sertk.testing.trees.<corpus>`, such as the `seconds` of a clip (0.005).

    Returns:
        The folder.

    Raises:
        UsageError: On an unknown corpus.
    """
    if corpus not in CORPORA:
        raise UsageError(f"no tree of the corpus {corpus!r} can be made{nearest(corpus, CORPORA)}")
    written: Path = import_module(f"sertk.testing.trees.{corpus}").write(folder, **settings)
    return written
