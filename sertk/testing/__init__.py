"""What a plugin must keep, as checks to import, and small corpora to test on.

A guest's whole test, run against whatever distribution offers the name:

    import pytest
    from sertk.testing import contracts

    @pytest.mark.parametrize("check", contracts("loss", "poly"), ids=lambda check: check.id)
    def test_contract(check):
        check()

A broken contract raises AssertionError with one sentence; what a part itself raises is named in it. What a corpus reads
is checked with a folder: `contracts("corpus", "mine", root=FOLDER)`. Nothing here needs pytest.
"""

from sertk.testing.cases import ALLOWED, Case, Check, Subject, signed
from sertk.testing.contracts import contracts
from sertk.testing.corpora import ACTORS, EMOTIONS, tone_corpus, tree
from sertk.testing.losses import DIMS, TASK, Scene, scene, views
from sertk.testing.trees import CORPORA, official

__all__ = [
    "ACTORS",
    "ALLOWED",
    "CORPORA",
    "DIMS",
    "EMOTIONS",
    "TASK",
    "Case",
    "Check",
    "Scene",
    "Subject",
    "contracts",
    "official",
    "scene",
    "signed",
    "tone_corpus",
    "tree",
    "views",
]
