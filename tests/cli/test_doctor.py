"""The doctor works where the libraries do not, names each fault and says how to mend it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sertk
from sertk.cli import doctor
from sertk.cli.doctor import Build, Finding

ROOT = Path(sertk.__file__).parents[1]
PAIR = 'pip install "torch==2.11.*" "torchaudio==2.11.*"'
AGAIN = PAIR.replace("install", "install --force-reinstall", 1)


def examine_with(folder: Path, **env: str) -> dict[str, Finding]:
    """What `examine` finds in a process that looks in `folder` first; nothing but the answer is printed."""
    code = "import json; from sertk.cli.doctor import examine; print(json.dumps(examine()))"
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env | {"PYTHONPATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    findings = [Finding(*each) for each in json.loads(done.stdout)]
    assert [each for each in findings if each.ok == bool(each.fix)] == []  # every fault has a fix, nothing else has one
    return {each.check: each for each in findings}


def add_module(folder: Path, name: str, body: str, **others: str) -> None:
    """Makes a package that shadows an installed one."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(body)
    for stem, text in others.items():
        (package / f"{stem}.py").write_text(text)


def add_plugin(folder: Path, name: str, body: str, group: str = "sertk") -> None:
    """Makes an installed distribution with one entry point."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(body)
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name.removeprefix('sertk-')} = {module}\n")


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    """An environment with a torchaudio for another torch, and guests of every kind."""
    folder = tmp_path_factory.mktemp("sick")
    add_module(
        folder, "torchaudio", "raise OSError('Could not load this library')", version="__version__ = '2.99.0+cu126'\n"
    )
    add_plugin(folder, "sertk-broken", "import no_such_module")
    add_plugin(folder, "sertk-deadly", "import os; os._exit(3)")
    add_plugin(folder, "sertk-fine", "print('hello')")
    add_plugin(folder, "sertk-word", "", group="sertk.commands")
    return examine_with(folder)


def test_torchaudio_that_does_not_load_is_a_fault_with_the_command_that_mends_it(sick: dict[str, Finding]) -> None:
    fault = sick["import torchaudio"]
    assert not fault.ok
    assert "OSError: Could not load this library" in fault.detail
    assert fault.fix == AGAIN  # pip takes the right version, loading or not, for installed
    assert sick["import torch"].ok


def test_releases_that_differ_are_named_with_the_reason_and_the_command(sick: dict[str, Finding]) -> None:
    fault = sick["torch and torchaudio"]
    assert not fault.ok
    assert "torchaudio 2.99.0+cu126" in fault.detail
    assert "plain `pip install torch torchaudio`" in fault.detail
    assert fault.fix == PAIR


def test_the_rest_is_examined_all_the_same(sick: dict[str, Finding]) -> None:
    assert sick["soundfile WAV"].ok
    assert sick["soundfile FLAC"].ok
    assert "threads" in sick["cpu"].detail
    assert {"python", "bf16", "current folder", "temporary folder", "recipes", "free disk"} <= set(sick)


def test_broken_plugin_is_named_with_its_distribution_and_a_way_out(sick: dict[str, Finding]) -> None:
    fault = sick["plugin broken"]
    assert not fault.ok
    assert fault.detail == "sertk_broken of sertk-broken 1.2; ModuleNotFoundError: No module named 'no_such_module'"
    assert "pip uninstall sertk-broken" in fault.fix


def test_plugin_that_ends_the_process_does_not_hide_the_others(sick: dict[str, Finding]) -> None:
    assert "status 3" in sick["plugin deadly"].detail
    assert not sick["plugin deadly"].ok
    assert sick["plugin fine"] == Finding("plugin fine", True, "sertk_fine of sertk-fine 1.2")
    assert sick["command word"].ok


def test_missing_torch_and_unwritable_folders_are_faults_not_errors(tmp_path: Path) -> None:
    add_module(tmp_path, "torch", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    (tmp_path / "file").touch()
    found = examine_with(tmp_path, HF_HOME=str(tmp_path / "file"))
    assert "libcudart.so.13" in found["import torch"].detail
    assert found["import torch"].fix == AGAIN
    assert found["devices"].fix == PAIR
    assert not found["pretrained models"].ok
    assert "export HF_HOME=" in found["pretrained models"].fix


def test_healthy_pair_of_one_build_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    give_builds(monkeypatch, Build("2.11.0", "13.0"), Build("2.11.0+cu130", "13.0"))
    assert [each.ok for each in doctor.pair()] == [True, True]


@pytest.mark.parametrize("cuda", ["12.6", ""])
def test_two_builds_of_one_release_must_be_installed_by_force(monkeypatch: pytest.MonkeyPatch, cuda: str) -> None:
    give_builds(monkeypatch, Build("2.11.0", cuda), Build("2.11.0+cu130", "13.0"))
    same, builds = doctor.pair()
    assert same.ok
    assert not builds.ok
    assert builds.fix == 'pip install --force-reinstall "torch==2.11.*" "torchaudio==2.11.*"'


def give_builds(monkeypatch: pytest.MonkeyPatch, torch: Build, torchaudio: Build) -> None:
    """Makes the doctor see these two."""
    monkeypatch.setattr(doctor, "build", {"torch": torch, "torchaudio": torchaudio}.get)


@pytest.mark.parametrize(
    ("number", "cuda"),
    [("2.11.0+cu130", "13.0"), ("2.7.1+cu118", "11.8"), ("2.11.0+cpu", ""), ("2.11.0", "?"), ("2.11.0+rocm7", "?")],
)
def test_cuda_version_is_read_from_the_local_label(number: str, cuda: str) -> None:
    assert doctor.cuda_tag(number) == cuda


def test_device_that_cannot_compute_is_a_fault() -> None:
    facts = {"name": "Old Card", "memory": 8 * 2**30, "bf16": False, "error": "no kernel image is available"}
    fault = doctor.cuda_device(1, facts)
    assert fault.check == "cuda:1"
    assert not fault.ok
    assert fault.detail == "Old Card, 8 GB, bf16 only emulated: fp32 is quicker; no kernel image is available"
    assert doctor.cuda_device(0, facts | {"error": ""}).ok


def test_device_that_torch_cannot_see_is_a_fault_unless_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    facts = {"built": "13.0", "said": "The NVIDIA driver on your system is too old"}
    assert "too old" in doctor.no_cuda(facts).detail
    assert "update the NVIDIA driver" in doctor.no_cuda(facts).fix
    assert "--force-reinstall" in doctor.no_cuda(facts | {"built": None}).fix
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor.no_cuda(facts).ok


def test_wrong_version_is_named_with_what_is_needed() -> None:
    fault = doctor.version("pluggy", "<0.1", lambda *_, **__: False)
    assert not fault.ok
    assert fault.detail.endswith("; needs <0.1")
    assert fault.fix == 'pip install "pluggy<0.1"'
    assert doctor.version("sertk-none", ">=1", lambda *_, **__: True).detail == "not installed; needs >=1"


def test_commands_are_those_of_pyproject() -> None:
    project = tomllib.loads(Path(sertk.__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    assert [need.strip('"') for need in doctor.PAIR.values()] == [
        need for need in project["dependencies"] if need.startswith("torch")
    ]
    low, high = (".".join(map(str, end)) for end in doctor.PYTHON)
    assert project["requires-python"] == f">={low},<{high}"


def test_importing_the_doctor_imports_the_standard_library_only() -> None:
    code = "import sys; import sertk.doctor; print(*{name.partition('.')[0] for name in sys.modules})"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, check=True, text=True)
    assert {"torch", "numpy", "packaging", "rich"}.isdisjoint(done.stdout.split())
