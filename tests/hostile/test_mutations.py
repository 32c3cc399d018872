"""Damaged and hostile files: whatever a file was changed to, its reader gives a clean error or the same result.

Each mutation is drawn from a seed and its number, so a failure is repeated by its number alone. Files with a checksum
must give the same result or an error. Files that users may edit (see docs/security.md) may give another result, for an
edit is no damage; a traceback or a hang is a failure for all of them.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

import pytest
import torch

from sertk.core import HeadSpec, SertkError
from sertk.core.files import write_json, write_jsonl, write_text
from sertk.corpus import protocols
from sertk.corpus.features import Store, write_shard
from sertk.corpus.prepared import Data
from sertk.modeling import build, bundle
from sertk.plugins import Plugins
from sertk.results.lines import read_scores as scores_of_file
from sertk.results.measures import Measures
from sertk.results.runs import failures, find, protocol_of
from sertk.scoring.inputs import find_inputs
from sertk.scoring.shards import Share, read_shards
from sertk.scoring.shards import write_shard as write_share
from sertk.scoring.texts import with_texts
from sertk.settings import merge
from sertk.training import run_folder
from sertk.training.checkpoint import Checkpoints

PLUGINS = Plugins()
SHAS = [f"{number:064x}" for number in range(1, 6)]
RUN = {"protocol": {"name": "p", "hash": "h" * 16}, "audio": "a" * 16, "versions": {"torch": "2.11"}, "init": None}
SECONDS = 5
"""After which a reader is said to hang; each takes milliseconds."""


class Reader(NamedTuple):
    """A file, and what is read of it.

    Attributes:
        path: Of the file, in the world.
        folder: What is copied for it.
        read: Gives what is read, from the copy.
        same: Whether nothing but the same result will do.
    """

    path: str
    folder: str
    read: Callable[[Path], object]
    same: bool


def read_bundle(folder: Path) -> object:
    made = bundle.read(folder, PLUGINS)
    weights = {
        name: (value.dtype, value.shape, value.flatten().tolist()) for name, value in made.model.state_dict().items()
    }
    about = {word: made.about[word] for word in ("protocol", "training")}
    # sorted: a line of JSON that comes twice changes the order of the keys, which says nothing
    return made.classes, pformat(made.settings), weights, about, bundle.outline(folder).shapes


def read_store(folder: Path) -> object:
    store = Store(folder, width=3)
    found = [store[sha] for sha in SHAS]
    return [(value.dtype, value.shape, value.flatten().tolist()) for value in found]


def read_checkpoint(folder: Path) -> object:
    state = Checkpoints(folder).latest()
    assert state is not None
    return repr(sorted((name, repr(value)) for name, value in state.items()))


def read_run(folder: Path) -> object:
    run_folder.claim_data(folder, RUN)
    return None


def read_data(folder: Path) -> object:
    data = Data(folder)
    failed: list[dict[str, Any]] = []
    used = [data.select([i], failed) for i in list(data.utterances)[:5]]
    return data.corpus, data.utterances, data.facts, len(used)


def read_manifest(folder: Path) -> object:
    return find_inputs([str(folder / "manifest.jsonl")], {}, []).utterances


def read_protocol(folder: Path) -> object:
    folds = Data(folder).protocol("emobox")
    return folds.classes, folds.labels, folds.folds, folds.stamp


def read_scores(folder: Path) -> object:
    ((_, runs),) = find([folder]).items()
    (run,) = runs
    figures = Measures(PLUGINS).figures(run.scores)
    return figures, run.seconds.tolist(), run.counts.tolist(), run.fold, failures(runs), protocol_of(folder, runs)


def read_shares(folder: Path) -> object:
    shards = read_shards([folder / "a.jsonl", folder / "b.jsonl"])
    words = ("took", "scored")
    return [(list(one.lines()), list(one.failed()), *(one.about[word] for word in words)) for one in shards]


def read_texts(folder: Path) -> object:
    given = find_inputs([str(folder / "wav.scp")], {}, []).utterances
    return with_texts(given, folder / "texts.jsonl")


READERS = [
    Reader("model/bundle.json", "model", read_bundle, same=True),
    Reader("model/model.safetensors", "model", read_bundle, same=True),
    Reader("model/files/*", "model", read_bundle, same=True),
    Reader("store/*.safetensors", "store", read_store, same=True),
    Reader("store/index.jsonl", "store", read_store, same=True),
    Reader("checkpoints/00000002.pt", "checkpoints", read_checkpoint, same=True),
    Reader("run/run.json", "run", read_run, same=True),
    Reader("data/protocols/emobox.json", "data", read_protocol, same=True),
    Reader("shares/b.jsonl", "shares", read_shares, same=True),
    Reader("data/corpus.json", "data", read_data, same=False),
    Reader("data/manifest.jsonl", "data", read_data, same=False),
    Reader("data/manifest.jsonl", "data", read_manifest, same=False),
    Reader("data/audio.jsonl", "data", read_data, same=False),
    Reader("scored/scores.jsonl", "scored", read_scores, same=False),
    Reader("scored/metrics.json", "scored", read_scores, same=False),
    Reader("shares/b.shard.json", "shares", read_shares, same=False),
    Reader("lists/texts.jsonl", "lists", read_texts, same=False),
    Reader("lists/wav.scp", "lists", read_texts, same=False),
    Reader("settings/config.yaml", "settings", lambda folder: merge.load(config=folder / "config.yaml"), same=False),
    Reader(
        "settings/protocol.yaml", "settings", lambda folder: protocols.from_file(folder / "protocol.yaml"), same=False
    ),
]


@pytest.fixture(scope="module")
def world(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each file, as the toolkit writes it."""
    out = tmp_path_factory.mktemp("world")
    sizes = {"d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 12, "num_mel_bins": 40}
    backbone = {"name": "whisper", "config": sizes, "freeze": 1}
    settings = merge.load(None, None, {"inputs": {"wave": {"name": "wave"}}, "backbone": backbone, "normalize": "none"})
    body = build.make_body(PLUGINS, settings)
    model = build.make_model(PLUGINS, settings, body, {"emotion": HeadSpec("linear", 3)})
    fold = {"corpus": "toy", "name": "p", "fold": "1", "hash": "0" * 16, "stamp": "speaker-independent"}
    about = {"classes": ["anger", "neutral", "sadness"], "protocol": fold, "training": {"seed": 3, "seen": ["a" * 16]}}
    bundle.write(out / "model", model, body.frontend, build.portable_settings(settings, body), about, PLUGINS)
    torch.manual_seed(1)
    write_shard(out / "store", {sha: torch.rand(2 + n, 3) for n, sha in enumerate(SHAS[:3])})
    Store(out / "store").index()
    write_shard(out / "store", {sha: torch.rand(4 + n, 3).half() for n, sha in enumerate(SHAS[3:])})
    Store(out / "store").index()
    kept = Checkpoints(out / "checkpoints")
    for step in (1, 2):
        kept.save(
            {"model": {"w": torch.rand(5, 4), "b": torch.rand(4)}, "history": {"epoch": step, "lines": [{"a": 0.5}]}}
        )
    write_json(out / "run" / "run.json", RUN)
    write_json(out / "run" / "model" / "bundle.json", {})  # it was begun
    shutil.copytree(data, out / "data", ignore=shutil.ignore_patterns("feats"))
    _write_scores(out)
    write_jsonl(out / "lists" / "texts.jsonl", [{"id": f"u{n}", "text": f"it is {n} o'clock"} for n in range(5)])
    write_text(out / "lists" / "wav.scp", "".join(f"u{n} /audio/{n}.wav\n" for n in range(5)))
    given = "train:\n  batch: 4\n  epochs: !ref <train[batch]> * 2\nseeds: [3, 4]\nalpha: 0.5\n"
    write_text(out / "settings" / "config.yaml", given)
    rule = "labels: {ang: anger, sad: sadness}\ntest: {rule: disjoint, k: 3}\nkeep: {session: [a, b]}\nabout: Mine.\n"
    write_text(out / "settings" / "protocol.yaml", rule)
    return out


def _write_scores(out: Path) -> None:
    lines = [
        {
            **{"schema": 1, "id": f"u{n}", "label": "ab"[n % 2], "decision": "ab"[n % 3 > 0]},
            **{"posterior": [0.25, 0.75], "logits": [0.5, 1.5], "speaker": "s", "seconds": 1.5, "stamp": "unaudited"},
        }
        for n in range(7)
    ]
    fold = {"corpus": "c", "name": "p", "hash": "h", "part": "test", "stamp": "speaker-independent", "fold": "1"}
    trained = {"corpus": "c", "protocol": "p", "hash": "h", "system": "s", "settings": "x", "fold": "1", "seed": 0}
    content = {"protocol": fold, "utterances": 7, "classes": ["a", "b"], "trained": trained, "failed": 1, "inputs": 8}
    write_jsonl(out / "scored" / "scores.jsonl", lines)
    confusion = scores_of_file(out / "scored" / "scores.jsonl", "ab").confusion
    content |= {"confusion": confusion.tolist(), "took": {"seconds": 2.5}}
    write_json(out / "scored" / "metrics.json", content)
    for number, name in ((1, "a"), (2, "b")):
        path = out / "shares" / f"{name}.jsonl"
        write_jsonl(path, lines)
        own = {"bundle": "x", "protocol": fold, "trained": trained, "took": {"seconds": 1.5}, "classes": ["a", "b"]}
        write_share(path, Share(number, 2, "i", ""), {**own, "scored": 7, "failed": 0, "labelled": True})


# --- mutations -----------------------------------------------------------------------------------------------------


def flip(content: bytes, draw: random.Random) -> bytes:
    made = bytearray(content)
    made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    return bytes(made)


def scramble(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return content[:start] + draw.randbytes(draw.randrange(1, 40)) + content[start + draw.randrange(40) :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def lose_a_line(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def double_a_line(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return b"".join(lines)


ODD = [
    *(None, True, False, 0, -1, 1, 3.5, 10**9, 10**400, -(10**18), 1e300, float("nan"), float("inf")),
    *("", "x", "../x", "\x00", "\ud800", "9" * 5000, [], [[]], [None], {}, {"": {}}, "NESTED"),
]


def change_a_value(content: bytes, draw: random.Random) -> bytes:
    """Another type, a huge number, no number, nesting, for a value anywhere; or two keys or values swapped."""
    lines = content.splitlines() if b"}\n{" in content else [content]
    number = draw.randrange(len(lines))
    document = json.loads(lines[number])
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        for word in node if isinstance(node, dict) else range(len(node)):
            places.append((node, word))
            if isinstance(node[word], dict | list):
                walk(node[word])

    walk(document)
    node, word = draw.choice(places)
    what = draw.choice(["value", "value", "value", "key", "swap", "delete"])
    if what == "value":
        node[word] = draw.choice(ODD)
    elif what == "key" and isinstance(node, dict):
        node[draw.choice(["x", "schema", "id", "../x", f"{word}x"])] = node.pop(word)
    elif what == "delete":
        del node[word]
    else:
        other, place = draw.choice(places)
        node[word], other[place] = other[place], node[word]
    try:
        text = json.dumps(document)
    except (ValueError, RecursionError):  # a swap that made a circle
        return cut(content, draw)
    lines[number] = text.replace('"NESTED"', "[" * 100_000 + "]" * 100_000).encode()
    return b"\n".join(lines) + b"\n"


def mutate(content: bytes, path: Path, draw: random.Random) -> bytes:
    ways: list[Callable[[bytes, random.Random], bytes]] = [flip, flip, scramble, cut]
    if path.suffix in (".json", ".jsonl"):
        ways += [lose_a_line, double_a_line, *[change_a_value] * 6]
    elif path.suffix in (".yaml", ".scp"):
        ways += [lose_a_line, double_a_line, scramble]
    return draw.choice(ways)(content, draw)


# --- outcomes ------------------------------------------------------------------------------------------------------


class HangError(BaseException):
    """A reader took too long; no `except Exception` holds it up."""


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(read: Callable[[Path], object], folder: Path, wanted: object) -> tuple[str, str]:
    """What came of reading a mutated file, and the error."""
    try:
        with limited():
            found = read(folder)
            return ("same" if _equal(found, wanted) else "other"), ""
    except SertkError as error:
        text = str(error)
        return ("refused" if len(text) < 2000 else "long message"), text[:300]
    except HangError:
        return "hang", ""
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"[:300]


def _equal(found: object, wanted: object) -> bool:
    return repr(found) == repr(wanted)


def run(world: Path, tmp_path: Path, first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Mutations by outcome, and those that are faults."""
    wanted: dict[int, object] = {}
    found, faults = Counter[str](), list[str]()
    for number in range(first, first + count):
        draw, place = random.Random(f"hostile {number}"), number % len(READERS)
        reader = READERS[place]
        if place not in wanted:
            wanted[place] = reader.read(world / reader.folder)
        copy = Path(shutil.copytree(world / reader.folder, tmp_path / str(number) / reader.folder))
        (path,) = sorted((tmp_path / str(number)).glob(reader.path))[:1]
        before = path.read_bytes()
        path.unlink()
        path.write_bytes(mutate(before, path, draw))
        # the results of folders name their places
        what, error = outcome(reader.read, copy, wanted[place])
        found[f"{'checked' if reader.same else 'edited'}: {what}"] += 1
        if what not in ("same", "refused") and (reader.same or what != "other"):
            faults.append(f"{number} {reader.path}: {what} {error}")
        shutil.rmtree(tmp_path / str(number))
    return found, faults


def check(world: Path, tmp_path: Path, first: int, count: int) -> None:
    found, faults = run(world, tmp_path, first, count)
    told = "\n".join([*faults[:60], f"{len(faults)} faults", str(sorted(found.items()))])
    assert not faults, told
    assert found["checked: refused"] > found["checked: same"]  # the mutations do change the files


def test_a_mutated_file_gives_the_same_result_or_a_clean_error(world: Path, tmp_path: Path) -> None:
    check(world, tmp_path, 0, 500)


@pytest.mark.slow
def test_five_thousand_mutated_files_give_the_same_result_or_a_clean_error(world: Path, tmp_path: Path) -> None:
    check(world, tmp_path, 1000, 5000)
