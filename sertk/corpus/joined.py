"""What is there of an MP3 or an Ogg file, by its own frames and pages: libsndfile may stop before, in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TAG = re.compile(rb"(?:Xing|Info)\0\0\0[\1\3\5\7\x09\x0b\x0d\x0f](.{4})", re.DOTALL)
"""The first frame of an MP3 that says how many frames follow."""
AHEAD = 2**20
"""Bytes in which it is looked for; a picture may lie before it."""
VERSIONS = {
    3: (1152, (44100, 48000, 32000), (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    2: (576, (22050, 24000, 16000), (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    0: (576, (11025, 12000, 8000), (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
}
"""Of MPEG, by its bits in a header: samples of a frame, rates in Hz, bit rates in kbit/s.

Sources: ISO 11172-3 and, of the lower rates, ISO 13818-3.
"""


def _headers() -> Iterator[tuple[bytes, tuple[int, float]]]:
    """The first three bytes of every header of layer III: the bytes of its frame and its seconds."""
    for version, (samples, rates, kilobits) in VERSIONS.items():
        for unprotected in (0, 1):
            for number, rate in enumerate(rates):
                for row, kilobit in enumerate(kilobits, 1):
                    for low in range(4):  # one byte more, and a bit of nobody
                        size = samples * kilobit * 125 // rate + (low >> 1)
                        header = (255, 0b11100010 | version << 3 | unprotected, row << 4 | number << 2 | low)
                        yield bytes(header), (size, samples / rate)


FRAMES = dict(_headers())


def stated_frames(path: Path) -> int | None:
    """How many frames an MP3 says it has; None where it says nothing, and libsndfile takes a guess by its bit rate."""
    with path.open("rb") as file:
        found = TAG.search(file.read(AHEAD))
    return None if found is None else int.from_bytes(found[1])


def mp3_frames(path: Path) -> tuple[int, float]:
    """How many frames of layer III an MP3 has, and their seconds; each frame says where the next one begins.

    Bytes of a tag may look like a frame: where none lies before, the next one must be there too.
    """
    count, seconds, within = 0, 0.0, False
    with path.open("rb", 2**16) as file:
        while len(head := file.read(3)) == 3:
            size, own = FRAMES.get(head, (0, 0.0))
            file.seek(size - 3, 1)
            if size and not within:
                after = file.read(3)
                within = after in FRAMES
                file.seek(-len(after) - (0 if within else size), 1)
            within = within and size > 0
            if within:
                count, seconds = count + 1, seconds + own
            elif head == b"ID3":  # at once, for it may hold pictures
                file.seek(_id3(file.read(10)), 1)
            else:
                file.seek(1, 1)
    return count, seconds


def _id3(header: bytes) -> int:
    """Bytes behind the header of a tag; they are written in four bytes of seven bits."""
    size = 0
    for byte in header[6:]:
        size = size << 7 | byte
    return size


def ogg_streams(path: Path) -> int:
    """How many recordings lie one behind the other in an Ogg file."""
    streams, began = 0, False
    with path.open("rb", 2**16) as file:
        while len(head := file.read(27)) == 27:
            if head.startswith(b"OggS"):
                begins = bool(head[5] & 2)
                streams, began = streams + (begins and not began), begins
                file.seek(sum(file.read(head[26])), 1)
            else:
                file.seek(-26, 1)
    return streams
