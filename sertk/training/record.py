"""What a run writes down of itself: what it began with, what it cost, its bundle."""

from __future__ import annotations

import resource
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from sertk.core.files import Document, Record, digest, read_json, write_json
from sertk.core.low_rank import fold
from sertk.corpus.protocols import value_of
from sertk.modeling import build, bundle
from sertk.plugins import file_hash
from sertk.settings.plain import difference, plain
from sertk.settings.schema import Settings
from sertk.settings.sweep import same
from sertk.training import distributed, run_folder
from sertk.training.assemble import Parts, Setup
from sertk.training.state import Training


def began_with(setup: Setup, parts: Parts) -> dict[str, object]:
    """What a run must find unchanged when it goes on."""
    shared, data = setup.shared, setup.shared.data
    ids = sorted(i for part in setup.fold for i in part)
    files = sorted([Path(one).name, file_hash(one)] for one in setup.settings.plugins)
    tasks = sorted(parts.mixture.aux)
    return {
        "protocol": setup.about,
        "audio": digest([data.facts[i].sha256 for i in ids]),
        "features": shared.features,
        "weights": build.weights(parts.body),
        "versions": {name: version(name) for name in bundle.STACK},
        "init": shared.init,
        **({"plugins": files} if files else {}),
        **({"texts": digest([data.utterances[i].transcript for i in ids])} if _reads_text(parts) else {}),
        **({"speakers": digest([data.utterances[i].speaker for i in ids])} if setup.settings.by_speaker else {}),
        **({"aux": digest([[value_of(data.utterances[i], name) for i in ids] for name in tasks])} if tasks else {}),
    }


def _reads_text(parts: Parts) -> bool:
    return any(one.reads == "text" for one in parts.body.frontend.features.values())


def _learned_from(setup: Setup) -> Record:
    """`seen`: 16 hex digits of each recording that the weights learned from, those of `train.init` included.

    So scores find it out where a test, of this corpus or another, has one of them. `corpora`: the parts that they are
    of, where the corpus is a union.
    """
    ids, init, data = (*setup.fold.train, *setup.fold.dev), setup.settings.train.init, setup.shared.data
    before = read_json(Path(init) / "bundle.json", bundle.OBTAIN, newer=True) if init else {}
    parts = {part for i in ids if isinstance(part := data.utterances[i].aux.get("corpus"), str)}
    return {
        "seen": sorted({*bundle.seen(before), *(data.facts[i].sha256[:16] for i in ids)}),
        "corpora": sorted({*bundle.corpora(before), *parts}),
    }


def _identity(s: Settings) -> str:
    """16 hex digits of what makes the system of a run: the settings that are not at their defaults, plugin files."""
    # each fold may begin with a bundle of its own
    own = {**difference(s, Settings()), "train.init": s.train.init is not None}
    if s.searched is not None and s.searched.nested:  # each fold has its own values; the search is the same
        own = {name: value for name, value in own.items() if not any(same(name, one) for one in s.searched.ranges)}
        own["searched"] = s.searched.study
    return digest([own, sorted(map(file_hash, s.plugins))])


def write(setup: Setup, final: Training, best: Document, seconds: float, *, resumed: bool) -> None:
    """Writes what it cost, then the bundle: where that is, the run is done."""
    s = setup.settings
    _write_cost(setup.out, final, seconds, resumed=resumed)
    about = {
        "classes": list(setup.task.classes),
        "protocol": setup.about,
        "training": {
            "system": Path(s.system).stem if s.system else None,
            "settings": _identity(s),
            "seed": s.seed,
            "epoch": best["epoch"],
            "steps": best["steps"],
            "dev": {s.train.metric.name: best["score"]},
            "refit": s.train.refit,
            "weights": final.weights,
            "losses": final.mixture.weights,
            "ranks": distributed.world_size(),
            "init": setup.shared.init,
            **_learned_from(setup),
            **({"searched": plain(s.searched)} if s.searched else {}),
            "longest": max(setup.shared.data.facts[i].seconds for i in setup.fold.train),
        },
    }
    fold(final.model)
    beside, shared = run_folder.bundles_beside(setup.out), setup.shared
    model = setup.out / "model"
    bundle.write(model, final.model, final.frontend, final.settings, about, shared.plugins, beside, shared.kept)
    shutil.rmtree(setup.out / "checkpoints", ignore_errors=True)


def _write_cost(out: Path, final: Training, seconds: float, *, resumed: bool) -> None:
    """Writes what the run cost: the seconds of training in this process, memory, parameters.

    Args:
        out: The run folder.
        final: The model, with the parameters of its features those that count.
        seconds: Of training in this process.
        resumed: Whether another process had begun it.
    """
    model, features = list(final.model.parameters()), final.frontend.features.values()
    sizes = {
        "parameters": sum(one.numel() for part in (model, *(one.parameters() for one in features)) for one in part),
        "trained": sum(one.numel() for one in model if one.requires_grad),
    }
    write_json(out / "cost.json", {"seconds": seconds, "resumed": resumed, **_held(model[0].device), **sizes})


def _held(device: torch.device) -> Record:
    """Where training ran, and the most memory that this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if device.type == "cuda":
        name, most = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
        return {"device": name, "memory": peak, "gpu_memory": most}
    count = torch.get_num_threads()
    return {"device": f"{device.type}, {count} thread{'s' * (count > 1)}", "memory": peak}
