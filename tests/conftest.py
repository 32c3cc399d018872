import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the hub, and without a network it answers late
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests compare bits, and CPUs are what every machine has


FAST = ("core", "builtin", "results", "scoring", "settings")
"""The folders whose own files are the `fast` tests: what needs no trained run and no whole corpus."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the fast tests."""
    for item in items:
        if item.path.parent.name in FAST and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(autouse=True, scope="session")
def lazy_modules() -> None:
    """Lets hypothesis look at every imported module: SpeechBrain's lazy ones answer by importing what is not there."""
    from speechbrain.utils.importutils import LazyModule

    load = LazyModule.__getattr__

    def look(self: LazyModule, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return load(self, name)

    LazyModule.__getattr__ = look


@pytest.fixture(autouse=True, scope="session")
def devices() -> None:
    """Some tests read a checkpoint with transformers alone: see what `common.pretrained` does before it, and why."""
    import torch

    with torch.device("meta"):
        torch.empty(0)


@pytest.fixture(autouse=True, scope="session")
def here() -> Iterator[None]:
    """Runs in this process what the local launcher would begin processes of sertk for: each would load torch first.

    A test that needs processes begins a `sertk` of its own, whose commands are processes as ever.
    """
    from sertk.builtin.launchers import Local
    from sertk.cli.app import app

    begin = Local._run

    def run(self: Local, commands: Sequence[Sequence[str]]) -> list[int]:
        if any(words[1:3] != ["-m", "sertk"] for words in commands):
            return begin(self, commands)
        codes = []
        for words in commands:
            done = CliRunner().invoke(app, words[3:])
            os.write(1, done.stdout_bytes)  # where a process writes
            os.write(2, done.stderr_bytes)
            codes.append(done.exit_code)
        return codes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Local, "_run", run)
        yield


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Closes a folder, for root too, whom rights do not stop."""
    scan = os.scandir

    def close(folder: Path) -> None:
        def refuse(path: str = ".") -> object:
            if Path(path) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return close


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RAVDESS tree of tones, 12 actors, 8 emotions: every class is easy to tell."""
    from sertk.testing import tone_corpus

    return tone_corpus(tmp_path_factory.mktemp("corpus") / "tones", speakers=12, per_class=2)


@pytest.fixture(scope="session")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree prepared, and featurized for the system mini-cnn. Tests that change it take a copy."""
    from sertk.corpus.prepared import Data
    from sertk.settings import merge
    from sertk.stages.featurize import featurize
    from sertk.stages.prepare import prepare

    out = tmp_path_factory.mktemp("data") / "ravdess"
    assert prepare("ravdess", corpus, out, [], 0.1, 2) == 0
    featurize(Data(out), merge.load("mini-cnn"), 1)
    return out
