"""Looks for faults of this installation, and says how to fix each one.

A broken library can end the process that imports it. So all but the versions is tried in child processes, where a fault
costs one answer and not the examination, and nothing large is imported here.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from typer import Typer
from typer.main import get_group

PAIR = {"torch": '"torch==2.11.*"', "torchaudio": '"torchaudio==2.11.*"'}  # as in pyproject.toml
INSTALL_PAIR = f"pip install {' '.join(PAIR.values())}"
# without force, pip keeps a library of the right version, even one of the wrong CUDA build or with files missing
FORCE_PAIR = f"pip install --force-reinstall {' '.join(PAIR.values())}"
WHY = "torch and torchaudio must be of one release, but torchaudio does not tell pip which torch it fits"
INSTALL = dict.fromkeys(PAIR, INSTALL_PAIR) | {"sertk": "in the folder of the clone: pip install -e ."}
INSTALL["python"] = "make a new environment with a Python that fits, and install sertk there"
MODULES = {name: name for name in (*PAIR, "speechbrain", "transformers")} | {"scikit-learn": "sklearn"}
CPU = 'update the NVIDIA driver, or use the CPU: export CUDA_VISIBLE_DEVICES=""'
PATIENCE = 300  # seconds; a first import of torch from a network disk takes minutes


class Finding(NamedTuple):
    """One thing that was checked. A fault (`ok` is False) has a `fix`: what to type or do."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Examines this environment. Neither torch nor any other large library needs to work."""
    with ThreadPoolExecutor(4) as pool:
        return [*versions(), *pool.map(lambda trial: attempt(*trial), trials())]


def versions() -> Iterator[Finding]:
    """Python, and all that sertk needs directly or indirectly, compared as `pip check` does."""
    faults: dict[str, Finding] = {}
    for one in (version(parent, need) for parent, need in needs()):
        if not one.ok:
            faults.setdefault(one.check, one)  # what sertk itself needs comes first
    detail = f"Python {installed('python')} ({sys.executable}), sertk {installed('sertk')} and all that it needs"
    yield from faults.values() or [Finding("versions", True, detail)]


def installed(name: str) -> str:
    """The version of a library, or of Python; nothing if it is not installed."""
    if name == "python":
        return platform.python_version()
    return next((one.version or "" for one in metadata.distributions(name=name)), "")


def needs() -> Iterator[tuple[str, Requirement]]:
    """What needs what: (parent, requirement), from sertk down to the libraries that its libraries need."""
    todo, seen = [("sertk doctor", Requirement("sertk"))], set()
    for parent, need in todo:  # grows while it is read
        yield parent, need
        dist = next(iter(metadata.distributions(name=need.name)), None)
        if dist is None or (key := (need.name, *sorted(need.extras))) in seen:
            continue
        seen.add(key)
        python = [f"python{dist.metadata['Requires-Python']}"] if need.name == "sertk" else []
        cases = [{"extra": extra} for extra in need.extras or {""}]
        wanted = map(Requirement, [*python, *(dist.requires or ())])
        todo += [(need.name, one) for one in wanted if not one.marker or any(map(one.marker.evaluate, cases))]


def version(parent: str, need: Requirement) -> Finding:
    """The version of one library. torch and torchaudio are only ever installed together."""
    found, wanted = installed(need.name), f"{need.name}{need.specifier}"
    fits = bool(found) and need.specifier.contains(found, prereleases=True)
    detail = f"{found or 'not installed'}; {parent} needs {wanted}" + f". {WHY}" * (need.name in PAIR)
    return Finding(need.name, fits, detail, "" if fits else INSTALL.get(need.name, f'pip install "{wanted}"'))


def trials() -> Iterator[tuple[str, str, str]]:
    """What is tried in child processes: the name of a check, the code, and the fix if the code fails."""
    for name in filter(installed, MODULES):  # torchaudio itself compares its CUDA version with that of torch
        fix = FORCE_PAIR if name in PAIR else f'pip install --force-reinstall --no-deps "{name}=={installed(name)}"'
        yield f"import {name}", f"import {MODULES[name]} as module; print(module.__version__)", fix
    yield "devices", "print(doctor.devices())", f"if torch is not compiled with CUDA: {FORCE_PAIR}; else {CPU}"
    for kind in ("WAV", "FLAC"):
        fix = "pip install --force-reinstall --no-deps soundfile"
        yield f"soundfile {kind}", f"print(doctor.sound({kind!r}))", fix
    for point in (*metadata.entry_points(group="sertk"), *metadata.entry_points(group="sertk.commands")):
        dist, number = (point.dist.name, point.dist.version) if point.dist else ("PLUGIN", "")
        code = f"from sertk.cli.app import app; print(doctor.load({point.group!r}, {point.name!r}, app))"
        yield f"plugin {point.name} ({dist} {number})", code, f"update it, or uninstall it: pip uninstall {dist}"
    fix = "update or uninstall the plugin that is named here, or switch it off: export SERTK_PLUGINS=-NAME"
    yield "plugins", "print(doctor.together())", fix
    yield "current folder", "print(doctor.folder('.'))", "cd to a folder of your own with enough room"
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(doctor.folder(HF_HUB_CACHE))"
    yield "pretrained models", code, "export HF_HOME=FOLDER, with a folder of your own that has enough room"


def attempt(check: str, code: str, fix: str) -> Finding:
    """Runs code in a child process. The last line that it prints is the finding, unless an error ends it."""
    command = [sys.executable, "-P", "-c", f"from sertk.cli import doctor\n{code}\nprint('<end>')"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the child finds the same modules
    ask = partial(subprocess.run, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False)
    try:
        done = ask(command, env=env, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Finding(check, False, f"no answer after {PATIENCE} s", fix)
    said, end, _ = done.stdout.partition("\n<end>\n")
    if end:
        return Finding(check, True, said.rpartition("\n")[2])
    message = " ".join(re.split(r"(?m)^  File .*\n(?: .*\n)*", done.stderr)[-1].split())  # what follows a traceback
    raised = done.returncode == 1 and message
    return Finding(check, False, raised or f"the process ended with status {done.returncode}. {message}".strip(), fix)


def devices() -> str:
    """Computes on each GPU that is not hidden; torch says why it cannot. In a child process, as all below."""
    import torch
    from torch.utils.collect_env import get_env_info

    env, count = get_env_info(), torch.cuda.device_count()  # type: ignore[no-untyped-call]
    gpus, hidden = " ".join((env.nvidia_gpu_models or "").split()), os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not (gpus or count):
        why = "CUDA_VISIBLE_DEVICES hides the GPUs" if hidden else "no GPU found"
        return f"{why}; sertk uses the CPU, number of threads: {torch.get_num_threads()}"
    about = f"{gpus}; torch for CUDA {env.cuda_compiled_version} sees {count}, driver {env.nvidia_driver_version}"
    for device in [f"cuda:{index}" for index in range(count or 1)]:
        try:
            torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()
        except Exception as error:
            raise RuntimeError(f"{device} does not compute ({about}): {error}") from error
    return about


def sound(kind: str) -> str:
    """Writes a ramp to an audio file in memory and reads it back."""
    import numpy as np
    import soundfile

    wave, file = np.linspace(-0.5, 0.5, 1600), io.BytesIO()
    soundfile.write(file, wave, 16000, format=kind, subtype="PCM_16")
    file.seek(0)
    if not np.allclose(soundfile.read(file)[0], wave, atol=1e-3):
        raise ValueError("what was read is not what was written")
    return f"written and read with libsndfile {soundfile.__libsndfile_version__}"


def load(group: str, name: str, own: Typer) -> str:
    """Loads what a plugin offers, unless it is switched off or its name is taken, by our own commands too."""
    point, *others = metadata.entry_points(group=group, name=name)
    if group == "sertk" and os.environ.get("SERTK_PLUGINS"):
        from sertk.plugins import is_off

        if is_off(point):
            return "switched off by SERTK_PLUGINS"
    if others or (group == "sertk.commands" and name in get_group(own).commands):
        raise ValueError(f"sertk or another plugin offers {name!r} too")
    point.load()
    return point.value


def together() -> str:
    """Reads what all plugins offer."""
    from sertk.plugins import Plugins

    if faults := Plugins().faults:
        raise ValueError(" ".join(faults))
    return "all fit together"


def folder(name: str) -> str:
    """Writes a file without a name to a folder, or to the nearest parent of one that is not made yet."""
    path = Path(name).absolute()
    there = next(one for one in (path, *path.parents) if one.exists())
    tempfile.TemporaryFile(dir=there).close()
    if (free := shutil.disk_usage(there).free / 2**30) < 2:
        raise OSError(f"{free:.1f} GB free in {there}; one large pretrained model takes 1.3 GB")
    return f"{path}, {free:.0f} GB free"
