"""The faults of tools/mutations/ are faults of today's code, and the tests that are named for them exist."""

import ast
import importlib.util
import itertools
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sertk

ROOT = Path(sertk.__file__).parents[1]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "tools" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


mutate = load()


def test_every_fault_changes_what_one_place_of_the_code_means() -> None:
    by_path = sorted(mutate.faults(), key=lambda fault: fault.path)
    for path, faults in itertools.groupby(by_path, lambda fault: fault.path):
        source = (ROOT / path).read_text()
        meant = ast.dump(ast.parse(source))
        for fault in faults:
            changed = fault.changed(source)  # raises where the old text does not stand there once
            assert ast.dump(ast.parse(changed)) != meant, fault.wrong


def test_no_fault_is_a_name_that_is_not_there(tmp_path: Path) -> None:
    for number, fault in enumerate(mutate.faults()):  # any test that runs such a line would fail, whatever it checks
        (tmp_path / f"{number}.py").write_text(fault.changed((ROOT / fault.path).read_text()))
    words = ("ruff", "check", "--isolated", "--select", "F821,F823", tmp_path)
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_fault_is_another_one() -> None:
    places = [(fault.path, fault.old, fault.new) for fault in mutate.faults()]
    assert len(set(places)) == len(places)


def test_the_tests_of_every_fault_exist() -> None:
    for tests in {fault.tests for fault in mutate.faults()}:
        named = [word for word in shlex.split(tests) if word.startswith("tests/")]
        assert named
        for word in named:
            path, _, test = word.partition("::")
            assert (ROOT / path).is_file(), tests
            assert f"def {test}" in (ROOT / path).read_text(), tests


def test_a_fault_that_does_not_fit_the_code_any_more_is_an_error() -> None:
    fault = mutate.Fault("s", "a.py", "It adds.", "x + 1", "x - 1", "tests/a.py")
    assert fault.changed("y = x + 1\n") == "y = x - 1\n"
    for source in ("y = x + 2\n", "y = x + 1 + (x + 1)\n"):
        with pytest.raises(ValueError, match=r"a\.py: [02] times, and not once: 'x \+ 1' \(It adds\.\)"):
            fault.changed(source)
