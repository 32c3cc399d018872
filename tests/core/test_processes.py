"""What a process asks of the system, where the system cannot give it."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from sertk.core.processes import keep_memory


def no_library(name: str | None) -> SimpleNamespace:
    """As on Windows."""
    raise TypeError(f"no library {name}")


@pytest.mark.parametrize(
    ("platform", "library"),
    [("linux", lambda _: SimpleNamespace()), ("win32", no_library)],
    ids=["another C library", "another system"],
)
def test_where_memory_cannot_be_kept_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, platform: str, library: object
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        patch.setattr(ctypes, "CDLL", library)
        keep_memory()
