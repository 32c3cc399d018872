"""TESS as published: its folders, the misnamed file, and two AIFF files named .wav."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from sertk.core import key
from sertk.testing.trees.audio import clip
from sertk.testing.trees.published import published_ids

FOLDERS: Final = {  # where a folder is not called as the ends of its files
    "OAF_fear": "OAF_Fear",
    "OAF_ps": "OAF_Pleasant_surprise",
    "OAF_sad": "OAF_Sad",
    "YAF_ps": "YAF_pleasant_surprised",
}
AIFF: Final = ("OAF_back_angry", "YAF_back_angry")  # any two: which ones they are in the corpus is not stated here


def write(folder: Path, *, seconds: float = 0.005) -> Path:
    """Writes the 2,800 clips of EmoBox's list, `OAF_bite_neutral` as `OA_bite_neutral`; gives `folder`."""
    for name in published_ids("tess"):
        speaker, _, emotion = name.split("_")
        own = f"{speaker}_{emotion}"
        path = folder / FOLDERS.get(own, own) / f"{'OA_bite_neutral' if name == 'OAF_bite_neutral' else name}.wav"
        if name in AIFF:
            _aiff(path, abs(key(name)), seconds)
        else:
            clip(path, key(name), seconds)
    return folder


def _aiff(path: Path, seed: int, seconds: float, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, max(1, round(seconds * rate)))
    soundfile.write(path, noise, rate, format="AIFF", subtype="PCM_16")
