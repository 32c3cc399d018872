"""The smallest plugin of each kind works as it is, and so does the distribution that is written with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor
from typer.testing import CliRunner

from sertk.cli.app import app
from sertk.cli.guests import check
from sertk.core import FrameSpec, Pooled, Pooling, UsageError
from sertk.plugins import KINDS, Plugins
from sertk.testing import contracts

ROOT = Path(__file__).parents[2]


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_keeps_the_contracts_and_has_its_own_name(kind: str, tmp_path: Path) -> None:
    code, said = run("plugins", "new", kind, "my_part", "--out", tmp_path)
    assert code == 0, said
    root = tmp_path / "sertk-my-part"
    assert "sertk plugins check sertk-my-part" in said
    code, said = run("plugins", "check", root / "sertk_my_part.py")
    assert code == 0, said
    assert f"{kind} my_part: " in said
    assert said.endswith("all contracts hold\n")
    assert "xample" not in (root / "sertk_my_part.py").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("losss", "mine"), "did you mean 'loss'?"),
        (("loss", "ce"), "has that name. Take another."),
        (("loss", "My-Loss"), "Use small letters, digits and _, a letter first."),
    ],
)
def test_what_cannot_be_written_is_refused(words: tuple[str, str], says: str, tmp_path: Path) -> None:
    code, said = run("plugins", "new", *words, "--out", tmp_path)
    assert code != 0
    assert says in said or says in str(said)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sertk-mine").mkdir()
    code, _ = run("plugins", "new", "loss", "mine", "--out", tmp_path)
    assert code != 0
    assert list((tmp_path / "sertk-mine").iterdir()) == []


def test_check_names_a_broken_contract(tmp_path: Path) -> None:
    run("plugins", "new", "pooling", "mine", "--out", tmp_path)
    file = tmp_path / "sertk-mine" / "sertk_mine.py"
    file.write_text(file.read_text().replace(" * mask[..., None]", ""))
    code, said = run("plugins", "check", file)
    assert code == 1
    assert "broken  pooling mine: padding does not matter" in said
    assert "ok      pooling mine: project sets its width" in said


def test_check_of_what_offers_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'numpy' offers a plugin. Install it first: pip install -e FOLDER"):
        check("numpy")


def written(kind: str, folder: Path, *changes: tuple[str, str]) -> Path:
    """The file of a new plugin `mine`, with some of its text changed."""
    run("plugins", "new", kind, "mine", "--out", folder)
    file = folder / "sertk-mine" / "sertk_mine.py"
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (
            "loss",
            [("class Mine(Loss)", "class Mine(torch.nn.Module)"), ("import Tensor", "import Tensor\nimport torch")],
            "its class Mine does not inherit from sertk.core.Loss. Write `class Mine(sertk.core.Loss)`.",
        ),
        (
            "head",
            [
                ("        super().__init__()\n", ""),
                ("self.layers = nn.Sequential", "self.layers = lambda x: nn.Linear"),
            ],
            "Mine.__init__ does not call super().__init__(). Call it first.",
        ),
        (
            "loss",
            [("        super().__init__()\n", '        raise OSError("no network")\n')],
            "loss 'mine' raised OSError",
        ),
    ],
)
def test_what_breaks_every_contract_is_said_once(
    kind: str, changes: list[tuple[str, str]], says: str, tmp_path: Path
) -> None:
    code, said = run("plugins", "check", written(kind, tmp_path, *changes))
    assert code == 1
    broken = [line for line in said.splitlines() if line.startswith("broken")]
    assert len(broken) > 3
    assert says in broken[0]
    assert all(line.endswith(": the same") for line in broken[1:])


def test_check_raises_the_first_fault_where_a_traceback_is_wanted(tmp_path: Path) -> None:
    file = written("loss", tmp_path, ("        super().__init__()\n", '        raise OSError("no network")\n'))
    with pytest.raises(AssertionError) as caught:
        check(str(file), debug=True)
    assert isinstance(caught.value.__cause__, OSError)


def test_check_says_what_it_cannot_make(tmp_path: Path) -> None:
    code, said = run("plugins", "check", written("loss", tmp_path, ("share: float = 0.1", "share: float")))
    assert code == 0
    assert said.splitlines() == [
        "skipped loss mine: it needs share. Check it in a test: contracts('loss', 'mine', {'share': ...})",
        "0 broken, 1 not checked",
    ]


def test_a_class_without_docstring_does_not_show_the_one_of_its_interface(tmp_path: Path) -> None:
    file = written("sampler", tmp_path, ('    """Each row once an epoch, in random batches of equal size."""\n', ""))
    assert Plugins(files=[file]).about("sampler", "mine") == ""


def test_contracts_take_a_class_that_nobody_registered() -> None:
    class Last(Pooling):
        """The last column, padding or not."""

        def __init__(self, frames: FrameSpec, project: int | None = None) -> None:
            super().__init__()
            self.out = frames.width

        def forward(self, frames: Tensor, mask: Tensor) -> Pooled:
            return Pooled(frames[:, -1], frames)

    cases = {case.id: case for case in contracts("pooling", Last)}
    cases["pooling Last: gives the same twice"]()
    with pytest.raises(AssertionError, match="pooling 'Last'"):
        cases["pooling Last: padding does not matter"]()


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_the_smallest_plugin_of_each_kind(kind: str) -> None:
    source = (ROOT / "sertk/testing/examples" / f"{kind}.py").read_text()
    assert f"```python\n{source}```" in (ROOT / "docs/plugins.md").read_text()


def test_the_fitted_feature_of_the_page_keeps_the_contracts(tmp_path: Path) -> None:
    source = (ROOT / "sertk/testing/examples/feature.py").read_text()
    page = (ROOT / "docs/plugins.md").read_text()
    methods = page.partition("has three methods more:\n\n```python\n")[2].partition("```")[0]
    assert "def restore" in methods
    source = source.replace("\n\n@hookimpl", f"\n{methods}\n\n@hookimpl").replace("import Mapping", "import *")
    head = "import json\nfrom torch import Tensor\nfrom sertk.core import Utterance\n"
    (tmp_path / "fitted.py").write_text(head + source)
    code, said = run("plugins", "check", tmp_path / "fitted.py")
    assert code == 0, said


def test_the_pooling_of_the_page_takes_a_whole_number_for_its_power() -> None:
    files = [ROOT / "sertk/testing/examples/pooling.py"]
    assert float(Plugins(files=files).make("pooling", "example:power=2", FrameSpec(3)).power) == 2.0


def test_contracts_take_a_class_or_a_registry() -> None:
    with pytest.raises(UsageError, match="give a class, or `plugins`"):
        contracts("pooling", Pooling, plugins=Plugins())
