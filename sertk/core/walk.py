"""The files below a folder: one walk for whoever looks for audio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

READ = (
    *(".wav", ".flac", ".aiff", ".aif", ".aifc", ".caf", ".au", ".snd", ".sph", ".nist", ".w64", ".rf64", ".wave"),
    *(".opus", ".ogg", ".oga", ".mp3", ".mp2", ".gsm", ".vox", ".voc", ".wve", ".avr", ".paf", ".pvf", ".sds"),
    *(".sf", ".ircam", ".sd2", ".svx", ".8svx"),
)
"""Suffixes of the audio that libsndfile reads, the best copy of a recording first. Without those that mean something
else to nearly everybody (.mat, .htk, .xi, .mpc, .iff), and without samples that have no header to say their rate."""
FFMPEG = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".weba", ".amr", ".awb", ".3gp", ".mka", ".ac3", ".ape", ".wv"),
    *(".tta", ".mpc", ".spx", ".shn", ".dsf", ".ra"),
)
"""Suffixes of audio that libsndfile does not read, and ffmpeg does, which is run where a setting allows it."""
UNREAD = (*FFMPEG, ".raw", ".pcm")
"""Suffixes of audio that libsndfile does not read: such a file is reported, never left out in silence."""


class Below(NamedTuple):
    """What a walk found.

    Attributes:
        names: Paths of files, in the order of their paths from the folder.
        closed: Folders that could not be looked into, and why.
    """

    names: list[str]
    closed: dict[Path, str]

    @property
    def files(self) -> list[Path]:
        """The files."""
        return [*map(Path, self.names)]

    def having(self, suffixes: tuple[str, ...]) -> list[Path]:
        """The files with one of these suffixes, in upper or lower case."""
        return [*map(Path, self.names_having(suffixes))]

    def names_having(self, suffixes: tuple[str, ...]) -> list[str]:
        """Their paths as texts, which are a fifth of the memory."""
        return [name for name in self.names if Path(name).suffix.lower() in suffixes]


def below(root: Path) -> Below:
    """Every file below a folder, links followed once, hidden files and folders left out.

    Hidden are names with a dot in front (AppleDouble's `._`, `.Trash`) and `__MACOSX`.
    """
    found, closed, seen, links = list[str](), dict[Path, str](), set[str](), [root]

    def note(error: OSError) -> None:
        closed[Path(error.filename)] = f"{error.filename} cannot be looked into ({error.strerror}). Change its rights."

    # folders before links to them: a recording is found where it lies
    while links:
        start, *links = links
        for folder, inner, names in os.walk(start, onerror=note):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back, or twice to one folder
                inner.clear()
                continue
            seen.add(real)
            inner[:] = sorted(filter(_shown, inner))
            links += [Path(folder, name) for name in inner if Path(folder, name).is_symlink()]
            found += [str(Path(folder, name)) for name in names if _shown(name)]
    found.sort()  # all begin with the root
    return Below(found, closed)


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
