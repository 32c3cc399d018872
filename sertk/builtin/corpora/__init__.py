"""Corpora: official folders read into utterances, with their protocols."""

from __future__ import annotations

from collections.abc import Mapping

from sertk.core import Corpus
from sertk.hookspecs import hookimpl


@hookimpl
def sertk_corpora() -> Mapping[str, type[Corpus]]:
    """The corpora by name."""
    from sertk.builtin.corpora.emodb import EmoDB
    from sertk.builtin.corpora.folder import Folder
    from sertk.builtin.corpora.iemocap import Iemocap
    from sertk.builtin.corpora.kaldi_directory import Kaldi
    from sertk.builtin.corpora.mini import Mini
    from sertk.builtin.corpora.msp_improv import MspImprov
    from sertk.builtin.corpora.prepared import Prepared
    from sertk.builtin.corpora.ravdess import Ravdess
    from sertk.builtin.corpora.savee import Savee
    from sertk.builtin.corpora.table import Table
    from sertk.builtin.corpora.tess import Tess
    from sertk.builtin.corpora.union import Union

    return {
        "emodb": EmoDB,
        "folder": Folder,
        "iemocap": Iemocap,
        "kaldi": Kaldi,
        "mini": Mini,
        "msp_improv": MspImprov,
        "prepared": Prepared,
        "ravdess": Ravdess,
        "savee": Savee,
        "table": Table,
        "tess": Tess,
        "union": Union,
    }
