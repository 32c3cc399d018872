"""Looks for what keeps sertk from working here, and says how to mend each fault.

What may break is tried in a child process, which is this file run as a program: a library that ends the process, or a
torch that does not load, costs one answer and not the examination. So only the standard library is imported here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PYTHON = ((3, 11), (3, 14))  # from, and below: requires-python of pyproject.toml
PAIR = {"torch": '"torch==2.11.*"', "torchaudio": '"torchaudio==2.11.*"'}  # as in pyproject.toml
INSTALL_PAIR = f"pip install {' '.join(PAIR.values())}"
FORCE_PAIR = f"pip install --force-reinstall {' '.join(PAIR.values())}"
WHY = (
    "torchaudio does not tell pip which torch it fits, and its newest release, 2.11, is older than torch's newest, "
    "so a plain `pip install torch torchaudio` takes two that do not go together"
)
GROUPS = {"sertk": "plugin", "sertk.commands": "command"}
PATIENCE = 300  # seconds without an end; a first import of torch from a network disk takes minutes
FREE = 2 * 2**30  # bytes; one large pretrained model is 1.3 GB
STEPS = ("import torch", "devices", "bf16", "sound WAV", "sound FLAC", "import torchaudio")


class Finding(NamedTuple):
    """One thing looked at. A fault (`ok` is False) has a `fix`: what to type or do."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


class Answer(NamedTuple):
    """What a child process found out in one step, or the error that ended the step."""

    facts: dict[str, Any]
    error: str = ""


class Build(NamedTuple):
    """What an installed library says of itself in its version.py, read without importing it."""

    version: str
    cuda: str  # "13.0"; "" for a build without CUDA; "?" where it does not say


def examine() -> list[Finding]:
    """Examines this environment; needs neither torch nor any other library to load."""
    points = list(entry_points())
    answers = ask([*STEPS, *(f"load {point.value}" for point in points)])
    return [
        python(),
        *versions(),
        *imports(answers),
        *pair(),
        *devices(answers),
        *sound(answers),
        *plugins(points, answers),
        *folders(),
        *disks(),
    ]


# ---------------------------------------------------------------- asking a child process


def ask(steps: Sequence[str]) -> dict[str, Answer]:
    """Runs the steps in one child process; when one of them ends it, runs the rest in another."""
    if not steps:
        return {}
    answers, end = run(steps)
    missing = [step for step in steps if step not in answers]
    if missing:
        answers[missing[0]] = Answer({}, end)
    return answers | ask(missing[1:])


def run(steps: Sequence[str]) -> tuple[dict[str, Answer], str]:
    """The answers that a child process gave, and how it ended."""
    command = [sys.executable, "-P", __file__, json.dumps(search_path()), *steps]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        return parse(late.stdout or b""), f"no end after {PATIENCE} s"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return parse(done.stdout), f"the process ended with status {done.returncode}: {' '.join(last)}"


def search_path() -> list[str]:
    """Where this process looks for modules, so that the child looks there too."""
    return [entry or str(current()) for entry in sys.path]


def parse(output: bytes) -> dict[str, Answer]:
    """The child's lines; the last may be torn if it was killed."""
    answers = {}
    for line in output.splitlines(keepends=True):
        if line.endswith(b"\n"):
            step, facts, error = json.loads(line)
            answers[step] = Answer(facts, error)
    return answers


# ---------------------------------------------------------------- in the child process


def answer(path: Sequence[str], steps: Sequence[str]) -> None:
    """Writes a line of JSON for each step, each at once, for the next one may end the process."""
    sys.path[:] = path
    with os.fdopen(os.dup(1), "w") as lines:
        os.dup2(2, 1)  # what libraries print goes elsewhere
        for step in steps:
            lines.write(json.dumps([step, *attempt(step)]) + "\n")
            lines.flush()


def attempt(step: str) -> Answer:
    """Takes one step. Whatever a library raises, SystemExit included, is the answer and not our end."""
    verb, _, argument = step.partition(" ")
    try:
        return Answer(VERBS[verb](argument))
    except BaseException as error:
        return Answer({}, f"{type(error).__name__}: {' '.join(str(error).split())}")


def try_import(name: str) -> dict[str, Any]:
    """Imports a module."""
    module = importlib.import_module(name)
    return {"version": str(getattr(module, "__version__", "?"))}


def try_load(value: str) -> dict[str, Any]:
    """Loads what an entry point names."""
    importlib.metadata.EntryPoint(name="", value=value, group="").load()
    return {}


def try_devices(_: str) -> dict[str, Any]:
    """What torch can compute on, and why not on CUDA where there should be some."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "threads": torch.get_num_threads(),
        "mps": torch.backends.mps.is_available(),
        "built": torch.version.cuda,
        "said": " ".join(str(warning.message).strip() for warning in said),
        "cuda": [try_cuda(index) for index in range(count)],
    }


def try_cuda(index: int) -> dict[str, Any]:
    """Name and memory of a CUDA device, and the error when it cannot multiply two matrices."""
    import torch

    about = torch.cuda.get_device_properties(index)
    native = torch.cuda.get_device_capability(index) >= (8, 0) or torch.version.hip is not None
    facts = {"name": about.name, "memory": about.total_memory, "bf16": native, "error": ""}
    try:
        one = torch.ones(8, 8, device=f"cuda:{index}")
        torch.matmul(one, one).sum().item()
    except Exception as error:  # a driver has many ways to fail, and all mean the same here
        facts["error"] = " ".join(str(error).split())
    return facts


def try_bf16(_: str) -> dict[str, Any]:
    """Whether bf16 autocast computes on the CPU, and whether by instructions of its own."""
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = torch.matmul(torch.ones(8, 8), torch.ones(8, 8)).sum().item()
    can = torch.cpu.get_capabilities()
    return {"right": total == 512, "native": any(value for name, value in can.items() if "bf16" in name)}


def try_sound(kind: str) -> dict[str, Any]:
    """Writes a ramp to an audio file in memory and reads it back."""
    import io

    import numpy as np
    import soundfile

    wave = np.linspace(-0.5, 0.5, 1600)
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format=kind, subtype="PCM_16")
    file.seek(0)
    back, rate = soundfile.read(file)
    right = rate == 16000 and back.shape == wave.shape and bool(abs(back - wave).max() < 1e-3)
    return {"right": right, "library": soundfile.__libsndfile_version__}


VERBS: dict[str, Callable[[str], dict[str, Any]]] = {
    "import": try_import,
    "load": try_load,
    "devices": try_devices,
    "bf16": try_bf16,
    "sound": try_sound,
}


# ---------------------------------------------------------------- Python and the libraries


def python() -> Finding:
    """Whether this Python is one that sertk supports."""
    low, high = PYTHON
    detail = f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})"
    fix = "install Python 3.11, 3.12 or 3.13 and make the environment anew with it"
    return judge("python", low <= sys.version_info[:2] < high, detail, fix)


def versions() -> Iterator[Finding]:
    """The version of each library against what the installed sertk asks for."""
    try:
        needs = importlib.metadata.requires("sertk") or []
    except importlib.metadata.PackageNotFoundError:
        detail = "not installed, only found in a folder; no version can be checked"
        yield Finding("sertk", False, detail, "in the clone: pip install -e .")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        yield Finding("packaging", False, f"{error}; no version can be checked", "pip install packaging")
        return
    yield Finding("sertk", True, importlib.metadata.version("sertk"))
    for need in map(Requirement, needs):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield version(need.name, str(need.specifier), need.specifier.contains)


def version(name: str, wanted: str, accepts: Callable[..., bool]) -> Finding:
    """The version of one library; torch and torchaudio are only ever mended together."""
    fix = INSTALL_PAIR if name in PAIR else f'pip install "{name}{wanted}"'
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, f"not installed; needs {wanted or 'any version'}", fix)
    right = accepts(found, prereleases=True)
    return judge(name, right, found if right else f"{found}; needs {wanted}", fix)


# ---------------------------------------------------------------- torch and torchaudio


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def imports(answers: dict[str, Answer]) -> Iterator[Finding]:
    """Whether the two load at all."""
    for name in PAIR:
        facts, error = answers[f"import {name}"]
        # pip takes a library of the right version that does not load for installed
        fix = FORCE_PAIR if _installed(name) else INSTALL_PAIR
        yield judge(f"import {name}", not error, error or str(facts["version"]), fix)


def pair() -> Iterator[Finding]:
    """Whether torch and torchaudio are of one release and one CUDA build."""
    torch, audio = (build(name) for name in PAIR)
    if torch is None or audio is None:
        return  # told by `version` and `imports`
    same = release(torch) == release(audio)
    detail = f"torch {torch.version} and torchaudio {audio.version}"
    yield judge("torch and torchaudio", same, detail if same else f"{detail}: {WHY}", INSTALL_PAIR)
    fits = audio.cuda in ("", "?", torch.cuda) or torch.cuda == "?"
    detail = f"torch for {named(torch)}, torchaudio for {named(audio)}"
    why = "a torchaudio for CUDA loads only beside a torch for the same CUDA"
    # pip takes the right release of the wrong build for installed, so then it must be told to install again
    yield judge("CUDA builds", fits, detail if fits else f"{detail}: {why}", FORCE_PAIR if same else INSTALL_PAIR)


def build(name: str) -> Build | None:
    """Reads an installed library's version.py; None when the library is absent."""
    try:
        spec = importlib.util.find_spec(name)
        found = importlib.metadata.version(name)
    except (ImportError, ValueError):
        return None
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = file.read_text() if file and file.is_file() else ""
    says = dict(re.findall(r"^(\w+)\b[^=\n]*= *'([^']*)'", text, re.MULTILINE))
    number = says.get("__version__", found)
    return Build(number, says.get("cuda") or cuda_tag(number))


def cuda_tag(number: str) -> str:
    """The CUDA version in a local version label: "2.11.0+cu130" gives "13.0", "2.11.0+cpu" gives ""."""
    tag = number.partition("+")[2]
    if digits := re.fullmatch(r"cu(\d+)(\d)", tag):
        return ".".join(digits.groups())
    return "" if tag == "cpu" else "?"


def release(of: Build) -> list[str]:
    """Major and minor version."""
    return of.version.partition("+")[0].split(".")[:2]


def named(of: Build) -> str:
    """The build in words."""
    return {"": "the CPU alone", "?": "an unstated CUDA"}.get(of.cuda, f"CUDA {of.cuda}")


# ---------------------------------------------------------------- devices


def devices(answers: dict[str, Answer]) -> Iterator[Finding]:
    """The processors that torch can use."""
    facts, error = answers["devices"]
    cores = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if error:
        yield Finding("devices", False, f"{cores}; torch cannot tell: {error}", INSTALL_PAIR)
        return
    yield Finding("cpu", True, f"{cores}, torch uses {facts['threads']} threads")
    yield bf16(answers["bf16"])
    yield from map(cuda_device, range(len(facts["cuda"])), facts["cuda"])
    if not facts["cuda"]:
        yield no_cuda(facts)
    if sys.platform == "darwin":
        yield Finding("mps", True, "available" if facts["mps"] else "not available; the CPU is used")


def bf16(answer: Answer) -> Finding:
    """Mixed precision on the CPU."""
    facts, error = answer
    if error or not facts["right"]:
        return Finding("bf16", False, error or "a product of ones came out wrong", "train with precision fp32")
    return Finding("bf16", True, "native on this CPU" if facts["native"] else "emulated on this CPU: fp32 is quicker")


def cuda_device(index: int, facts: dict[str, Any]) -> Finding:
    """One CUDA device."""
    precision = "bf16" if facts["bf16"] else "bf16 only emulated: fp32 is quicker"
    detail = f"{facts['name']}, {facts['memory'] / 2**30:.0f} GB, {precision}"
    fix = f"use another device, or a build of {PAIR['torch']} for the CUDA version that this device and its driver take"
    return judge(f"cuda:{index}", not facts["error"], f"{detail}; {facts['error']}".removesuffix("; "), fix)


def no_cuda(facts: dict[str, Any]) -> Finding:
    """Why torch sees no CUDA device: none there, hidden on purpose, or a fault."""
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return Finding("cuda", True, "no device here; the CPU is used")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset") in ("", "-1"):
        return Finding("cuda", True, "hidden by CUDA_VISIBLE_DEVICES; the CPU is used")
    if facts["built"] is None:
        return Finding("cuda", False, "there is a device, but this torch is built for the CPU alone", FORCE_PAIR)
    detail = f"there is a device, but torch cannot use it: {facts['said'] or 'it does not say why'}"
    return Finding("cuda", False, detail, f"update the NVIDIA driver to one for CUDA {facts['built']}")


# ---------------------------------------------------------------- sound, plugins


def sound(answers: dict[str, Answer]) -> Iterator[Finding]:
    """Whether soundfile writes and reads both kinds of file that sertk uses."""
    for kind in ("WAV", "FLAC"):
        facts, error = answers[f"sound {kind}"]
        wrong = error or ("" if facts["right"] else "what was read is not what was written")
        detail = wrong or f"written and read (libsndfile {facts['library']})"
        yield judge(f"soundfile {kind}", not wrong, detail, "pip install --force-reinstall soundfile")


def entry_points() -> Iterator[importlib.metadata.EntryPoint]:
    """What other distributions add to sertk."""
    for group in GROUPS:
        yield from importlib.metadata.entry_points(group=group)


def plugins(points: Sequence[importlib.metadata.EntryPoint], answers: dict[str, Answer]) -> Iterator[Finding]:
    """Whether each plugin loads: a run with a broken one stops, for without it the result would be another."""
    for point in points:
        name, number = (point.dist.name, point.dist.version) if point.dist else ("an unknown distribution", "")
        error = answers[f"load {point.value}"].error
        detail = f"{point.value} of {name} {number}".strip()
        fix = f"pip install --force-reinstall {name}, or do without it: pip uninstall {name}"
        yield judge(f"{GROUPS[point.group]} {point.name}", not error, f"{detail}; {error}".removesuffix("; "), fix)
    if not points:
        yield Finding("plugins", True, "none installed beside the builtin ones")


# ---------------------------------------------------------------- folders


def places() -> dict[str, tuple[Path, str]]:
    """The folders that sertk writes to, and how to choose others."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or Path(caches, "huggingface")
    models = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    return {
        "current folder": (current(), "cd to a folder of your own, or name one with --work or --out"),
        "temporary folder": (temporary(), "export TMPDIR=FOLDER, one that is there and that you may write to"),
        "pretrained models": (models, "export HF_HOME=FOLDER, one that you may write to"),
    }


def current() -> Path:
    """The working directory, even where somebody has removed it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.environ.get("PWD", "."))


def temporary() -> Path:
    """Where temporary files go; TMPDIR when nothing can be written anywhere."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - only looked at


def existing(folder: Path) -> Path:
    """The folder, or the nearest of its parents that is there."""
    return next((path for path in (folder, *folder.parents) if path.exists()), folder)


def writable(folder: Path) -> str:
    """Writes a nameless file there; the error, or nothing."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def folders() -> Iterator[Finding]:
    """Whether files can be made where sertk makes them."""
    for check, (folder, fix) in places().items():
        made_when_needed = check == "pretrained models"
        error = writable(existing(folder) if made_when_needed else folder)
        yield judge(check, not error, f"{folder}; {error}".removesuffix("; "), fix)
    yield recipes()


def recipes() -> Finding:
    """The egs folder: beside the package in a clone, inside it in a wheel, where it need not be writable."""
    here = Path(__file__).resolve().parent
    found = [folder for folder in (here / "egs", here.parent / "egs") if folder.is_dir()]
    if not found:
        return Finding("recipes", False, f"no egs folder in or beside {here}", "pip install --force-reinstall sertk")
    elsewhere = found[0].parent == here or writable(found[0])
    note = " (recipes write to the current folder, or --work)" if elsewhere else ""
    return Finding("recipes", True, f"{found[0]}{note}")


def disks() -> Iterator[Finding]:
    """Free space where sertk writes, once a disk."""
    seen = set()
    for folder, fix in places().values():
        there = existing(folder)
        if (disk := there.stat().st_dev) in seen:
            continue
        seen.add(disk)
        free = shutil.disk_usage(there).free
        need = f"free {FREE / 2**30:.0f} GB there, or {fix}"
        yield judge("free disk", free >= FREE, f"{free / 2**30:.1f} GB in {there}", need)


def judge(check: str, ok: bool, detail: str, fix: str) -> Finding:
    """A finding that keeps its fix only when it is a fault."""
    return Finding(check, ok, detail, "" if ok else fix)


if __name__ == "__main__":
    answer(json.loads(sys.argv[1]), sys.argv[2:])
