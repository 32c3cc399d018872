"""The files below a folder."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sertk.core.walk import READ, UNREAD, below

NAMED_OTHERWISE = {"RAW", "HTK", "MAT4", "MAT5", "MPC2K", "XI"}  # see READ
SUFFIX = {"NIST": ".sph", "IRCAM": ".sf", "SVX": ".8svx", "WAVEX": ".wav"}


@pytest.mark.parametrize("form", sorted(soundfile.available_formats().keys() - NAMED_OTHERWISE))
def test_every_form_that_libsndfile_reads_has_its_suffix(tmp_path: Path, form: str) -> None:
    suffix = SUFFIX.get(form, f".{form.lower()}")
    assert suffix in READ
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.zeros(8000), 8000, format=form, subtype="ALAW" if form == "WVE" else None)
    assert soundfile.read(path)[1] == 8000


def test_what_is_read_and_what_is_not_are_two_lists() -> None:
    assert not set(READ) & set(UNREAD)


def test_files_come_in_the_order_of_their_paths_links_once_and_hidden_ones_not(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in (root / "b/1.WAV", root / "b.wav", root / "._b.wav", root / ".Trash/x.wav", elsewhere / "2.mp3"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "a").symlink_to(root / "b")
    (root / "c").symlink_to(elsewhere)
    (root / "b/loop").symlink_to(root)
    (root / "gone.wav").symlink_to(tmp_path / "nowhere")
    found = below(root)
    assert [path.relative_to(root).as_posix() for path in found.files] == ["b.wav", "b/1.WAV", "c/2.mp3", "gone.wav"]
    assert [path.name for path in found.having((".wav",))] == ["b.wav", "1.WAV", "gone.wav"]
    assert found.closed == {}


def test_a_folder_is_walked_where_it_lies_and_not_through_an_earlier_link(tmp_path: Path) -> None:
    for name in ("angry", "happy"):
        (tmp_path / name).mkdir()
    (tmp_path / "happy" / "a.wav").touch()
    (tmp_path / "angry" / "zz").symlink_to(tmp_path / "happy")
    assert [path.relative_to(tmp_path).as_posix() for path in below(tmp_path).files] == ["happy/a.wav"]
