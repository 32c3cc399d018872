"""The folder of a run: held by one process, claimed by one run, and what that run began with."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sertk.core import SertkError, UsageError
from sertk.core.files import Document, explain, read_json, sentence, write_json
from sertk.core.forms import shown
from sertk.settings.merge import dump, load
from sertk.settings.plain import identity
from sertk.settings.schema import Settings


class OtherRunError(SertkError):
    """A folder holds a run with other settings."""


class PrunedError(SertkError):
    """A run was stopped early, because others did better so far."""


def lock(out: Path) -> IO[bytes]:
    """Holds the run folder for this process; the kernel lets go of it with the process, however that ends.

    Raises:
        SertkError: Where another process holds it, or its folder cannot be written.
    """
    path = out.with_name(f".{out.name}.lock")  # beside it: the folder itself may be deleted by --force
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SertkError(f"{out} is being trained by another process. Wait for it, or choose another --out.") from None
    except OSError as error:
        raise explain(error, path) from error
    return file


def held(out: Path) -> bool:
    """Whether a process holds the run folder now."""
    path = out.with_name(f".{out.name}.lock")
    if not path.exists():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def clear(out: Path) -> None:
    """Deletes an earlier run, all of it from the first moment on.

    Raises:
        UsageError: If the folder does not hold a run.
    """
    if not out.exists():
        return
    if any(out.iterdir()) and not (out / "config.yaml").exists():
        raise UsageError(
            f"{out} is no run folder (it has no config.yaml), so --force deletes nothing. Give a run's --out."
        )
    doomed = out.with_name(f".{out.name}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    out.rename(doomed)
    shutil.rmtree(doomed)


def claim(settings: Settings, out: Path, *, force: bool) -> None:
    """Makes the folder this run's, of an earlier run only where forced to, or finds that it is.

    Raises:
        OtherRunError: Where it is another run's; the first difference is named.
        UsageError: Where forcing would delete what the run begins with, or no run.
    """
    if force:
        init = settings.train.init
        if init and Path(init).resolve().is_relative_to(out.resolve()):
            raise UsageError(f"--init {init} lies in {out}, which --force would delete. Choose another --out.")
        clear(out)
    path = out / "config.yaml"
    if not path.exists() or not begun(out):
        dump(settings, path)
        return
    now = identity(settings, "run", "which")
    there = identity(load(config=path, trust=True), "run", "which")  # compared, not run
    odd = next((name for name in {**now, **there} if there.get(name) != now.get(name)), None)
    if odd is not None:
        raise OtherRunError(
            f"{out} is a run with other settings ({odd}: {there.get(odd)!r} there, {now.get(odd)!r} now). "
            "Choose another --out (in a recipe --tag), or delete it with --force."
        )


def bundles_beside(out: Path) -> list[Path]:
    """The bundles of all runs of a protocol, exp/PROTOCOL/SYSTEM/fold=F/seed=S/model; none for a run elsewhere."""
    run = out.resolve()
    if not (run.name.startswith("seed=") and run.parent.name.startswith("fold=")):
        return []
    return sorted(run.parents[2].glob("*/fold=*/seed=*/model"))


def begun(out: Path) -> bool:
    """Whether anything was trained there; a start that failed on its settings claims no folder."""
    return (out / "model" / "bundle.json").exists() or any((out / "checkpoints").glob("*/*.pt"))


@contextmanager
def failure(out: Path) -> Iterator[None]:
    """Writes what ends the run inside to `failed.json`, and takes an earlier one away; for who holds the folder.

    A run that is pruned has not failed: `pruned.json` says why it was stopped.
    """
    path = out / "failed.json"
    path.unlink(missing_ok=True)
    try:
        yield
    except PrunedError as why:
        write_json(out / "pruned.json", {"stage": "train", "why": str(why)})
        raise
    except Exception as error:
        with suppress(SertkError):  # on a full disk what ended the run matters more
            write_json(path, {"stage": "train", "error": sentence(error)})
        raise


UNSAID = ("speakers", "aux")
"""What older runs did not write down, whatever it was; of all else that they did not, there was none."""


def claim_data(out: Path, now: Mapping[str, object]) -> None:
    """Writes down what the run trains on and with (run.json), or finds that it is the same.

    Args:
        out: The run folder.
        now: The fold, the audio, features, weights, versions, plugin files.

    Raises:
        SertkError: Where something changed since the run began.
    """
    path = out / "run.json"
    if not path.exists() or not begun(out):
        write_json(path, now)
        return
    old: Document = read_json(path, "Delete the run folder, or --force.")
    for name, value in now.items():
        if old.get(name) != value and not (name not in old and (not value or name in UNSAID)):
            raise SertkError(
                f"{out} began with {name} {shown(old.get(name))}, and now it is {shown(value)}. "
                "Choose another --out (in a recipe --tag), or delete it with --force."
            )
