"""The check that no setting is read by a string key finds those that are, however they are reached."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import sertk

SOURCE = Path(sertk.__file__).parents[1] / "tools" / "check_settings.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_settings", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "source",
    [
        "def f(s): return s['batch']",
        "def f(anything): return anything['train']['epochs']",
        "def f(s: Settings): return s['batch']",
        "def f(s: Mapping[str, object]): return s['batch']",
        "def f(spec): return spec.settings['layers'], spec.settings['name']",
        "def f(s): return s.get('batch', 3)",
        "def f(s): return s.pop('alpha')",
        "def f(s): return getattr(s, 'batch')",
        "def f(s):\n    t = s.train\n    return t['clip']",
        "class A:\n    def f(self): return self._settings['pooling']",
        "def f(s: dict[str, Any]): pass",
        "def f() -> Mapping[str, Any]: pass",
        "x: dict[str, Any] = {}",
        "def f(all): return [s['batch'] for s in all]",
        "def f(s):\n    match s:\n        case {'batch': b}:\n            return b",
        "def f(s): return operator.itemgetter('lr')(s)",
        "def f(one, key): return one.settings[key]",
    ],
)
def test_a_setting_read_by_a_string_key_is_found(check: ModuleType, source: str) -> None:
    assert [*check.faults(Path("x.py"), source, check.setting_names())]


@pytest.mark.parametrize(
    "source",
    [
        "def f(s: Settings): return s.train.batch",
        "def f(content: Document): return content['folds']['1']['train']",
        "def f(path): return read_json(path, '')['corpus']",
        "def f(path):\n    about = read_json(path, '')\n    return about['protocol']['fold']",
        "def f(lines: Sequence[Document]): return [line['decision'] for line in lines]",
        "def f(row: Mapping[str, str]): return row.get('fold')",
        "def f():\n    made = {'train': 1}\n    return made['train']",
        "def f(one): return one['sha256']",
        "def f(spec): spec['train'] = 3",
    ],
)
def test_documents_typed_mappings_and_attributes_are_not(check: ModuleType, source: str) -> None:
    assert [*check.faults(Path("x.py"), source, check.setting_names())] == []


def test_the_names_are_those_of_the_schema(check: ModuleType) -> None:
    assert {"train", "batch", "min_seconds", "backbone", "hop", "alpha"} <= check.setting_names()


def test_sertk_has_none(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main() == 0, capsys.readouterr().out
