"""Guests come in through the same door as builtins: installed, listed, trained with; and named where they fail."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import sertk
from sertk import hookspecs
from sertk.core import UsageError
from sertk.plugins import KINDS, Plugins

ROOT = Path(sertk.__file__).parents[1]
PLUGINS = ROOT / "plugins"
PIP = (sys.executable, "-m", "pip") if importlib.util.find_spec("pip") else ("uv", "pip")  # uv makes none


def installed(name: str, folder: Path) -> Path:
    """The folder, with a guest of plugins/ installed in it as any distribution is."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    where = [] if PIP[0] == sys.executable else ["--python", sys.executable]
    words = [*PIP, "install", *where, *options, str(PLUGINS / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def poly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that sertk-poly is installed in."""
    return installed("sertk-poly", tmp_path_factory.mktemp("poly"))


@pytest.fixture(scope="session")
def opensmile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that sertk-opensmile is installed in."""
    return installed("sertk-opensmile", tmp_path_factory.mktemp("opensmile"))


def python(words: Sequence[str], site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python where a folder of guests is installed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # the code that is tested here, not the one that is installed
    env = clean | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def command(words: Sequence[str], site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python(["-m", "sertk", *words], site, cwd)


def install(
    site: Path, distribution: str, module: str, source: str, name: str = "", group: str = "sertk", attribute: str = ""
) -> None:
    """Puts a distribution of one module and one entry point into a folder, as an installer would."""
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    about = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name or module} = {module}{attribute}\n", encoding="utf-8")


LOSS = """
from sertk.core import Loss
from sertk.hookspecs import hookimpl

@hookimpl
def {hook}():
    return {{"{name}": Loss}}
"""


# ---------------------------------------------------------------- one that works


def test_is_listed_with_its_distribution_and_settings(poly: Path, tmp_path: Path) -> None:
    done = command(["plugins", "loss", "poly"], poly, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loss poly (sertk-poly 0.1.0): Poly-1" in done.stdout
    assert "epsilon" in done.stdout


def test_trains_through_its_entry_point_and_is_scored_without_it(poly: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--system", "mini-cnn", "--fold", "1", "--loss", "poly:epsilon=0.5", "--set", "train.epochs=1"]
    done = command(
        ["train", str(data), "--protocol", "emobox", *options, "--device", "cpu", "--out", str(run)], poly, tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "trains the emotion head" not in done.stderr  # poly does, so no other loss stays beside it

    from sertk.stages.score import score

    assert score(run / "model", [str(data)], run / "scores.jsonl", device="cpu") == 0
    lines = [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 16  # two actors of fold 1
    assert all(sum(line["posterior"]) == pytest.approx(1, abs=1e-4) for line in lines)


@pytest.mark.parametrize("name", ["poly", "opensmile"])
def test_its_own_tests_pass(name: str, request: pytest.FixtureRequest) -> None:
    site: Path = request.getfixturevalue(name)
    done = python(["-m", "pytest", "-p", "no:cacheprovider", str(PLUGINS / f"sertk-{name}" / "tests")], site, ROOT)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_written_distribution_installs_and_passes_its_tests(tmp_path: Path) -> None:
    done = command(["plugins", "new", "loss", "smooth"], ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    site = installed(str(tmp_path / "sertk-smooth"), tmp_path / "site")
    done = python(["-m", "pytest", "-p", "no:cacheprovider", str(tmp_path / "sertk-smooth")], site, ROOT)
    assert done.returncode == 0, done.stdout
    done = command(["plugins", "check", "sertk-smooth"], site, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all contracts hold")


def test_opensmile_is_listed_beside_the_features_and_losses(opensmile: Path, tmp_path: Path) -> None:
    done = command(["plugins", "feature", "opensmile"], opensmile, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "feature opensmile (sertk-opensmile 0.1.0): Functionals of an openSMILE feature set" in done.stdout
    assert "ComParE_2016" in done.stdout
    done = command(["plugins", "loss", "hinge"], opensmile, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loss hinge (sertk-opensmile 0.1.0)" in done.stdout


def test_a_command_without_opensmile_does_not_import_it(opensmile: Path, tmp_path: Path) -> None:
    source = "import sys; from sertk.plugins import Plugins; Plugins(); sys.exit('opensmile' in sys.modules)"
    assert python(["-c", source], opensmile, tmp_path).returncode == 0


# ---------------------------------------------------------------- those that do not


def test_a_taken_name_ends_what_asks_for_it_and_names_both(tmp_path: Path) -> None:
    install(tmp_path, "sertk-sour", "sertk_sour", LOSS.format(hook="sertk_losses", name="ce"))
    done = command(["plugins", "loss", "ce"], tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    error = done.stderr.splitlines()[-1]
    both = f"error: loss 'ce' is offered by both sertk {sertk.__version__} and sertk-sour 1.2. Rename or"
    assert error.startswith(both), done.stderr
    other = command(["plugins", "loss", "focal"], tmp_path, tmp_path)
    assert other.returncode == 0
    assert "warning: loss 'ce' is offered by both" in other.stderr


def test_a_plugin_that_is_switched_off_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sertk-sour", "sertk_sour", LOSS.format(hook="sertk_losses", name="ce"), name="sour")
    install(tmp_path, "sertk-torn", "sertk_torn_off", "def half(:", name="torn")
    for words in ("-sertk-sour, -sertk-torn", "-sour,-torn"):
        monkeypatch.setenv("SERTK_PLUGINS", words)
        done = command(["plugins", "loss", "ce"], tmp_path, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setenv("SERTK_PLUGINS", "sertk-sour")
    done = command(["plugins", "loss", "ce"], tmp_path, tmp_path)
    assert done.returncode == 2
    assert "SERTK_PLUGINS has 'sertk-sour'. It switches plugins off, as in SERTK_PLUGINS=-sertk-lab" in done.stderr


def test_what_is_switched_off_is_named_where_it_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sertk-sour", "sertk_sour", LOSS.format(hook="sertk_losses", name="mine"), name="sour")
    for word in ("-sertk_sour", "-Sertk-Sour", "-sour"):  # as pip takes them
        monkeypatch.setenv("SERTK_PLUGINS", word)
        done = command(["plugins", "loss", "mine"], tmp_path, tmp_path)
        assert "no loss named 'mine'" in done.stderr
        assert "SERTK_PLUGINS switches off: s" in done.stderr


def test_a_name_that_switches_nothing_off_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sertk-sour", "sertk_sour", LOSS.format(hook="sertk_losses", name="mine"), name="sour")
    monkeypatch.setenv("SERTK_PLUGINS", "-sertk-sauer")
    done = command(["plugins", "loss", "mine"], tmp_path, tmp_path)
    assert done.returncode == 0
    assert "SERTK_PLUGINS switches off 'sertk-sauer', but no plugin of that name is installed." in done.stderr


def reading(site: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fault of a registry that finds the guests of a folder; what they do not touch is there."""
    monkeypatch.syspath_prepend(site)
    registry = Plugins()
    (fault,) = registry.faults
    assert registry.factory("loss", "triplet")
    with pytest.raises(UsageError, match="no loss named 'mine'") as caught:
        registry.factory("loss", "mine")
    assert str(caught.value).endswith(fault)
    return fault


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("sertk_late", "import a_module_that_nobody_has", ["ModuleNotFoundError", "a_module_that_nobody_has"]),
        ("sertk_torn", "def half(:", ["SyntaxError"]),
        ("sertk_spelt", LOSS.format(hook="sertk_loses", name="mine"), ["sertk_loses", "did you mean 'sertk_losses'?"]),
        ("sertk_vain", LOSS.format(hook="losses", name="mine"), ["losses"]),
    ],
    ids=["an import that fails", "a syntax error", "a misspelt hook", "a hook without the prefix"],
)
def test_a_guest_that_does_not_load_costs_its_own_names_and_is_named(
    module: str, source: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "sertk-unripe", module, source, name="unripe")
    message = reading(tmp_path, monkeypatch)
    for word in ("plugin 'unripe'", "sertk-unripe", module, *words):
        assert word in message
    assert message.endswith(".")


HOOK = """
from sertk.hookspecs import hookimpl

@hookimpl
def sertk_losses():
    {body}
"""


@pytest.mark.parametrize(
    ("module", "body", "word"),
    [
        ("sertk_raises", "import a_module_that_nobody_has", "ModuleNotFoundError"),
        ("sertk_gives_none", "pass", "None"),
    ],
    ids=["raises", "gives nothing"],
)
def test_a_guest_whose_hook_fails_costs_its_own_names_and_is_named(
    module: str, body: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "sertk-unripe", module, HOOK.format(body=body))
    message = reading(tmp_path, monkeypatch)
    assert "sertk-unripe 1.2" in message
    assert "sertk_losses" in message
    assert word in message


def test_a_guest_whose_hook_is_not_marked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sertk-unmarked", "sertk_unmarked", "def sertk_losses():\n    return {}\n")
    message = reading(tmp_path, monkeypatch)
    assert "sertk-unmarked" in message
    assert "has a function sertk_losses without @hookimpl. Mark it." in message


@pytest.mark.parametrize(("needs", "fits"), [("1", True), ("2", False), ("'1'", False)])
def test_a_guest_says_which_interface_it_needs(
    needs: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"SERTK_API = {needs}\n" + LOSS.format(hook="sertk_losses", name="mine")
    install(tmp_path, "sertk-new", f"sertk_new_{abs(hash(needs))}", source, name="new")
    if fits:
        monkeypatch.syspath_prepend(tmp_path)
        assert Plugins().factory("loss", "mine")
        return
    wanted = f"needs interface {needs} of sertk; sertk {sertk.__version__} has 1. Install a version that fits."
    assert wanted in reading(tmp_path, monkeypatch)


def test_of_two_guests_of_one_name_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sertk-one", "sertk_one", LOSS.format(hook="sertk_losses", name="one"), name="same")
    install(tmp_path, "sertk-two", "sertk_two", LOSS.format(hook="sertk_losses", name="two"), name="same")
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = Plugins().faults
    assert "sertk_one" in message
    assert "sertk_two" in message


# ---------------------------------------------------------------- a command of its own


def test_a_command_is_listed_unimported_and_runs(tmp_path: Path) -> None:
    source = """
print("imported")

def greet(name: str, loud: bool = False) -> None:
    '''Greet someone.'''
    print(f"hello {name}!" if loud else f"hello {name}")
"""
    install(tmp_path, "sertk-greet", "sertk_greet", source, "greet", "sertk.commands", ":greet")
    listed = command(["--help"], tmp_path, tmp_path)
    assert listed.returncode == 0
    assert "greet" in listed.stdout
    assert "sertk-greet" in listed.stdout
    assert "imported" not in listed.stdout
    ran = command(["greet", "Ada", "--loud"], tmp_path, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n")[:2] == ["imported", "hello Ada!"]


def test_a_command_that_does_not_load_is_named(tmp_path: Path) -> None:
    install(tmp_path, "sertk-broken", "sertk_broken", "import a_module_that_nobody_has", "greet", "sertk.commands")
    done = command(["greet"], tmp_path, tmp_path)
    assert done.returncode == 1
    assert "sertk-broken" in done.stderr


def test_a_command_that_two_guests_offer_is_refused(tmp_path: Path) -> None:
    for one in ("one", "two"):
        source = f"def app(): print('{one}')"
        install(tmp_path, f"sertk-{one}", f"sertk_{one}", source, "greet", "sertk.commands", ":app")
    done = command(["greet"], tmp_path, tmp_path)
    assert done.returncode == 1
    assert "sertk-one" in done.stderr
    assert "sertk-two" in done.stderr


def test_the_page_of_hooks_and_the_table_of_kinds_are_one_contract() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("sertk_")}
    assert hooks == {kind.hook for kind in KINDS.values()}
    for kind in KINDS.values():
        about = getattr(hookspecs, kind.hook).__doc__
        made = f"({', '.join(kind.given)}" if kind.given and kind.interface else ""
        assert made in about, kind.hook


def test_the_settings_of_a_plugin_show_what_they_may_be() -> None:
    plugins = Plugins()
    shown = {one.name: (one.type, one.default) for one in plugins.settings("loss", "ce")}
    assert shown["at"] == ("auto | whole | segments | both", "auto")
    assert shown["reduction"] == ("mean | sum", "mean")
    assert shown["smoothing"] == ("a number", "0.0")
    frozen = {one.name: (one.type, one.default) for one in plugins.settings("feature", "frozen")}
    assert frozen == {
        "backbone": ("a backbone", "required"),
        "pool": ("mean | mean_std or null", "null"),
        "reads": ("wave | text", "wave"),
    }
    assert [one.name for one in plugins.settings("decision", "mean")] == []
