"""Clips of noise, written quickly: a corpus is thousands of them."""

from __future__ import annotations

import random
import struct
from pathlib import Path


def clip(path: Path, seed: int, seconds: float, rate: int = 16_000) -> None:
    """Writes a mono PCM16 WAV file of noise, at least one sample; another seed is other noise. Makes its folder."""
    size = 2 * max(1, round(seconds * rate))
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + random.Random(seed).randbytes(size))
