"""Utterances in little memory."""

import tracemalloc
from pathlib import Path

from sertk.core import Utterance
from sertk.scoring.inputs import find_inputs, shard_of
from sertk.scoring.packed import BLOCK, Packed


def named(number: int) -> Utterance:
    return Utterance(f"u{number}", f"part/{number}.wav", "s", None, duration=number / 8, aux={"take": [number]})


def test_utterances_are_what_they_were_by_number_in_order_in_slices_and_shares() -> None:
    size = 2 * BLOCK + 3
    made = Packed(map(named, range(size)))
    assert len(made) == size
    assert list(made) == [named(number) for number in range(size)]
    assert (made[BLOCK], made[-1], made[0]) == (named(BLOCK), named(size - 1), named(0))
    assert made[BLOCK - 1 : BLOCK + 1] == (named(BLOCK - 1), named(BLOCK))
    share = shard_of(made, "2/2")
    assert (share[0], share[-1], len(share)) == (named(size // 2), named(size - 1), size - size // 2)
    strange = Utterance("\udcff", "\udcff.wav", "unknown", "joy", text="no\0thing", votes={"joy": 0.5})
    assert list(Packed([strange])) == [strange]


def peak(path: Path, lines: int) -> int:
    """Bytes that reading a wav.scp takes at most."""
    path.write_text("".join(f"id-{n:07d} clips/part-{n // 1000:05d}/recording-{n:07d}.wav\n" for n in range(lines)))
    tracemalloc.start()
    try:
        assert len(find_inputs([str(path)], {}, []).utterances) == lines
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_list_takes_under_200_bytes_a_line(tmp_path: Path) -> None:
    few, many = (peak(tmp_path / "wav.scp", lines) for lines in (1_000, 11_000))
    assert (many - few) / 10_000 < 200
