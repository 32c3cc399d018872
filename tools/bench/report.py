"""What `sertk report` takes on a score file of a million lines: report.py --lines 1000000 --speakers 2000.

The file is made as `score` writes it, with 8 classes, all columns and speakers who differ. `sertk report` runs in a
process of its own. Time on the clock, processor time and the peak of memory are those of this process. A machine that
is busy with other work takes longer on the clock, and as long in processor time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np

from sertk.core.files import write_json

CLASSES = ("anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
STEP = 10_000  # lines made at once


def main() -> None:
    """Prints a row."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--speakers", type=int, default=2000)
    ask = parser.parse_args()
    print(harness.machine("sertk", "torch", "numpy", "matplotlib"))
    columns = ("lines", "speakers", "score file, MB", "on the clock, s", "processor, s", "peak, GB", "page, MB")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory(prefix="sertk-bench.") as folder:
        run = Path(folder) / "exp/p/made/fold=1/seed=0"
        make(run, ask.lines, ask.speakers)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sertk", "report", str(run.parents[1])], check=True)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        sizes = [(run / "scores.jsonl").stat().st_size / 1e6, (run.parents[1] / "report.html").stat().st_size / 1e6]
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9
    print(
        f"| {ask.lines:,} | {ask.speakers:,} | {sizes[0]:.0f} | {wall:.0f} | {cpu:.0f} | {peak:.2f} | {sizes[1]:.2f} |"
    )


def make(run: Path, lines: int, speakers: int) -> None:
    """Writes scores.jsonl and metrics.json of a run: each speaker is as good as chance has it.

    Args:
        run: The folder.
        lines: How many.
        speakers: In turn.
    """
    rng, counts = np.random.default_rng(0), np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    skill = rng.normal(1.5, 0.7, speakers)
    run.mkdir(parents=True)
    with (run / "scores.jsonl").open("w") as file:
        for first in range(0, lines, STEP):
            rows = np.arange(first, min(first + STEP, lines))
            label = rng.integers(0, len(CLASSES), len(rows))
            logits = rng.normal(0, 1, (len(rows), len(CLASSES)))
            logits[np.arange(len(rows)), label] += skill[rows % speakers]
            posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            decision, seconds = logits.argmax(1), rng.gamma(4, 1, len(rows)).round(6)
            np.add.at(counts, (label, decision), 1)
            columns = [one.tolist() for one in (rows, label, decision, seconds, posterior.round(6), logits.round(6))]
            file.writelines(_line(one, speakers) for one in zip(*columns, strict=True))
    protocol = {"corpus": "made", "name": "p", "fold": "1", "hash": "h", "part": "test", "stamp": "speaker-independent"}
    trained = {
        "corpus": "made",
        "protocol": "p",
        "fold": "1",
        "hash": "h",
        "system": "made",
        "settings": "0",
        "seed": 0,
    }
    about = {"protocol": protocol, "trained": trained, "utterances": lines, "classes": CLASSES}
    write_json(run / "metrics.json", {**about, "confusion": counts.tolist()})


def _line(one: tuple[Any, ...], speakers: int) -> str:
    row, label, decision, seconds, posterior, logits = one
    who = row % speakers
    found = {
        "schema": 1,
        "id": f"utterance-{row:08d}",
        "label": CLASSES[label],
        "speaker": f"s{who:05d}",
        "gender": ("female", "male")[who % 2],
        "session": f"session {who % 5}",
        "seconds": seconds,
        "decision": CLASSES[decision],
        "posterior": posterior,
        "logits": logits,
        "stamp": "speaker-independent",
    }
    return json.dumps(found) + "\n"


if __name__ == "__main__":
    main()
