"""The doctor works where the libraries do not, names each fault and says how to fix it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sertk
from sertk.cli import doctor, show
from sertk.cli.doctor import Finding

ROOT = Path(sertk.__file__).parents[1]
PAIR = 'pip install "torch==2.11.*" "torchaudio==2.11.*"'
AGAIN = PAIR.replace("install", "install --force-reinstall", 1)


def python(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs Python so that it looks for modules in `folder` first."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    env = os.environ | env | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, *words], env=env, capture_output=True, check=False, text=True)


def trial(check: str) -> Finding:
    """One of the things that are tried in a child process."""
    return next(doctor.attempt(*one) for one in doctor.trials() if one[0] == check)


def faults(findings: list[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in findings if not each.ok}


def add_distribution(folder: Path, name: str, version: str, *lines: str) -> Path:
    """Makes a distribution that is installed in `folder`, or so its metadata say."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    head = ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}")
    (info / "METADATA").write_text("\n".join([*head, *lines, ""]))
    return info


def add_plugin(folder: Path, name: str, body: str, group: str = "sertk", word: str = "") -> None:
    """Makes an installed distribution with one entry point."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(body)
    word = word or name.removeprefix("sertk-")
    (add_distribution(folder, name, "1.2") / "entry_points.txt").write_text(f"[{group}]\n{word} = {module}\n")


# ---------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    """An environment with a torchaudio for another torch, and plugins of every kind."""
    folder = tmp_path_factory.mktemp("sick")
    add_distribution(folder, "torchaudio", "2.99.0")
    (folder / "torchaudio.py").write_text("raise OSError('Could not load\\n  this library')")
    add_plugin(folder, "sertk-broken", "import no_such_module")
    add_plugin(folder, "sertk-deadly", "import os; os._exit(3)")
    add_plugin(folder, "sertk-quits", "raise SystemExit")
    add_plugin(folder, "sertk-fine", "print('hello')")
    add_plugin(folder, "sertk-word", "", group="sertk.commands")
    add_plugin(folder, "sertk-train", "", group="sertk.commands")
    code = "import json; from sertk.cli.doctor import examine; print(json.dumps(examine()))"
    done = python("-c", code, folder=folder)
    assert done.returncode == 0, done.stderr
    findings = [Finding(*each) for each in json.loads(done.stdout)]
    assert [each for each in findings if each.ok == bool(each.fix)] == []  # every fault has a fix, nothing else has one
    return {each.check: each for each in findings}


def test_torchaudio_that_does_not_load_is_a_fault_with_the_command_that_fixes_it(sick: dict[str, Finding]) -> None:
    fault = sick["import torchaudio"]
    assert not fault.ok
    assert fault.detail == "OSError: Could not load this library"
    assert fault.fix == AGAIN  # pip keeps what has the right version, whether it loads or not
    assert sick["import torch"].ok
    assert sick["import torch"].detail == torch.__version__


def test_releases_that_differ_are_named_with_the_reason_and_the_command(sick: dict[str, Finding]) -> None:
    fault = sick["torchaudio"]
    assert not fault.ok
    assert fault.detail.startswith("2.99.0; sertk needs torchaudio==2.11.*. ")
    assert "torchaudio does not tell pip which torch it fits" in fault.detail
    assert fault.fix == PAIR
    assert "torch" not in sick


def test_the_rest_is_examined_all_the_same(sick: dict[str, Finding]) -> None:
    assert sick["soundfile WAV"].ok
    assert sick["soundfile FLAC"].ok
    assert "number of threads" in sick["devices"].detail
    assert {"import transformers", "current folder", "pretrained models"} <= set(sick)


def test_broken_plugin_is_named_with_its_distribution_and_a_way_out(sick: dict[str, Finding]) -> None:
    fault = sick["plugin broken (sertk-broken 1.2)"]
    assert not fault.ok
    assert fault.detail == "ModuleNotFoundError: No module named 'no_such_module'"
    assert "pip uninstall sertk-broken" in fault.fix
    assert not sick["plugins"].ok


def test_plugin_that_ends_the_process_does_not_hide_the_others(sick: dict[str, Finding]) -> None:
    assert not sick["plugin deadly (sertk-deadly 1.2)"].ok
    assert sick["plugin deadly (sertk-deadly 1.2)"].detail == "the process ended with status 3."
    assert not sick["plugin quits (sertk-quits 1.2)"].ok
    check = "plugin fine (sertk-fine 1.2)"
    assert sick[check] == Finding(check, True, "sertk_fine")


def test_command_with_a_name_of_sertk_is_a_fault(sick: dict[str, Finding]) -> None:
    assert not sick["plugin train (sertk-train 1.2)"].ok
    assert "sertk or another plugin offers 'train' too" in sick["plugin train (sertk-train 1.2)"].detail


def test_command_line_works_without_torch_and_prints_each_fix_whole(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    (tmp_path / "file").touch()
    done = python("-m", "sertk", "doctor", folder=tmp_path, HF_HOME=str(tmp_path / "file"), COLUMNS="60")
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert f"import torch: {AGAIN}" in lines
    assert any(line.startswith(f"devices: if torch is not compiled with CUDA: {AGAIN}; else ") for line in lines)
    assert any(line.startswith("pretrained models: export HF_HOME=FOLDER") for line in lines)
    assert not any(line.startswith("soundfile") for line in lines)


@pytest.mark.parametrize(("found", "code"), [([Finding("a", True, "b")], 0), ([Finding("a", False, "b", "c")], 1)])
def test_exit_code_says_whether_there_is_a_fault(
    found: list[Finding], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert show.findings() == code
    assert ("a: c" in capsys.readouterr().out) == bool(code)


def test_importing_the_doctor_imports_no_large_library_and_no_plugin(tmp_path: Path) -> None:
    add_plugin(tmp_path, "sertk-fine", "")
    add_plugin(tmp_path, "sertk-word", "", group="sertk.commands")
    done = python("-c", "import sys; import sertk.cli.doctor; print(*sys.modules)", folder=tmp_path)
    assert "sertk.cli.doctor" in done.stdout.split()
    large = {"torch", "torchaudio", "numpy", "speechbrain", "transformers", "soundfile", "matplotlib"}
    assert (large | {"sertk.plugins", "sertk_fine", "sertk_word"}).isdisjoint(done.stdout.split())


# ---------------------------------------------------------------- versions


def test_versions_of_this_environment_fit() -> None:
    (only,) = doctor.versions()
    assert only.ok
    assert f"Python {platform.python_version()}" in only.detail


def test_wrong_version_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_distribution(tmp_path, "pluggy", "0.1")
    monkeypatch.syspath_prepend(tmp_path)
    fault = faults([*doctor.versions()])["pluggy"]
    assert fault.detail == "0.1; sertk needs pluggy>=1.5"
    assert fault.fix == 'pip install "pluggy>=1.5"'


def test_what_a_library_of_ours_needs_is_looked_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ("sertk-none>=2", "rich>=99", "sertk-extra; extra == 'more'", "sertk-old; python_version < '3'")
    add_distribution(tmp_path, "pluggy", "1.6", *(f"Requires-Dist: {need}" for need in needs))
    monkeypatch.syspath_prepend(tmp_path)
    found = faults([*doctor.versions()])
    assert set(found) == {"sertk-none", "rich"}
    assert found["sertk-none"].detail == "not installed; pluggy needs sertk-none>=2"
    assert found["sertk-none"].fix == 'pip install "sertk-none>=2"'
    assert found["rich"].detail.endswith("; pluggy needs rich>=99")


def test_extras_that_a_library_of_ours_asks_for_are_looked_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_distribution(tmp_path, "pluggy", "1.6", "Requires-Dist: sertk-guest[more]")
    add_distribution(tmp_path, "sertk-guest", "1.0", "Requires-Dist: sertk-none; extra == 'more'")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(faults([*doctor.versions()])) == {"sertk-none"}


@pytest.mark.parametrize("name", ["torch", "torchaudio"])
def test_missing_torch_or_torchaudio_is_installed_with_the_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, lambda one: one == name)
    (fault,) = doctor.versions()
    assert not fault.ok
    assert fault.detail.startswith(f"not installed; sertk needs {name}==2.11.*")
    assert fault.fix == PAIR
    assert f"import {name}" not in [check for check, *_ in doctor.trials()]  # one fault, not two


def test_sertk_that_is_only_found_in_a_folder_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, lambda one: True)
    (fault,) = doctor.versions()
    assert (fault.check, fault.ok) == ("sertk", False)
    assert "pip install -e ." in fault.fix


def hide(monkeypatch: pytest.MonkeyPatch, which: Callable[[str], bool]) -> None:
    """Makes distributions look as if they were not installed."""
    real = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda **by: () if which(by.get("name", "")) else real(**by))


@pytest.mark.parametrize("number", ["3.10.14", "3.14.0"])
def test_wrong_python_is_a_fault(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: number)
    fault = faults([*doctor.versions()])["python"]
    assert fault.detail == f"{number}; sertk needs python<3.14,>=3.11"
    assert "new environment" in fault.fix


def test_commands_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [need.strip('"') for need in doctor.PAIR.values()] == [
        need for need in project["dependencies"] if need.startswith("torch")
    ]
    assert doctor.INSTALL_PAIR == PAIR
    assert doctor.FORCE_PAIR == AGAIN


# ---------------------------------------------------------------- libraries, devices and sound


def test_torchaudio_for_another_cuda_version_does_not_load() -> None:
    import torchaudio  # noqa: F401

    if torch.version.cuda is None or torch.ops._torchaudio.cuda_version() is None:
        pytest.skip("torch or torchaudio is built for the CPU")
    code = next(code for check, code, _ in doctor.trials() if check == "import torchaudio")
    fault = doctor.attempt("", f"import torch; torch.version.cuda = '1.2'\n{code}", AGAIN)
    assert not fault.ok
    assert "different CUDA versions" in fault.detail


def test_other_library_that_does_not_load_is_installed_again_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sklearn.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    number = metadata.version("scikit-learn")
    fix = f'pip install --force-reinstall --no-deps "scikit-learn=={number}"'  # with its needs, pip could change torch
    assert trial("import scikit-learn") == Finding(
        "import scikit-learn", False, "ValueError: numpy.dtype size changed", fix
    )


def test_process_that_does_not_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.1)
    assert doctor.attempt("a", "import time; time.sleep(60)", "c") == Finding("a", False, "no answer after 0.1 s", "c")


def test_child_process_reads_no_input_and_its_last_line_counts() -> None:
    code = "import sys; print('noise'); print('end of', repr(sys.stdin.read()))"
    assert doctor.attempt("a", code, "c") == Finding("a", True, "end of ''")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine that says that it has a GPU; torch sees it, and computes on the CPU in its place."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    says = {"nvidia_gpu_models": "GPU 0: Old Card\nGPU 1: New Card", "nvidia_driver_version": "470.1"}
    env = SimpleNamespace(**says, cuda_compiled_version="13.0")
    monkeypatch.setattr("torch.utils.collect_env.get_env_info", lambda: env)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(size))
    return env


def test_gpu_that_computes_is_named_with_driver_and_cuda_version(gpu: SimpleNamespace) -> None:
    assert doctor.devices() == "GPU 0: Old Card GPU 1: New Card; torch for CUDA 13.0 sees 2, driver 470.1"


@pytest.mark.parametrize(("count", "device"), [(2, "cuda:1"), (0, "cuda:0")])
def test_gpu_that_cannot_compute_is_a_fault(
    count: int, device: str, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = torch.ones

    def fail(*size: int, device: str) -> torch.Tensor:
        if count == 0 or device == "cuda:1":
            raise RuntimeError("no kernel image is available")
        return works(*size, device=device)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(RuntimeError, match=rf"^{device} does not compute .*Old Card.*no kernel image is available"):
        doctor.devices()


def test_gpu_that_is_hidden_is_no_fault(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor.devices().startswith("CUDA_VISIBLE_DEVICES hides the GPUs; sertk uses the CPU")


def test_machine_without_gpu_is_no_fault(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    gpu.nvidia_gpu_models = None
    assert doctor.devices().startswith("no GPU found; sertk uses the CPU")


def test_fix_of_a_gpu_is_a_build_with_cuda_or_a_driver_or_the_cpu() -> None:
    fix = next(fix for check, _, fix in doctor.trials() if check == "devices")
    assert AGAIN in fix
    assert "update the NVIDIA driver" in fix
    assert 'export CUDA_VISIBLE_DEVICES=""' in fix


def test_sound_that_is_read_otherwise_than_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundfile.read", lambda file: ([0.0] * 1600, 16000))
    with pytest.raises(ValueError, match="what was read is not what was written"):
        doctor.sound("FLAC")


def test_soundfile_that_does_not_load_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "soundfile.py").write_text("raise OSError('sndfile library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    fault = trial("soundfile WAV")
    assert fault.detail == "OSError: sndfile library not found"
    assert fault.fix == "pip install --force-reinstall --no-deps soundfile"


# ---------------------------------------------------------------- plugins and folders


def test_two_plugins_of_one_name_are_a_fault_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plugin(tmp_path, "sertk-one", "", group="sertk.commands", word="same")
    add_plugin(tmp_path, "sertk-two", "", group="sertk.commands", word="same")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("sertk-one", "sertk-two"):
        fault = trial(f"plugin same ({name} 1.2)")
        assert fault.detail == "ValueError: sertk or another plugin offers 'same' too"
        assert f"pip uninstall {name}" in fault.fix


def test_plugin_that_is_switched_off_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plugin(tmp_path, "sertk-torn", "def half(:")
    monkeypatch.syspath_prepend(tmp_path)
    assert not trial("plugin torn (sertk-torn 1.2)").ok
    monkeypatch.setenv("SERTK_PLUGINS", "-sertk_torn")
    found = trial("plugin torn (sertk-torn 1.2)")
    assert (found.ok, found.detail) == (True, "switched off by SERTK_PLUGINS")


def test_plugin_that_offers_what_sertk_offers_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "from sertk.hookspecs import hookimpl\n@hookimpl\ndef sertk_poolings():\n    return {'mean': object}\n"
    add_plugin(tmp_path, "sertk-mean", body)
    monkeypatch.syspath_prepend(tmp_path)
    assert trial("plugin mean (sertk-mean 1.2)").ok
    fault = trial("plugins")
    assert not fault.ok
    assert "pooling 'mean' is offered by both" in fault.detail
    assert "sertk-mean 1.2" in fault.detail
    assert "uninstall the plugin" in fault.fix


def test_folder_that_is_still_to_be_made_is_no_fault(tmp_path: Path) -> None:
    assert doctor.folder(str(tmp_path / "a" / "b")).startswith(f"{tmp_path / 'a' / 'b'}, ")
    assert [*tmp_path.iterdir()] == []


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        doctor.folder(str(tmp_path / "file" / "hub"))


def test_folder_on_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**30))
    with pytest.raises(OSError, match=r"1\.0 GB free in "):
        doctor.folder(str(tmp_path))


def test_current_folder_that_was_removed_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    fault = trial("current folder")
    assert not fault.ok
    assert "No such file or directory" in fault.detail
    assert fault.fix.startswith("cd to a folder")
